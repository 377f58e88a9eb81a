"""Checks between the rows of one file and between files, on columns held as codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.locales import LOCALES
from pipelines.dataset.checks.columns import (
    Codes,
    Column,
    Positions,
    disagreeing,
    first_rows,
    regroup,
    tuples,
)
from pipelines.dataset.checks.folding import fold_all, normalise_all
from pipelines.dataset.checks.report import Findings, show
from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    JUDGEMENT_COLUMNS,
    LINKS_FILE,
    PRODUCTS_FILE,
    SOURCES_FILE,
    SPLITS,
)

Columns = Mapping[str, Column]

# The columns of each file that are compared between rows.
COMPARED: Final[Mapping[str, tuple[str, ...]]] = {
    EXAMPLES_FILE: JUDGEMENT_COLUMNS,
    PRODUCTS_FILE: ("product_id", "product_locale"),
    BEHAVIOURS_FILE: ("product_id", "product_locale"),
    LINKS_FILE: ("product_id_a", "product_id_b", "product_locale"),
}


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Which products there are, by id and locale."""

    ids: pa.Array  # distinct
    present: NDArray[np.bool_]  # (ids, locales)

    @classmethod
    def of(cls, products: Columns) -> "Catalogue":
        """The products of a products file."""
        ids, locales = products["product_id"], products["product_locale"]
        present = np.zeros((len(ids.values), len(LOCALES)), np.bool_)
        usable = (ids.codes >= 0) & (locales.codes >= 0)
        present[ids.codes[usable], locales.codes[usable]] = True
        return cls(ids.values, present)

    def lacks(self, ids: Column, locales: Codes) -> Positions:
        """Rows that name a product which is not here; a row without id or locale names none."""
        places = pc.index_in(ids.values, value_set=self.ids)
        place_of = np.append(np.asarray(places.fill_null(-1), np.int64), -1)[ids.codes]
        known = np.append(self.present, np.zeros((1, len(LOCALES)), np.bool_), axis=0)
        return np.flatnonzero((ids.codes >= 0) & (locales >= 0) & ~known[place_of, locales])


def check_products(findings: Findings, products: Columns) -> None:
    """Check products against each other."""
    if not {"product_id", "product_locale"} <= products.keys():
        return
    ids, locales = products["product_id"], products["product_locale"]
    keys = tuples(ids.codes, locales.codes)
    first = first_rows(keys)
    repeated = np.flatnonzero(first != np.arange(len(first)))
    findings.add_rows(
        "repeated_product",
        PRODUCTS_FILE,
        None,
        repeated,
        lambda i: (
            f"{show(ids.value(repeated[i]))} {locales.value(repeated[i])}; "
            f"first in row {first[repeated[i]]}"
        ),
    )
    rows, firsts = disagreeing(ids.codes, locales.codes)
    findings.add_rows(
        "product_id_in_several_locales",
        PRODUCTS_FILE,
        "product_id",
        rows,
        lambda i: (
            f"{show(ids.value(rows[i]))} {locales.value(rows[i])}; "
            f"row {firsts[rows[i]]} has {locales.value(firsts[rows[i]])}"
        ),
    )


def check_examples(findings: Findings, examples: Columns, catalogue: Catalogue | None) -> None:
    """Check pairs against each other and against the catalogue, where it is known."""
    if "example_id" in examples:
        _check_example_ids(findings, examples["example_id"])
    if catalogue and {"product_id", "product_locale"} <= examples.keys():
        ids, locales = examples["product_id"], examples["product_locale"]
        absent = catalogue.lacks(ids, locales.codes)
        findings.add_rows(
            "absent_product",
            EXAMPLES_FILE,
            "product_id",
            absent,
            lambda i: f"{show(ids.value(absent[i]))} {locales.value(absent[i])}",
        )
    if "query" in examples:
        # Members cannot tell texts apart that normalise alike; splits go by folded text.
        normal = regroup(examples["query"], normalise_all(examples["query"].values))
        _check_pairs(findings, examples, normal.codes)
        folded = regroup(normal, fold_all(normal.values))
        _check_splits(findings, examples, folded.codes)
        _check_query_ids(findings, examples, folded.codes)


def check_both_splits(findings: Findings, splits: Column) -> None:
    """Check that there is something to learn from and something to judge by."""
    rows = np.bincount(splits.codes[splits.codes >= 0], minlength=len(SPLITS))
    if not rows.any():  # no row has a split we know, which its values say already
        return
    for code in np.flatnonzero(rows == 0).tolist():
        findings.add_file("empty_split", EXAMPLES_FILE, "split", split=SPLITS[code])


def _check_example_ids(findings: Findings, ids: Column) -> None:
    if len(ids.values) == int((ids.codes >= 0).sum()):  # as many distinct ones as rows
        return
    first = first_rows(ids.codes)
    repeated = np.flatnonzero(first != np.arange(len(first)))
    findings.add_rows(
        "repeated_example_id",
        EXAMPLES_FILE,
        "example_id",
        repeated,
        lambda i: f"{ids.value(repeated[i])}; first in row {first[repeated[i]]}",
    )


def _check_pairs(findings: Findings, examples: Columns, texts: Codes) -> None:
    if not {"product_id", "product_locale", "esci_label"} <= examples.keys():
        return
    labels = examples["esci_label"]
    keys = tuples(texts, examples["product_id"].codes, examples["product_locale"].codes)
    conflicting, first = disagreeing(keys, labels.codes)
    later = first != np.arange(len(first))
    later[conflicting] = False

    def pair(row: int) -> str:
        query, product = examples["query"].value(row), examples["product_id"].value(row)
        locale = examples["product_locale"].value(row)
        return f"{show(query)} {show(product)} {locale} {labels.value(row)}"

    for code, rows in (
        ("repeated_pair", np.flatnonzero(later)),
        ("conflicting_pair", conflicting),
    ):

        def value_of(i: int, rows: Positions = rows) -> str:
            row, before = rows[i], first[rows[i]]
            return f"{pair(row)}; row {before} has {labels.value(before)}"

        findings.add_rows(code, EXAMPLES_FILE, None, rows, value_of)


def _check_splits(findings: Findings, examples: Columns, texts: Codes) -> None:
    if "split" not in examples:
        return
    splits = examples["split"].codes
    by_text, test_of_text = _leaks(texts, splits)
    by_id, test_of_id = by_text[:0], test_of_text
    if "query_id" in examples:
        by_id, test_of_id = _leaks(examples["query_id"].codes, splits)
        by_id = _spread(by_id, examples["query_id"].codes)
    # What the id explains already is not told again.
    by_text = _spread(np.setdiff1d(by_text, by_id, assume_unique=True), texts)
    for code, column, rows, test in (
        ("query_id_in_two_splits", "query_id", by_id, test_of_id),
        ("query_text_in_two_splits", "query", by_text, test_of_text),
    ):

        def value_of(i: int, rows: Positions = rows, test: Positions = test) -> str:
            row, tested = rows[i], test[rows[i]]
            return f"{_query(examples, row)}; test row {tested} is {_query(examples, tested)}"

        findings.add_rows(code, EXAMPLES_FILE, column, rows, value_of)


def _leaks(groups: Codes, splits: Codes) -> tuple[Positions, Positions]:
    """Training rows whose group has test rows, and per row one test row of its group."""
    train, test = (splits == SPLITS.index(name) for name in SPLITS)
    tested = np.full(int(groups.max(initial=-1)) + 2, -1, np.int64)
    rows = np.flatnonzero(test & (groups >= 0))
    tested[groups[rows[::-1]]] = rows[::-1]
    test_row = tested[groups]  # a row without a group reads the last place, which stays -1
    return np.flatnonzero(train & (test_row >= 0)), test_row


def _spread(rows: Positions, groups: Codes) -> Positions:
    """`rows` with the first of each group before the others, so that few rows show many groups."""
    _, leading = np.unique(groups[rows], return_index=True)
    leads = np.zeros(len(rows), np.bool_)
    leads[leading] = True
    return np.concatenate([rows[leads], rows[~leads]])


def _query(examples: Columns, row: Any) -> str:
    parts = [show(examples["query"].value(row))]
    if "query_id" in examples:
        parts.append(f"query_id {examples['query_id'].value(row)}")
    if "product_locale" in examples:
        parts.append(str(examples["product_locale"].value(row)))
    return " ".join(parts)


def _check_query_ids(findings: Findings, examples: Columns, texts: Codes) -> None:
    if "query_id" not in examples:
        return
    ids = examples["query_id"].codes
    troubles = [
        ("query_id_with_several_texts", "query_id", ids, texts),
        ("query_text_with_several_ids", "query", texts, ids),
    ]
    if "product_locale" in examples:
        locales = examples["product_locale"].codes
        troubles.append(("query_id_in_several_locales", "query_id", ids, locales))
    for code, column, groups, values in troubles:
        rows, firsts = disagreeing(groups, values)
        rows = _spread(rows, groups)

        def value_of(i: int, rows: Positions = rows, firsts: Positions = firsts) -> str:
            row, before = rows[i], firsts[rows[i]]
            return f"{_query(examples, row)}; row {before} is {_query(examples, before)}"

        findings.add_rows(code, EXAMPLES_FILE, column, rows, value_of)


def check_relations(
    findings: Findings, name: str, columns: Columns, catalogue: Catalogue | None
) -> None:
    """Check that behaviours or links name products of the catalogue, and never one twice."""
    if "product_locale" not in columns:
        return
    locales = columns["product_locale"]
    for column in ("product_id", "product_id_a", "product_id_b"):
        if catalogue and (ids := columns.get(column)):
            absent = catalogue.lacks(ids, locales.codes)

            def value_of(i: int, ids: Column = ids, absent: Positions = absent) -> str:
                return f"{show(ids.value(absent[i]))} {locales.value(absent[i])}"

            findings.add_rows("unknown_product", name, column, absent, value_of)
    if name == LINKS_FILE and {"product_id_a", "product_id_b"} <= columns.keys():
        _check_self_links(findings, columns["product_id_a"], columns["product_id_b"])


def _check_self_links(findings: Findings, ids_a: Column, ids_b: Column) -> None:
    place_in_a = pc.index_in(ids_b.values, value_set=ids_a.values).fill_null(-1)
    codes_in_a = np.append(np.asarray(place_in_a, np.int32), np.int32(-1))[ids_b.codes]
    same = np.flatnonzero((codes_in_a == ids_a.codes) & (ids_a.codes >= 0))
    findings.add_rows("self_link", LINKS_FILE, None, same, lambda i: show(ids_a.value(same[i])))


def check_repeated_sources(findings: Findings, rows: Positions, ids: pa.Array) -> None:
    """Check that no query id of the sources is listed twice."""
    first = first_rows(Column.of(ids).codes)
    repeated = np.flatnonzero(first != np.arange(len(first)))
    findings.add_rows(
        "repeated_source",
        SOURCES_FILE,
        "query_id",
        rows[repeated],
        lambda i: f"{ids[int(repeated[i])].as_py()}; first in row {rows[first[repeated[i]]]}",
    )


def check_source_ids(findings: Findings, rows: Positions, ids: pa.Array, examples: Columns) -> None:
    """Check that every query id of the sources belongs to a pair."""
    if "query_id" in examples and len(rows):
        known = np.asarray(pc.is_in(ids, value_set=examples["query_id"].values))
        unknown = np.flatnonzero(~known)
        findings.add_rows(
            "unknown_query_id",
            SOURCES_FILE,
            "query_id",
            rows[unknown],
            lambda i: show(ids[int(unknown[i])].as_py()),
        )

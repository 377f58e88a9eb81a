"""The judged pairs of a dataset as the judge wants them; reads no product text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from models.errors import ConfigError, DataError
from models.judge.consistency import Classes
from models.judge.judge import Slice, slices_of
from models.judge.judged import GroupCodes, Judged
from models.labels import LABELS, Codes
from models.locales import LOCALES
from models.text import fold
from pipelines.dataset.columns import ASK_VALIDATE, column_names, distinct, encode, read_columns
from pipelines.dataset.layout import EXAMPLES_FILE, JUDGEMENT_COLUMNS, SOURCES, SOURCES_FILE, SPLITS
from pipelines.judging.warmth import warmth

ALL: Final = "all"
TRAIN, TEST = SPLITS

# A column with more values than this is judged on its most frequent ones.
MOST_SLICES: Final = 20

# Said of a null: it is a value like any other when slicing.
_NOTHING: Final = "(none)"


@dataclass(frozen=True, eq=False)
class JudgedSplit:
    """One split of a dataset, ready for the judge."""

    judged: Judged
    example_ids: NDArray[np.int64]  # (pairs,)
    known_ids: NDArray[np.int64]  # of every split
    split_pairs: int  # of the whole split, of which only a part may be judged
    training_labels: Codes | None  # None where the dataset has no training split
    slices: Sequence[Slice]
    opis_by: Sequence[Classes]
    notes: Sequence[str]  # what the reader of the verdict should know of how it was cut


def read_judged(
    folder: Path,
    split: str,
    by: Sequence[str] = (),
    opis_by: Sequence[str] = (),
    only: NDArray[np.int64] | None = None,
) -> JudgedSplit:
    """The judged pairs of `split` ("train", "test" or "all").

    The query of a pair is its folded text, whatever the locale; its list is that text in the
    product's locale. Slices are the locales, products seen and unseen in the training split (when
    judging another one), products with behaviours or links and cold ones (where the dataset has
    any), and the values of each column of `by`. Classes for OPIS are "query"
    (the list), "locale", or any column. `only` keeps the pairs of these example ids.

    The training labels are of the rows of the training split that may have taught: when the test
    split or a part of a split is judged, none whose query is judged.
    """
    columns = [name for name in dict.fromkeys([*by, *opis_by]) if name not in ("query", "locale")]
    if split not in (*SPLITS, ALL):
        raise ConfigError(f"no split {split!r}; expected one of {', '.join((*SPLITS, ALL))}")
    path = folder / EXAMPLES_FILE
    table, extra = _read(path, columns)

    in_split = np.ones(len(table), bool) if split == ALL else _equals(table["split"], split)
    if not in_split.any():
        raise DataError(f"{path} has no pair in split {split!r}; judge another with --split")
    known_ids = np.asarray(table["example_id"])
    keep = in_split if only is None else in_split & np.isin(known_ids, only)
    if not keep.any():
        raise DataError(
            f"none of the {in_split.sum():,} pairs of split {split!r} in {path} is predicted; "
            "name the split that was predicted with --split"
        )
    ids = known_ids[keep]
    if len(np.unique(ids)) < len(ids):
        raise DataError(
            f"{path} repeats an example_id within split {split!r}; predictions cannot be matched: "
            "run `esci data validate` to find the rows"
        )

    locales = encode(table["product_locale"], LOCALES, "locale", path)
    labels = encode(table["esci_label"], LABELS, "label", path)
    texts, queries = _folded(table["query"])
    judged = Judged.of(labels[keep], queries[keep], (queries * len(LOCALES) + locales)[keep])
    is_train = _equals(table["split"], TRAIN)
    if split == TEST or only is not None:
        # What is tested must not have taught: the official data hold such rows (query 79706).
        away = in_split if split == TEST else keep
        tested = np.asarray(pc.is_in(table["query_id"], value_set=table["query_id"].filter(away)))
        is_train &= ~(tested | np.isin(queries, queries[away]))
    slices = slices_of("locale", locales[keep], LOCALES)
    notes: list[str] = []
    if only is not None:
        notes.append(
            f"judged are the {len(ids):,} predicted of the {in_split.sum():,} pairs of split "
            f"{split} ({len(ids) / in_split.sum():.1%}); nothing is said of the others"
        )
    if split == TEST and is_train.any():
        products = _distinct(table["product_id"])[1] * len(LOCALES) + locales
        seen = np.isin(products[keep], products[is_train])
        slices += slices_of("product", seen.astype(np.int8), ("unseen", "seen"))
    asked = {texts[code] for code in np.unique(queries[keep]).tolist()}
    is_known = warmth(folder, table["product_id"].filter(pa.array(keep)), locales[keep], asked)
    if is_known is not None:
        slices += slices_of("behaviour", is_known, ("cold", "known"))

    def group(name: str) -> Classes:
        if name == "query":
            return _lists(judged, texts, queries[keep], locales[keep])
        if name == "locale":
            return Classes(name, locales[keep].astype(np.int64), LOCALES)
        values, codes = extra(name)
        return Classes(name, codes[keep], values)

    for name in by:
        if name != "locale":
            slices += _most_frequent(group(name), notes)
    return JudgedSplit(
        judged=judged,
        example_ids=ids,
        known_ids=known_ids,
        split_pairs=int(in_split.sum()),
        training_labels=labels[is_train] if is_train.any() else None,
        slices=slices,
        opis_by=[group(name) for name in opis_by],
        notes=notes,
    )


Extra = Callable[[str], tuple[list[str], GroupCodes]]


def _read(path: Path, columns: Sequence[str]) -> tuple[pa.Table, Extra]:
    """The columns the judge needs, and a way to the values and codes of the others."""
    sources = path.with_name(SOURCES_FILE)
    names = column_names(path)
    offered = [*names, *(["source"] if sources.is_file() else [])]
    if unknown := [name for name in columns if name not in offered]:
        raise ConfigError(
            f"no column {unknown[0]!r} to group by; the dataset offers: "
            f"{', '.join(dict.fromkeys(('query', 'locale', *offered)))}"
        )
    others = [name for name in columns if name in names]
    table = read_columns(path, list(dict.fromkeys([*JUDGEMENT_COLUMNS, *others])))

    def extra(name: str) -> tuple[list[str], GroupCodes]:
        if name in names:
            return _dictionary(_groupable(table[name], name))
        rows = _read_sources(sources)
        at = pc.index_in(table["query_id"], value_set=rows["query_id"])
        return _dictionary(rows["source"].take(at))

    return table, extra


def _read_sources(path: Path) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(
        column_types=SOURCES, include_columns=SOURCES.names, strings_can_be_null=True
    )
    try:
        return pyarrow.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read: {reason}; expected CSV in UTF-8 with the columns "
            f"{', '.join(SOURCES.names)}: {ASK_VALIDATE}, or leave out source"
        ) from error


def _groupable(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The column as texts, to name groups by."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowException as error:
        raise ConfigError(
            f"column {name!r} holds {column.type}, which cannot name groups; expected text, "
            "numbers, dates or true and false: group by another column"
        ) from error


def _distinct(column: pa.ChunkedArray) -> tuple[pa.Array, GroupCodes]:
    """The distinct values of a column as texts, and the code of each row."""
    return distinct(pc.fill_null(column.cast(pa.large_string()), _NOTHING))


def _dictionary(column: pa.ChunkedArray) -> tuple[list[str], GroupCodes]:
    """The distinct values of a column as texts, sorted, and the code of each row."""
    found, codes = _distinct(column)
    values: list[str] = found.to_pylist()
    order = np.array(sorted(range(len(values)), key=values.__getitem__), np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [values[at] for at in order], place[codes]


def _folded(column: pa.ChunkedArray) -> tuple[list[str], GroupCodes]:
    """Distinct folded texts, sorted, and the code of each row."""
    values, codes = _dictionary(column)
    folded = [fold(value) for value in values]
    texts = sorted(set(folded))
    code_of = {text: code for code, text in enumerate(texts)}
    return texts, np.array([code_of[text] for text in folded], np.int64)[codes]


def _lists(
    judged: Judged, texts: Sequence[str], queries: GroupCodes, locales: NDArray[np.int8]
) -> Classes:
    """Every list as a class named by its text and locale."""
    first = np.unique(judged.lists, return_index=True)[1]
    names = [f"{texts[queries[row]]} ({LOCALES[locales[row]]})" for row in first]
    return Classes("query", judged.lists, names)


def _most_frequent(classes: Classes, notes: list[str]) -> list[Slice]:
    counts = np.bincount(classes.codes, minlength=len(classes.values))
    order = np.argsort(-counts, kind="stable")
    if (present := int((counts > 0).sum())) > MOST_SLICES:
        notes.append(
            f"{classes.name} has {present:,} values; the {MOST_SLICES} most frequent are judged, "
            f"which hold {counts[order[:MOST_SLICES]].sum():,} of {counts.sum():,} pairs"
        )
    return [
        Slice(classes.name, classes.values[code], np.flatnonzero(classes.codes == code))
        for code in order[:MOST_SLICES]
        if counts[code]
    ]


def _equals(column: pa.ChunkedArray, value: Any) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(column, value))

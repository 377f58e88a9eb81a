"""Checks of single values: whatever can be told from one row without looking at another.

Which check a column gets is a matter of its name alone, so every file of the layout goes through
the same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.labels import LABELS
from models.locales import LOCALES
from pipelines.dataset.checks.columns import Column, Positions
from pipelines.dataset.checks.files import clean_text, whole_numbers
from pipelines.dataset.checks.folding import blank
from pipelines.dataset.checks.report import Findings, show
from pipelines.dataset.layout import PRODUCT_COLUMNS, SCHEMAS, SPLITS

# Few distinct values or compared between rows: held as codes. Other texts only pass by.
KEYS: Final = frozenset(
    {"query", "product_id", "product_id_a", "product_id_b", "relation", "query_id", "example_id"}
)
WORDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "esci_label": ("unknown_label", LABELS),
        "product_locale": ("unknown_locale", LOCALES),
        "split": ("unknown_split", SPLITS),
    }
)
FLAGS: Final = frozenset({"small_version", "large_version"})
# A product may lack any text, which is looked at as a whole, and a behaviour its date.
NULL_ALLOWED: Final = frozenset({*PRODUCT_COLUMNS.values(), "date", "source"})

# Characters beyond which a text is more likely a lost delimiter or a dumped page. The longest
# official description has some tens of thousands.
LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "query": 1_000,
        "product_id": 100,
        "product_id_a": 100,
        "product_id_b": 100,
        "relation": 100,
        "product_title": 2_000,
        "product_description": 100_000,
        "product_bullet_point": 100_000,
        "product_brand": 1_000,
        "product_color": 1_000,
    }
)


@dataclass(frozen=True)
class Batch:
    """Successive rows of one file on their way through the checks."""

    file: str
    start: int  # the number of the first row in the file
    findings: Findings
    limits: Mapping[str, int]

    def report(
        self, code: str, column: str, rows: Positions, values: pa.Array, **details: Any
    ) -> None:
        """Report `rows` of the batch, each with its value of `values`."""
        self.findings.add_rows(
            code,
            self.file,
            column,
            rows + self.start,
            lambda position: show(values[int(rows[position])].as_py()),
            **details,
        )


@dataclass(frozen=True)
class Checked:
    """The columns of a batch after their values were looked at."""

    # Of KEYS, WORDS and FLAGS, with no code where the value is in trouble already.
    # Codes of WORDS are positions among the words.
    columns: dict[str, Column]
    # The others, as clean Arrow arrays.
    arrays: dict[str, pa.Array]


def check_values(batch: Batch, rows: pa.RecordBatch) -> Checked:
    """Check every column of `rows`; hand back what checks across columns and rows need."""
    checked = Checked({}, {})
    for name, array in zip(rows.schema.names, rows.columns, strict=True):
        if name not in NULL_ALLOWED and array.null_count:
            batch.report("null_value", name, np.flatnonzero(np.asarray(array.is_null())), array)
        kind = SCHEMAS[batch.file].field(name).type
        if pa.types.is_int64(kind):
            checked.columns[name] = _check_integers(batch, name, array)
        elif not pa.types.is_string(kind):
            checked.arrays[name] = array
        else:
            texts, broken, raw = clean_text(array)
            batch.report("not_utf8", name, broken, raw)
            if name in WORDS:
                checked.columns[name] = _check_words(batch, name, texts)
            elif name in KEYS:
                checked.columns[name] = _check_key(batch, name, texts)
            else:
                _check_length(batch, name, texts, None)
                checked.arrays[name] = texts
    return checked


def _check_length(batch: Batch, name: str, texts: pa.Array, column: Column | None) -> None:
    limit = batch.limits[name]
    distinct = texts if column is None else column.values
    # Characters are never more than bytes, which are known without a look at the text.
    if (pc.max(pc.binary_length(distinct)).as_py() or 0) > limit:
        long = np.asarray(pc.fill_null(pc.greater(pc.utf8_length(distinct), limit), False))
        rows = np.flatnonzero(long) if column is None else column.rows_where(long)
        batch.report("overlong_text", name, rows, texts, limit=limit)


def _check_key(batch: Batch, name: str, texts: pa.Array) -> Column:
    column = Column.of(texts)
    _check_length(batch, name, texts, column)
    empty = blank(column.values)
    batch.report("blank_value", name, column.rows_where(empty), texts)
    control = np.asarray(pc.match_substring_regex(column.values, r"[\x00-\x1f\x7f]"))
    batch.report("control_character", name, column.rows_where(control & ~empty), texts)
    return column.without(empty)


def _check_words(batch: Batch, name: str, texts: pa.Array) -> Column:
    column = Column.of(texts)
    code, words = WORDS[name]
    known = pa.array(words, pa.large_string())
    places = pc.index_in(column.values, value_set=known)
    unknown = column.rows_where(np.asarray(places.is_null()))
    batch.report(code, name, unknown, texts, words=", ".join(words))
    lookup = np.append(np.asarray(places.fill_null(-1), np.int32), np.int32(-1))
    return Column(lookup[column.codes], known)


def _check_integers(batch: Batch, name: str, array: pa.Array) -> Column:
    numbers, broken = whole_numbers(array)
    batch.report("not_an_integer", name, broken, array)
    column = Column.of(numbers)
    if name in FLAGS:
        flags = np.asarray(pc.is_in(column.values, value_set=pa.array([0, 1])))
        batch.report("unknown_flag", name, column.rows_where(~flags), numbers)
    return column


def check_product_texts(batch: Batch, checked: Checked) -> None:
    """Check that each product of the batch has a title, or any text at all."""
    if (titles := checked.arrays.get(PRODUCT_COLUMNS["title"])) is None:
        return
    untitled = np.flatnonzero(blank(titles))
    if not len(untitled):
        return
    silent = np.ones(len(untitled), np.bool_)
    for name in PRODUCT_COLUMNS.values():
        if name in checked.arrays:
            silent &= blank(checked.arrays[name].take(pa.array(untitled)))
    ids = checked.columns.get("product_id")
    for code, rows in (
        ("product_without_title", untitled[~silent]),
        ("product_without_text", untitled[silent]),
    ):

        def value_of(position: int, rows: Positions = rows) -> str:
            row = int(rows[position])
            product = f"product {show(ids.value(row))}: " if ids else ""
            return f"{product}title {show(titles[row].as_py())}"

        batch.findings.add_rows(
            code, batch.file, PRODUCT_COLUMNS["title"], rows + batch.start, value_of
        )


def check_weights(batch: Batch, weights: pa.Array) -> None:
    """Check that weights are finite and not negative."""
    good = pc.and_(pc.is_finite(weights), pc.greater_equal(weights, 0))
    bad = ~np.asarray(pc.fill_null(good, True))
    batch.report("bad_weight", "weight", np.flatnonzero(bad), weights)


def check_dates(batch: Batch, dates: pa.Array, today: date) -> None:
    """Check that there is a date and that it has come."""
    days = dates.cast(pa.date32(), safe=False)
    missing = np.asarray(days.is_null())
    batch.report("missing_date", "date", np.flatnonzero(missing), days)
    future = np.asarray(pc.fill_null(pc.greater(days, pa.scalar(today, pa.date32())), False))
    batch.report("future_date", "date", np.flatnonzero(future), days, today=today.isoformat())

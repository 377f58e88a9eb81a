"""Text columns of a foreign file as the layout's columns: parsed, translated, made up if absent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import ConfigError, DataError
from models.folds import query_positions
from models.locales import LOCALES
from pipelines.dataset.checks.columns import Column, regroup, tuples
from pipelines.dataset.checks.folding import fold_all
from pipelines.dataset.checks.report import show
from pipelines.dataset.importing.mapping import ROLES, ImportMapping
from pipelines.dataset.importing.readers import Block
from pipelines.dataset.importing.words import translators
from pipelines.dataset.layout import PRODUCT_COLUMNS, SCHEMAS, SPLITS

_INTEGER: Final = r"^[+-]?\d{1,18}$"
_FLOAT_ID: Final = r"^\d+\.0+$"
_IDS: Final = frozenset({"product_id", "product_id_a", "product_id_b"})
_DAY: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"


@dataclass(frozen=True)
class Defaults:
    """What rows get where the file has no column for it."""

    locale: str = "us"
    test_share: float = 0.2  # of the query texts
    seed: int = 7

    def __post_init__(self) -> None:
        if self.locale not in LOCALES:
            raise ConfigError(f"locale {self.locale!r}; expected one of {', '.join(LOCALES)}")
        if not 0 <= self.test_share <= 1:
            raise ConfigError(f"a test share of {self.test_share}; expected 0 to 1")


class Converter:
    """Turns the blocks of one file into tables of the layout."""

    def __init__(
        self,
        role: str,
        columns: Mapping[str, str],
        mapping: ImportMapping,
        defaults: Defaults,
    ) -> None:
        self._columns = columns  # the layout's: the file's
        self._schema = SCHEMAS[ROLES[role]]
        self._words = translators(mapping)
        self._defaults = defaults
        self._rows = 0
        self._query_ids: dict[tuple[str, str], int] = {}
        self.wanted = list(dict.fromkeys(columns.values()))

    def made_up(self) -> dict[str, str]:
        """Each column the file lacks, and what its rows got instead."""
        defaults = self._defaults
        ways = {
            "example_id": "numbered by row",
            "query_id": "numbered by query text and locale",
            "product_locale": f"{defaults.locale} everywhere",
            "small_version": "0 everywhere",
            "large_version": "1 everywhere",
            "split": f"{defaults.test_share:.0%} of the query texts in test, seed {defaults.seed}",
            "weight": "1 everywhere",
        }
        absent = [name for name in self._schema.names if name not in self._columns]
        return {name: ways.get(name, "null everywhere") for name in absent}

    def convert(self, block: Block) -> pa.Table:
        """The rows of `block` as the layout has them."""
        done: dict[str, Any] = {}
        for field in self._schema:
            if source := self._columns.get(field.name):
                done[field.name] = self._parse(field, source, block)
        if "product_locale" not in done:
            done["product_locale"] = pa.repeat(self._defaults.locale, block.rows)
        for name in self._schema.names:
            if name not in done:
                done[name] = self._make_up(name, done, block)
        self._rows += block.rows
        return pa.table({name: done[name] for name in self._schema.names}, schema=self._schema)

    def finish(self) -> None:
        """Raise if a word anywhere in the file had no meaning."""
        for words in self._words.values():
            words.refuse_unknown()

    def _parse(self, field: pa.Field, source: str, block: Block) -> pa.Array:
        texts = block.columns[source]
        if field.name in self._words:
            return self._words[field.name].translate(texts, block)
        if pa.types.is_int64(field.type):
            return self._integers(field.name, source, texts, block)
        if pa.types.is_floating(field.type):
            return self._numbers(source, texts, block)
        if pa.types.is_date(field.type):
            return self._dates(source, texts, block)
        if field.name in _IDS:
            self._refuse_floats(field.name, source, texts, block)
        if field.name in PRODUCT_COLUMNS.values():
            # CSV cannot tell an absent text from an empty one; the layout has null for both.
            empty = pc.equal(pc.utf8_trim_whitespace(texts), "")
            texts = pc.if_else(empty, None, texts)
        return texts.cast(pa.string())

    def _refuse(
        self, bad: Any, source: str, texts: pa.Array, block: Block, expected: str
    ) -> DataError:
        row = int(np.flatnonzero(np.asarray(bad))[0])
        return DataError(
            f"{block.where(row)}, column {source!r}: found {show(texts[row].as_py())}; {expected}"
        )

    def _integers(self, name: str, source: str, texts: pa.Array, block: Block) -> pa.Array:
        trimmed = pc.utf8_trim_whitespace(texts)
        fits = pc.fill_null(pc.match_substring_regex(trimmed, _INTEGER), False)
        if not pc.all(fits).as_py():
            expected = (
                f"expected a whole number; correct it, or let the column be made up: --map {name}="
            )
            raise self._refuse(pc.invert(fits), source, texts, block, expected)
        return pc.utf8_ltrim(trimmed, "+").cast(pa.int64())

    def _refuse_floats(self, name: str, source: str, texts: pa.Array, block: Block) -> None:
        """Refuse ids that a floating-point column has passed through: 7 has become 7.0."""
        floats = np.zeros(block.rows, bool)
        floats[block.floats.get(source, [])] = True
        if not block.floats and block.rows:  # one such text may be meant, a column of them is not
            shaped = pc.fill_null(pc.match_substring_regex(texts, _FLOAT_ID), False)
            floats[:] = pc.all(shaped).as_py()
        if floats.any():
            expected = (
                f"expected {name} as a text or a whole number: read the column as text where the "
                "file is written, or an id will not be that of other files"
            )
            raise self._refuse(floats, source, texts, block, expected)

    def _numbers(self, source: str, texts: pa.Array, block: Block) -> pa.Array:
        values, bad = [], []
        for text in texts.to_pylist():
            try:
                values.append(float(text))
                bad.append(not math.isfinite(values[-1]))
            except (TypeError, ValueError):
                bad.append(True)
        if any(bad):
            expected = "expected a finite number with a decimal point; correct it"
            raise self._refuse(bad, source, texts, block, expected)
        return pa.array(values, pa.float32())

    def _dates(self, source: str, texts: pa.Array, block: Block) -> pa.Array:
        trimmed = pc.utf8_trim_whitespace(texts)
        given = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
        shaped = pc.fill_null(pc.match_substring_regex(given, _DAY), True)
        days = pc.utf8_slice_codeunits(given, 0, 10)
        bad = ~np.asarray(shaped)
        for row, day in enumerate(days.to_pylist()):
            bad[row] |= day is not None and not _is_day(day)
        if bad.any():
            expected = "expected a day as 2024-12-31 (a time behind it is left out); correct it"
            raise self._refuse(bad, source, texts, block, expected)
        return days.cast(pa.date32())

    def _make_up(self, name: str, done: Mapping[str, Any], block: Block) -> Any:
        if name == "example_id":
            return pa.array(np.arange(self._rows, self._rows + block.rows))
        if name == "query_id":
            return self._number_queries(done["query"], done["product_locale"])
        if name == "split":
            return self._assign_split(done["query"])
        constants = {"small_version": 0, "large_version": 1, "weight": 1.0}
        return pa.repeat(pa.scalar(constants.get(name), self._schema.field(name).type), block.rows)

    def _number_queries(self, queries: pa.Array, locales: pa.Array) -> pa.Array:
        texts, places = _folded(queries), Column.of(locales.fill_null(""))
        keys = tuples(texts.codes, places.codes)
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        numbers = np.empty(len(first), np.int64)
        for row in np.sort(first):  # numbers follow the order of the rows
            key = (texts.value(row), places.value(row))
            numbers[group[row]] = self._query_ids.setdefault(key, len(self._query_ids))
        return pa.array(numbers[group])

    def _assign_split(self, queries: pa.Array) -> pa.Array:
        texts = _folded(queries)
        places = query_positions(texts.values.to_pylist(), self._defaults.seed, "test")
        train, test = SPLITS
        sides = np.where(places < self._defaults.test_share, test, train)
        return pa.array(sides[texts.codes].tolist(), pa.string())


def _folded(queries: pa.Array) -> Column:
    column = Column.of(queries.fill_null(""))
    return regroup(column, fold_all(column.values))


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True

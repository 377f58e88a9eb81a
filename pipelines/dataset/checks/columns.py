"""Columns as codes into their distinct values: what comparing millions of rows works on."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Codes = NDArray[np.int32]
"""Shape (rows,): positions among the distinct values, -1 where a row has no usable one."""

Positions = NDArray[np.int64]
"""Row numbers."""

_LARGEST_KEY: Final = 2**62
# Batches of a column wait to be joined until they have so many values together.
_PENDING_VALUES: Final = 2_000_000


@dataclass(frozen=True, eq=False)
class Column:
    """One column: a code per row and the distinct values the codes stand for."""

    codes: Codes
    values: pa.Array

    @classmethod
    def of(cls, array: pa.Array) -> "Column":
        """The column that `array` holds; nulls get no code."""
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()  # its values may repeat or hold nulls
        encoded = array.dictionary_encode()
        return cls(np.asarray(encoded.indices.fill_null(-1), np.int32), encoded.dictionary)

    def rows_where(self, chosen: NDArray[np.bool_]) -> Positions:
        """Rows whose value is `chosen`, a flag per distinct value."""
        # Code -1 reads the flag appended at the end.
        return np.flatnonzero(np.append(chosen, False)[self.codes])

    def without(self, chosen: NDArray[np.bool_]) -> "Column":
        """The column with no code where the value is `chosen`."""
        unusable = np.append(chosen, True)[self.codes]
        return Column(np.where(unusable, -1, self.codes).astype(np.int32), self.values)

    def value(self, row: int) -> Any:
        """The value of a row, as a Python object; None where it has no code."""
        code = int(self.codes[row])
        return self.values[code].as_py() if code >= 0 else None


class ColumnBuilder:
    """Joins the columns of successive batches into one, holding codes and distinct values only."""

    def __init__(self) -> None:
        self._parts: list[Column] = []
        self._pending = 0

    def append(self, part: Column) -> None:
        """Add the rows of the next batch."""
        self._parts.append(part)
        self._pending += len(part.values)
        # What recurs in every batch is held once, at the price of a merge now and then.
        if self._pending > max(_PENDING_VALUES, 2 * len(self._parts[0].values)):
            self._parts, self._pending = [self.build()], 0

    def build(self) -> Column:
        """The whole column, of at least one batch; the builder is empty afterwards."""
        parts, self._parts = self._parts, []
        values = pa.concat_arrays([part.values for part in parts])
        encoded = values.dictionary_encode()
        merged = np.asarray(encoded.indices, np.int32)
        codes, start = [], 0
        for part in parts:
            lookup = np.append(merged[start : start + len(part.values)], np.int32(-1))
            codes.append(lookup[part.codes])
            start += len(part.values)
        del values, parts
        whole = Column(np.concatenate(codes), encoded.dictionary)
        # Arrow keeps freed memory for later; by now it holds every batch's values twice.
        pa.default_memory_pool().release_unused()
        return whole


def regroup(column: Column, new_values: pa.Array) -> Column:
    """The column with `new_values` in the place of its values; equal ones get one code."""
    encoded = new_values.dictionary_encode()
    lookup = np.append(np.asarray(encoded.indices, np.int32), np.int32(-1))
    return Column(lookup[column.codes], encoded.dictionary)


def tuples(*columns: Codes) -> Codes:
    """A code per distinct tuple of codes of several columns, -1 where any of them is -1."""
    key, size = np.zeros(len(columns[0]), np.int64), 1
    for codes in columns:
        width = int(codes.max(initial=0)) + 1
        if size * width > _LARGEST_KEY:
            key, size = _dense(key), len(key)
        key = np.where((key < 0) | (codes < 0), -1, key * width + codes)
        size *= width
    # Groups are looked up in an array as long as the largest code.
    return (key if size <= 4 * len(key) else _dense(key)).astype(np.int32)


def _dense(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    usable = keys >= 0
    dense = np.full(len(keys), -1, np.int64)
    if usable.any():
        dense[usable] = np.asarray(pc.dictionary_encode(pa.array(keys[usable])).indices)
    return dense


def first_rows(groups: Codes) -> Positions:
    """The first row of each row's group; its own where it has none."""
    rows = np.arange(len(groups))
    first = np.empty(int(groups.max(initial=-1)) + 2, np.int64)
    first[groups[::-1]] = rows[::-1]  # the last assignment stays, which is the first row
    return np.where(groups < 0, rows, first[groups])


def disagreeing(groups: Codes, values: Codes) -> tuple[Positions, Positions]:
    """Rows whose value is not that of the first row of their group, and all rows' first rows.

    Rows without a group or a value are left out, also as first rows.
    """
    first = first_rows(np.where(values < 0, -1, groups).astype(np.int32))
    usable = (groups >= 0) & (values >= 0)
    return np.flatnonzero(usable & (values != values[first])), first

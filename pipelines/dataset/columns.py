"""Columns of a dataset's Parquet files, with the layout's types, or an error that says why not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError, MissingDataError
from models.texts import Texts
from pipelines.dataset.layout import PRODUCT_COLUMNS, SCHEMAS

ASK_VALIDATE: Final = "`esci data validate` lists every such row and how to mend it"

# What a product may lack; of everything else a null is trouble.
_OPTIONAL: Final = frozenset(PRODUCT_COLUMNS.values())


def column_names(path: Path) -> list[str]:
    """The names of a file's columns."""
    if not path.is_file():
        raise MissingDataError(
            f"{path} is not there; expected a dataset folder in the official ESCI layout: "
            "make one with `esci data demo`, `esci data import` or `esci data fetch`"
        )
    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    return names


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """The named columns: those of the layout in its types and without nulls, others as they are.

    Text comes as `large_string`, because a column of a real catalogue outgrows 32-bit offsets, and
    is known to be UTF-8.
    """
    present = column_names(path)
    if missing := [name for name in columns if name not in present]:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(present)}")
    try:
        table = pq.read_table(path, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    schema = SCHEMAS[path.name]
    for name in set(columns) & set(schema.names):
        place = table.column_names.index(name)
        column = _as_laid_out(table.column(name), schema.field(name).type, name, path)
        table = table.set_column(place, name, column)
    return table


def read_column(path: Path, name: str) -> pa.ChunkedArray:
    """One column, as `read_columns` gives it."""
    return read_columns(path, [name]).column(name)


def distinct(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct values of a column by first appearance, and the code of each row."""
    encoded = pc.dictionary_encode(column).unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunk
        encoded = pa.DictionaryArray.from_arrays(
            pa.array([], pa.int32()), pa.array([], column.type)
        )
    return encoded.dictionary, np.asarray(encoded.indices, dtype=np.int64)


def encode(
    column: pa.ChunkedArray,
    words: Sequence[str],
    what: str,
    path: Path,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """The place of each row's word among `words`; another word is an error that names its row.

    `rows` are the row numbers in the file, where the column is a part of it.
    """
    codes = pc.index_in(column, value_set=pa.array(list(words), pa.large_string()))
    if codes.null_count:
        row = int(np.flatnonzero(np.asarray(codes.is_null()))[0])
        raise DataError(
            f"{path} row {row if rows is None else rows[row]} has {what} "
            f"{column[row].as_py()!r}; expected one of {', '.join(words)} "
            f"({codes.null_count:,} such rows); {ASK_VALIDATE}"
        )
    return np.asarray(codes, np.int8)


def as_texts(column: pa.ChunkedArray | pa.Array) -> Texts:
    """A column of `large_string` as Texts, without a copy where it is whole; a null is empty."""
    array = pc.fill_null(column, "")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk, or more text than one can hold
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return Texts(content, starts)


def as_arrow(texts: Texts) -> pa.Array:
    """Texts as an array of `large_string`, without a copy."""
    buffers = [None, pa.py_buffer(texts.offsets), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def _as_laid_out(
    column: pa.ChunkedArray, kind: pa.DataType, name: str, path: Path
) -> pa.ChunkedArray:
    try:
        column = column.cast(pa.large_string() if kind == pa.string() else kind)
        column.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{path} column {name!r}: {error}; {ASK_VALIDATE}") from error
    if column.null_count and name not in _OPTIONAL:
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise DataError(f"{path} row {row} has no {name}; {ASK_VALIDATE}")
    return column


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {error}; copy or make it again")

"""One file of a dataset folder, opened, compared with the layout and streamed batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.console import Tick
from pipelines.dataset.checks.columns import Positions
from pipelines.dataset.checks.report import Findings
from pipelines.dataset.layout import REQUIRED_FILES, SCHEMAS
from pipelines.dataset.lfs import is_pointer

# A batch of long product texts stays below some 100 MB.
_BATCH_ROWS: Final = 32_768
_READ_ERRORS: Final = (pa.ArrowException, OSError)


@dataclass
class ParquetInput:
    """An open file with those of its columns that the layout knows and that can be used."""

    name: str
    reader: pq.ParquetFile
    columns: list[str]
    rows: int = 0  # read so far
    whole: bool = False  # whether every row was read

    def batches(self, findings: Findings, tick: Tick) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The number of the first row and the rows of each batch; damage ends the file."""
        batches = self.reader.iter_batches(_BATCH_ROWS, columns=self.columns)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    break
                batch.validate()
            except _READ_ERRORS as error:
                add_unreadable(findings, self.name, error, self.rows)
                return
            yield self.rows, _typed(batch, self.name)
            self.rows += len(batch)
            tick(len(batch))
        self.whole = True


def open_parquet(folder: Path, name: str, findings: Findings) -> ParquetInput | None:
    """The file `name`, where it can be read at all; reports what its schema lacks."""
    path = folder / name
    if not path.exists():
        if name in REQUIRED_FILES:
            findings.add_file("missing_file", name)
        return None
    if is_pointer(path):
        findings.add_file("git_lfs_pointer", name)
        return None
    try:
        # Without pre-buffering, memory does not grow with the size of a row group.
        reader = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except _READ_ERRORS as error:
        add_unreadable(findings, name, error)
        return None
    if not reader.metadata.num_rows:
        findings.add_file("empty_file" if name in REQUIRED_FILES else "empty_optional_file", name)
    columns = _usable_columns(reader.schema_arrow, name, findings)
    return ParquetInput(name, reader, columns)


def count_rows(folder: Path) -> int:
    """Rows of all Parquet files of the folder that can be opened: the work of a validation."""
    rows = 0
    for path in (folder / name for name in SCHEMAS if name.endswith(".parquet")):
        try:
            rows += pq.read_metadata(path).num_rows
        except _READ_ERRORS:
            continue
    return rows


def add_unreadable(findings: Findings, name: str, error: Exception, row: int = 0) -> None:
    """Report that a file cannot be read from `row` on."""
    reason = " ".join(str(error).split()).rstrip(".")
    kind = "Parquet" if name.endswith(".parquet") else "CSV"
    findings.add_file("unreadable_file", name, row=row, reason=reason, format=kind)


def _typed(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    """The batch with the layout's type for a column that holds nothing at all, not even a type."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_null(field.type):
            nothing = pa.nulls(len(batch), SCHEMAS[name].field(field.name).type)
            batch = batch.set_column(place, field.name, nothing)
    return batch


def _usable_columns(schema: pa.Schema, name: str, findings: Findings) -> list[str]:
    wanted = SCHEMAS[name]
    usable: list[str] = []
    cast: dict[str, list[str]] = {}
    for field in wanted:
        times = schema.names.count(field.name)
        if times == 0:
            names = ", ".join(schema.names) or "none"
            findings.add_file("missing_column", name, field.name, names=names, kind=field.type)
            continue
        if times > 1:
            findings.add_file("repeated_column", name, field.name, times=times)
            continue
        found = schema.field(field.name).type
        if not castable(found, field.type):
            findings.add_file("column_type", name, field.name, found_kind=found, kind=field.type)
            continue
        if found != field.type:
            cast.setdefault(f"{found} where {field.type} was expected", []).append(field.name)
        usable.append(field.name)
    extra = [column for column in dict.fromkeys(schema.names) if column not in wanted.names]
    if cast:
        kinds = "; ".join(f"{kind} ({', '.join(names)})" for kind, names in cast.items())
        findings.add_file("column_type_castable", name, kinds=kinds)
    if extra:
        findings.add_file("unknown_column", name, names=", ".join(extra))
    return usable


def castable(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of one type can be read as another without loss."""
    kinds = pa.types
    if kinds.is_null(found):  # of nulls alone: whether they may be null is for the rows to show
        return True
    if kinds.is_string(wanted):
        if kinds.is_dictionary(found):
            found = found.value_type
        return bool(
            kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found)
        )
    if kinds.is_int64(wanted):
        # A floating column may still hold whole numbers alone: that is for its rows to show.
        fits = kinds.is_integer(found) and not kinds.is_uint64(found)
        return bool(fits or kinds.is_boolean(found) or kinds.is_floating(found))
    if kinds.is_floating(wanted):
        return bool(kinds.is_floating(found) or kinds.is_integer(found))
    return bool(kinds.is_date(found) or kinds.is_timestamp(found))


def clean_text(array: pa.Array) -> tuple[pa.Array, Positions, pa.Array]:
    """A text column as large_string, the rows that are not UTF-8 (null there), and its bytes."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.binary_view())
    raw = array.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string()), np.empty(0, np.int64), raw
    except pa.ArrowInvalid:
        broken = np.fromiter((not _is_utf8(value) for value in raw), np.bool_, len(raw))
        kept = pc.if_else(pa.array(~broken), raw, None)
        return kept.cast(pa.large_string()), np.flatnonzero(broken), raw


def _is_utf8(value: Any) -> bool:
    buffer = value.as_buffer()
    try:
        str(buffer or b"", "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def whole_numbers(array: pa.Array) -> tuple[pa.Array, Positions]:
    """A number column as int64 and the rows that are no whole number, which are null."""
    if not pa.types.is_floating(array.type):
        return array.cast(pa.int64()), np.empty(0, np.int64)
    numbers = array.cast(pa.float64())
    whole = pc.fill_null(pc.equal(pc.floor(numbers), numbers), True)
    in_range = pc.fill_null(pc.less(pc.abs(numbers), 2.0**53), True)
    usable = np.asarray(whole) & np.asarray(in_range)
    return pc.if_else(pa.array(usable), numbers, None).cast(pa.int64()), np.flatnonzero(~usable)

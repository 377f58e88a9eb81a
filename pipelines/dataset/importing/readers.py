"""Files of rows as blocks of text columns, streamed; whatever is wrong names its row or line."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from models.errors import ConfigError, DataError, MissingDataError
from pipelines.console import Tick, silent
from pipelines.dataset.checks.files import clean_text
from pipelines.dataset.checks.report import show
from pipelines.dataset.layout import SCHEMAS

_BLOCK_BYTES: Final = 16 << 20
_BLOCK_ROWS: Final = 32_768
_LAYOUT_COLUMNS: Final = frozenset(name for schema in SCHEMAS.values() for name in schema.names)
_READ_ERRORS: Final = (pa.ArrowException, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Block:
    """Some successive rows: a large_string column per name, and where each row stands."""

    columns: dict[str, pa.Array]
    rows: int
    where: Callable[[int], str]  # position in the block → "products.csv row 12"
    # Rows whose value was written as a floating-point number, where the format tells.
    floats: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


class RowsInput(Protocol):
    """A file of rows."""

    path: Path
    names: list[str]  # the columns it has

    def blocks(self, wanted: Sequence[str], tick: Tick) -> Iterator[Block]:
        """Its rows with the columns `wanted`; `tick` counts bytes of the file."""
        ...


def open_rows(path: Path, quoted: bool) -> RowsInput:
    """The file behind `path`, told by its name; `quoted` says whether CSV fields may be quoted."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in {".csv", ".tsv", ".jsonl", ".ndjson"}:
        raise ConfigError(
            f"{path} ends in {kind or 'nothing known'!r}; "
            "expected .csv, .tsv, .jsonl or .ndjson, each also with .gz"
        )
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; expected a file of rows to import")
    if kind in {".csv", ".tsv"}:
        return CsvInput(path, "\t" if kind == ".tsv" else ",", quoted)
    return JsonLinesInput(path)


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path} cannot be read: {reason}; copy or export it again")


class _Watched(io.RawIOBase):
    """A file, unpacked where its name ends in .gz, that tells how far it was read."""

    def __init__(self, path: Path, tick: Tick) -> None:
        self._raw = path.open("rb")
        self._rows: IO[bytes] | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._raw) if path.suffix.lower() == ".gz" else self._raw
        )
        self._tick = tick
        self._told = 0
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._rows.read(len(buffer))
        buffer[: len(block)] = block
        self.quotes += block.count(b'"')
        self._tick((at := self._raw.tell()) - self._told)
        self._told = at
        return len(block)

    def close(self) -> None:
        self._rows.close()
        self._raw.close()
        super().close()


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


class CsvInput:
    """Comma- or tab-separated values below a header."""

    def __init__(self, path: Path, delimiter: str, quoted: bool) -> None:
        self.path = path
        self._delimiter = delimiter
        self._quoted = quoted
        self.names = self._header()

    def _header(self) -> list[str]:
        try:
            with closing(_Watched(self.path, silent)) as watched:
                # What is read with the header but lies behind it is looked at row by row later.
                text = io.TextIOWrapper(
                    io.BufferedReader(watched), "utf-8-sig", "surrogateescape", newline=""
                )
                rows = (
                    csv.reader(text, delimiter=self._delimiter)
                    if self._quoted
                    else csv.reader(text, delimiter=self._delimiter, quoting=csv.QUOTE_NONE)
                )
                header = next(rows, [])
        except (csv.Error, *_READ_ERRORS) as error:
            raise _unreadable(self.path, error) from error
        if not header:
            raise DataError(f"{self.path} is empty; expected a header with column names")
        if broken := [name for name in header if _has_surrogate(name)]:
            raise DataError(
                f"{self.path}: the header is not UTF-8: {show(broken[0])}; "
                "save the file again as UTF-8"
            )
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(
                f"{self.path}: the header names {repeated[0]!r} more than once; "
                "rename or drop one of these columns"
            )
        return header

    def blocks(self, wanted: Sequence[str], tick: Tick) -> Iterator[Block]:
        """Rows with the columns `wanted`, as text."""
        misshapen: list[pa.csv.InvalidRow] = []

        def keep(row: pa.csv.InvalidRow) -> str:
            misshapen.append(row)
            return "error"

        start = 0
        with closing(_Watched(self.path, tick)) as watched:
            try:
                reader = pyarrow.csv.open_csv(
                    pa.PythonFile(watched, mode="r"),
                    # Rows have numbers only when they are read one after another.
                    pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                    pyarrow.csv.ParseOptions(
                        delimiter=self._delimiter,
                        quote_char='"' if self._quoted else False,
                        newlines_in_values=self._quoted,
                        invalid_row_handler=keep,
                    ),
                    # As bytes, so that a bad byte can be located.
                    pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(self.names, pa.binary()),
                        include_columns=list(wanted),
                    ),
                )
                while (batch := next(reader, None)) is not None:
                    yield self._block(batch, start)
                    start += len(batch)
            except _READ_ERRORS as error:
                if misshapen:
                    raise self._misshapen(misshapen[0]) from error
                if "straddl" in str(error):
                    raise DataError(
                        f"{self.path}: a row after row {start} is longer than "
                        f"{_BLOCK_BYTES >> 20} MiB, which usually is a quote that is never closed; "
                        "close it, or import with --no-quotes if quotes are ordinary characters"
                    ) from error
                raise _unreadable(self.path, error) from error
            # Arrow takes the rest of the file for the value behind a quote that stays open.
            if self._quoted and watched.quotes % 2:
                raise DataError(
                    f"{self.path} holds {watched.quotes} quotes, so one is never closed; "
                    "double the quotes inside of values, or import with --no-quotes if quotes "
                    "are ordinary characters"
                )

    def _where(self, row: int) -> str:
        return f"{self.path} row {row} (counted from 0 below the header)"

    def _block(self, batch: pa.RecordBatch, start: int) -> Block:
        columns = {}
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            texts, broken, raw = clean_text(array)
            if len(broken):
                row = int(broken[0])
                raise DataError(
                    f"{self._where(start + row)}, column {name!r}: found bytes that are not "
                    f"UTF-8: {show(raw[row].as_py())}; save the file again as UTF-8"
                )
            columns[name] = texts
        return Block(columns, len(batch), lambda row: self._where(start + row))

    def _misshapen(self, row: pa.csv.InvalidRow) -> DataError:
        # Numbered from 1, and the header is a row.
        return DataError(
            f"{self._where(row.number - 2)}: found {row.actual_columns} fields, expected "
            f"{row.expected_columns} as in the header: {show(row.text)}; "
            "quote the fields that hold the delimiter or a line break"
        )


Records = list[tuple[int, dict[str, Any]]]
"""Objects with the numbers of their lines."""


# No JSON, yet what pandas and others write for a missing number, and for those beyond range.
_CONSTANTS: Final = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}


class _RepeatedKeyError(Exception):
    """A key that an object has more than once; JSON leaves open which value is meant."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return record


class JsonLinesInput:
    """One JSON object per line.

    Read line by line: Arrow's reader guesses types from a first block and names no line when a
    later one differs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        first = next(self._chunks(silent), [])
        if not first:
            raise DataError(f"{path} is empty; expected one JSON object per line")
        self.names = list(dict.fromkeys(name for _, record in first for name in record))

    def blocks(self, wanted: Sequence[str], tick: Tick) -> Iterator[Block]:
        """Rows with the columns `wanted`, as text; an absent key is null."""
        known = set(self.names)
        for chunk in self._chunks(tick):
            for line, record in chunk:
                if not record.keys() <= known:
                    self._refuse_late(line, record.keys() - known)
            columns = {name: self._column(chunk, name) for name in wanted}
            floats = {
                name: np.flatnonzero([type(record.get(name)) is float for _, record in chunk])
                for name in wanted
            }

            def where(row: int, chunk: Records = chunk) -> str:
                return self._where(chunk[row][0])

            yield Block(columns, len(chunk), where, floats)

    def _refuse_late(self, line: int, names: set[str]) -> None:
        """A column of the layout must show early: it was taken for absent and made up."""
        if late := sorted(names & _LAYOUT_COLUMNS):
            raise DataError(
                f"{self._where(line)} is the first with a key {late[0]!r}; expected it within the "
                f"first {_BLOCK_ROWS:,} lines: write it into the first line too, null if need be"
            )

    def _where(self, line: int) -> str:
        return f"{self.path} line {line}"

    def _chunks(self, tick: Tick) -> Iterator[Records]:
        with closing(_Watched(self.path, tick)) as watched:
            numbered = enumerate(io.BufferedReader(watched, 1 << 20), start=1)
            records = (
                (number, self._record(number, line)) for number, line in numbered if line.strip()
            )
            try:
                while chunk := list(islice(records, _BLOCK_ROWS)):
                    yield chunk
            except _READ_ERRORS as error:
                raise _unreadable(self.path, error) from error

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            record = json.loads(text, parse_constant=_CONSTANTS.get, object_pairs_hook=_unique)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._where(number)}: found bytes that are not UTF-8: "
                f"{show(line[error.start : error.start + 20])}; save the file again as UTF-8"
            ) from error
        except _RepeatedKeyError as error:
            raise DataError(
                f"{self._where(number)}: found the key {error.args[0]!r} more than once in an "
                "object; expected every key once: rename or drop the others"
            ) from error
        # A ValueError that is no JSONDecodeError: an integer of thousands of digits.
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self._where(number)} is no JSON: {error}; expected one object per line: "
                f"{show(line)}"
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"{self._where(number)}: found {show(line)}, expected a JSON object "
                "with a key per column"
            )
        return record

    def _column(self, chunk: Records, name: str) -> pa.Array:
        texts = [self._text(number, name, record.get(name)) for number, record in chunk]
        try:
            return pa.array(texts, pa.large_string())
        except UnicodeEncodeError:
            for (number, _), text in zip(chunk, texts, strict=True):
                try:
                    (text or "").encode()
                except UnicodeEncodeError as error:
                    raise DataError(
                        f"{self._where(number)}, column {name!r}: found half of a surrogate pair "
                        f"in {show(text)}, which UTF-8 cannot hold; write the text again"
                    ) from error
            raise

    def _text(self, number: int, name: str, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(int(value))
        if isinstance(value, int | float):
            return str(value)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)  # bullet points, mostly
        raise DataError(
            f"{self._where(number)}, column {name!r}: found {show(json.dumps(value))}; "
            "expected a text, a number or a list of texts"
        )

"""The sources file: the one CSV of the layout."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipelines.dataset.checks.columns import Positions
from pipelines.dataset.checks.files import add_unreadable, clean_text
from pipelines.dataset.checks.report import Findings, show
from pipelines.dataset.checks.values import NULL_ALLOWED
from pipelines.dataset.layout import SOURCES, SOURCES_FILE
from pipelines.dataset.lfs import is_pointer

_INTEGER = r"^\s*[+-]?\d{1,18}\s*$"
_HEADER_BYTES = 1 << 20


def check_sources(folder: Path, findings: Findings) -> tuple[Positions, pa.Array]:
    """Check the file where there is one; hands back rows and query ids for further checks."""
    nothing = np.empty(0, np.int64), pa.array([], pa.int64())
    path = folder / SOURCES_FILE
    if not path.exists():
        return nothing
    if is_pointer(path):
        findings.add_file("git_lfs_pointer", SOURCES_FILE)
        return nothing
    if (line := _header_not_utf8(path)) is not None:
        names = ",".join(SOURCES.names)
        findings.add_file("unreadable_header", SOURCES_FILE, line=show(line), names=names)
        return nothing
    misshapen: dict[int, str] = {}

    def skip(row: pa.csv.InvalidRow) -> str:
        misshapen[row.number - 2] = row.text  # numbered from 1, and the header is a row
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            path,
            # Rows have numbers only when they are read one after another.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=skip),
            # As bytes, so that neither a bad number nor a bad byte stops the reading.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(SOURCES.names, pa.binary()), strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, OSError) as error:
        add_unreadable(findings, SOURCES_FILE, error)
        return nothing
    bad = np.array(list(misshapen), np.int64)
    findings.add_rows(
        "unreadable_row",
        SOURCES_FILE,
        None,
        bad,
        lambda i: show(misshapen[int(bad[i])]),
        fields=len(table.column_names),
        names=", ".join(table.column_names),
    )
    rows = np.setdiff1d(np.arange(len(table) + len(bad)), bad)
    for field in SOURCES:
        if field.name not in table.column_names:
            names = ", ".join(table.column_names)
            findings.add_file(
                "missing_column", SOURCES_FILE, field.name, names=names, kind=field.type
            )
    if "source" in table.column_names:
        _clean(findings, "source", rows, table["source"])
    if "query_id" not in table.column_names:
        return nothing
    texts = _clean(findings, "query_id", rows, table["query_id"])
    whole = np.asarray(pc.fill_null(pc.match_substring_regex(texts, _INTEGER), False))
    broken = np.flatnonzero(~whole & np.asarray(texts.is_valid()))
    findings.add_rows(
        "not_an_integer",
        SOURCES_FILE,
        "query_id",
        rows[broken],
        lambda i: show(texts[int(broken[i])].as_py()),
    )
    trimmed = pc.utf8_trim_whitespace(texts.filter(pa.array(whole)))
    return rows[whole], pc.utf8_ltrim(trimmed, "+").cast(pa.int64())


def _header_not_utf8(path: Path) -> bytes | None:
    """The first line, where it cannot be the header: Arrow has no error for that, and fails."""
    try:
        with path.open("rb") as source:
            line = source.readline(_HEADER_BYTES)
    except OSError:
        return None  # reading the rows says why
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return line
    return line if "\0" in text else None


def _clean(findings: Findings, name: str, rows: Positions, column: pa.ChunkedArray) -> pa.Array:
    """The column as text, after its nulls and its bytes were looked at."""
    texts, broken, raw = clean_text(column.combine_chunks())
    findings.add_rows(
        "not_utf8", SOURCES_FILE, name, rows[broken], lambda i: show(raw[int(broken[i])].as_py())
    )
    if name not in NULL_ALLOWED:
        empty = np.flatnonzero(np.asarray(raw.is_null()))
        findings.add_rows("null_value", SOURCES_FILE, name, rows[empty], lambda _: "null")
    return texts

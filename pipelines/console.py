"""What a person at a terminal sees: tables, progress, errors.

Results go to standard output, everything else to standard error, so a pipe carries results alone.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.errors import EsciError

out: Final = Console(highlight=False)
err: Final = Console(stderr=True, highlight=False)

# Exit codes of every verb. 2 is also what the command-line parser uses for a wrong flag.
OK: Final = 0
WARNINGS: Final = 1
ERRORS: Final = 2

# Without a terminal a line now and then says that the work goes on.
_SECONDS_BETWEEN_LINES: Final = 10.0


class Tick(Protocol):
    """Reports that some more units of the work are done."""

    def __call__(self, units: int = 1) -> None:
        """Advance by `units`."""


def silent(units: int = 1) -> None:
    """A Tick that nobody sees."""


@contextmanager
def progress(
    what: str, total: int | None, unit: Literal["rows", "bytes"] = "rows"
) -> Iterator[Tick]:
    """A bar on a terminal, a plain line now and then elsewhere; both on standard error."""
    if err.is_terminal:
        counts = (
            (DownloadColumn(), TransferSpeedColumn())
            if unit == "bytes"
            else (MofNCompleteColumn(),)
        )
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task(what, total=total)

            def advance(units: int = 1) -> None:
                bar.advance(task, units)

            yield advance
        return

    done, started = 0, time.monotonic()
    spoke = started

    def count(units: int = 1) -> None:
        nonlocal done, spoke
        done += units
        if (now := time.monotonic()) - spoke >= _SECONDS_BETWEEN_LINES:
            spoke = now
            amount = decimal if unit == "bytes" else "{:,}".format
            share = f" of {amount(total)}" if total else ""
            err.print(f"{what}: {amount(done)}{share} in {now - started:.0f} s")

    yield count


def print_json(value: Any) -> None:
    """One JSON document on standard output, for machines."""
    out.file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def print_error(error: EsciError) -> None:
    """An error as one line on standard error, in colour where there is a terminal."""
    err.print("[bold red]error:[/]", end=" ")
    err.print(str(error), markup=False, soft_wrap=True)

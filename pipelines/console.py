"""What a person at a terminal sees: tables, progress, errors.

Results go to standard output, everything else to standard error, so a pipe carries results alone.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from models.workbench import NO_WORKBENCH, Standing

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


Report = Callable[[Standing], None]
"""Told how far a fit is."""


class Watch(Protocol):
    """Shows a person how far each of several long pieces of work is."""

    def __call__(self, what: str) -> AbstractContextManager[Report]:
        """Shows the work named `what` until the block ends."""


@contextmanager
def unwatched(what: str) -> Iterator[Report]:
    """A Watch that nobody sees."""
    del what
    yield NO_WORKBENCH.report


@contextmanager
def watched(what: str) -> Iterator[Report]:
    """A bar with steps, time left and the work's own note, or a plain line now and then.

    Both on standard error, and so is the line at the end that says how long it took.
    """
    started = time.monotonic()
    with (_bar if err.is_terminal else _lines)(what) as report:
        yield report
    note(f"{what}: done in {_duration(time.monotonic() - started)}")


@contextmanager
def _bar(what: str) -> Iterator[Report]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    # Speed over minutes: a step takes seconds, and an evaluation between two of them longer.
    with Progress(*columns, console=err, transient=True, speed_estimate_period=300) as bar:
        task = bar.add_task(what, total=None, said="")
        begun = False

        def report(standing: Standing) -> None:
            nonlocal task, begun
            if not begun:  # steps of an earlier process were not done in this one's time
                begun = True
                bar.remove_task(task)
                task = bar.add_task(what, completed=standing.done, total=standing.total, said="")
            bar.update(task, completed=standing.done, total=standing.total, said=standing.note)

        yield report


@contextmanager
def _lines(what: str) -> Iterator[Report]:
    first: Standing | None = None
    last = 0
    started = spoke = time.monotonic()

    def report(standing: Standing) -> None:
        nonlocal first, last, started, spoke
        now = time.monotonic()
        # Work of another kind, as steps after the texts that were read for them, has its own pace.
        if first is None or standing.total != first.total or standing.done < last:
            first, started = standing, now
        last = standing.done
        if now - spoke < _SECONDS_BETWEEN_LINES:
            return
        spoke = now
        said = f", {standing.note}" if standing.note else ""
        left = ""
        if (steps := standing.done - first.done) > 0:
            seconds = (now - started) * (standing.total - standing.done) / steps
            left = f", about {_duration(seconds)} left"
        note(f"{what}: {standing.done:,} of {standing.total:,}{said}{left}")

    yield report


def _duration(seconds: float) -> str:
    """A length of time as a person would say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def note(text: str) -> None:
    """One line on standard error that a person may want to know."""
    err.print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, for machines."""
    out.file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def print_error(error: EsciError) -> None:
    """An error as one line on standard error, in colour where there is a terminal."""
    err.print("[bold red]error:[/]", end=" ")
    err.print(str(error), markup=False, soft_wrap=True)

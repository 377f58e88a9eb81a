"""`esci data validate`: find, count and locate every trouble in a dataset."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from models.errors import ConfigError
from pipelines.console import ERRORS, OK, WARNINGS, out, print_json, progress
from pipelines.dataset.checks.report import Finding, Report
from pipelines.dataset.checks.table import Severity
from pipelines.dataset.validate import ValidateOptions, count_rows
from pipelines.dataset.validate import validate as run_checks

_COLOURS: Final[dict[Severity, str]] = {"error": "red", "warning": "yellow", "note": "cyan"}
_VERDICT_COLOURS: Final = {OK: "green", WARNINGS: "yellow", ERRORS: "red"}


def validate(
    folder: Annotated[Path, typer.Argument(help="The dataset folder.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    examples: Annotated[
        int, typer.Option("--examples", help="Rows to show of each trouble.", min=0)
    ] = 5,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help="Characters a text column may have, as COLUMN=N; repeatable.",
            metavar="COLUMN=N",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as JSON.")
    ] = False,
) -> None:
    """Find, count and locate every trouble in a dataset folder.

    Every finding says which rows it means (counted from 0), what was expected and how to mend it.
    The exit code is 0 when the data are sound, 1 when there are warnings, 2 when there are errors.

    Example: esci data validate my_data --examples 3
    """
    options = ValidateOptions(examples, strict, parse_limits(limit or ()))
    with progress("Checking rows", count_rows(folder)) as tick:
        report = run_checks(folder, options, tick)
    if as_json:
        print_json(report_json(report))
    else:
        print_report(report)
    raise typer.Exit(report.exit_code)


def parse_limits(words: list[str] | tuple[str, ...]) -> dict[str, int]:
    """Limits from COLUMN=N."""
    limits = {}
    for word in words:
        column, _, number = word.partition("=")
        if not number.isdecimal():
            raise ConfigError(f"--limit {word!r}; expected COLUMN=N, as in product_title=3000")
        limits[column] = int(number)
    return limits


def report_json(report: Report) -> dict[str, object]:
    """The whole report, with its verdict, as plain values."""
    return {"verdict": report.verdict, "exit_code": report.exit_code, **asdict(report)}


def print_report(report: Report) -> None:
    """The report as blocks, gravest first, and a line with the verdict at the end."""
    for finding in report.findings:
        _print_finding(finding)
    for file, rows in report.rows.items():
        out.print(f"[dim]{file}: {rows:,} rows[/]")
    print_verdict(report)


def print_verdict(report: Report) -> None:
    """One coloured line: whether the data can be used."""
    colour = _VERDICT_COLOURS[report.exit_code]
    out.print(f"[bold {colour}]{escape(report.folder)}: {report.verdict}[/]", soft_wrap=True)


def _print_finding(finding: Finding) -> None:
    colour = _COLOURS[finding.severity]
    where = finding.file if finding.column is None else f"{finding.file} · {finding.column}"
    count = f"{finding.count:,} row{'s' if finding.count > 1 else ''}" if finding.rows else ""
    out.print(
        f"[bold {colour}]{finding.severity}[/] [bold]{finding.code}[/]  {escape(where)}  "
        f"[bold]{count}[/]",
        soft_wrap=True,
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("found", escape(finding.found))
    for sample in finding.rows:
        grid.add_row(f"row {sample.row}", escape(sample.value))
    if finding.rows and (more := finding.count - len(finding.rows)):
        grid.add_row("", f"[dim]and {more:,} more[/]")
    grid.add_row("expected", escape(finding.expected))
    grid.add_row("mend", escape(finding.mend))
    out.print(Padding(grid, (0, 0, 1, 2)))

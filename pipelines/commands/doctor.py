"""`esci doctor`: what this machine has and lacks."""

from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from pipelines import console
from pipelines.doctor import Level, examine, exit_code

_COLOURS: Final[dict[Level, str]] = {
    "ok": "green",
    "note": "cyan",
    "missing": "yellow",
    "failed": "red",
}


def doctor(
    redis: Annotated[
        str | None,
        typer.Option(
            help="A Redis to look at. Without it: ESCI_CACHE, or the default one on this machine.",
            metavar="URL",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what this machine has, what it lacks, and what to do about it.

    The exit code is 0 when everything is there, 1 when something that is wanted is missing, and 2
    when nothing can work before it is mended.

    Example: esci doctor --redis redis://127.0.0.1:6379
    """
    findings = examine(redis_url=redis)
    code = exit_code(findings)
    if json:
        console.print_json(
            {"exit_code": code, "findings": [asdict(finding) for finding in findings]}
        )
    else:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for finding in findings:
            level = f"[{_COLOURS[finding.level]}]{finding.level}[/]"
            table.add_row(level, finding.topic, escape(finding.found))
            if finding.advice:
                table.add_row("", "", f"[italic]→ {escape(finding.advice)}[/]")
        console.out.print(table)
    raise typer.Exit(code)

"""`esci data stats`: what a dataset holds, as tables and one picture."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipelines import console
from pipelines.dataset.checks.files import count_rows
from pipelines.dataset.stats.compute import compute_stats
from pipelines.dataset.stats.picture import check_picture_path, draw
from pipelines.dataset.stats.tables import sentences, tables


def stats(
    folder: Annotated[Path, typer.Argument(help="The dataset folder.", show_default=False)],
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the figures into this file: .png, .svg or .pdf."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print every figure as one JSON document.")
    ] = False,
) -> None:
    """Show what a dataset holds: pairs, labels, texts, behaviours and links.

    Reads every file once, in little memory, and writes nothing but the picture you ask for.

    Example: esci data stats esci-data --picture esci-data.png
    """
    if picture:
        check_picture_path(picture, folder)
    with console.progress("Counting", count_rows(folder)) as tick:
        found = compute_stats(folder, tick)
    if picture:
        draw(found, picture)
    if json:
        console.print_json(found.to_json())
    else:
        for table in tables(found):
            console.out.print(table)
            console.out.print()
        for sentence in sentences(found):
            console.out.print(sentence, soft_wrap=True)
    said = f"wrote {escape(str(picture))}" if picture else "add --picture FILE.png to see it drawn"
    console.err.print(said, soft_wrap=True)

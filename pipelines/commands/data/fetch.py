"""`esci data fetch`: the official ESCI files, downloaded."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from models.typed import plain
from pipelines import console
from pipelines.dataset.fetch import (
    OFFICIAL_URL,
    Fetched,
    OfficialFile,
    Source,
    read_checksums,
)
from pipelines.dataset.fetch import fetch as fetch_files


def fetch(
    out: Annotated[
        Path, typer.Option(help="Folder to fill; what is there and complete is left alone.")
    ] = Path("esci-data"),
    files: Annotated[
        list[OfficialFile] | None,
        typer.Option(help="Fetch only this file; repeat for more. All three without it."),
    ] = None,
    base_url: Annotated[
        str, typer.Option(help="Folder on a server that holds the files, such as a mirror.")
    ] = OFFICIAL_URL,
    checksums: Annotated[
        Path | None,
        typer.Option(help="Hold the files against these, as `sha256sum FILE...` writes them."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Download again what is already there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Download the official ESCI files (1.2 GB, Apache-2.0) from their public repository.

    An interrupted download goes on where it stopped when run again. Every file is verified by its
    SHA-256 where one is published, and the answer says where not.

    Example: esci data fetch --out esci-data && esci data validate esci-data
    """
    source = Source.at(base_url)
    given = read_checksums(checksums) if checksums else {}
    fetched = []
    with source.downloader() as web:
        for file in fetch_files(
            out,
            source,
            files or list(OfficialFile),
            web,
            partial(console.progress, unit="bytes"),
            checksums=given,
            force=force,
        ):
            fetched.append(file)
            if not json:
                _print(file)
    if json:
        console.print_json({"folder": str(out), "files": [plain(file) for file in fetched]})
    console.err.print(f"next: esci data validate {escape(str(out))}", soft_wrap=True)


def _print(file: Fetched) -> None:
    what = "already there" if not file.downloaded else "fetched"
    if file.resumed_from:
        what += f", went on from {file.resumed_from:,} bytes"
    if file.verified_by:
        verdict = f"[green]verified[/] by {escape(file.verified_by)}"
    else:
        verdict = "[yellow]not verified[/]: no checksum of it is known"
    note = f" ({escape(file.note)})" if file.note else ""
    console.out.print(f"{file.name}: {what}, {file.size:,} bytes, {verdict}{note}", soft_wrap=True)

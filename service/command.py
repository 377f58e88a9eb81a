"""The verb `esci serve`, which `python -m service` is too."""

from pathlib import Path
from typing import Annotated

import typer

from service.server import serve as run
from service.settings import Settings


def serve(
    release: Annotated[
        Path | None, typer.Option(help="A release folder, or a registry to serve the champion of.")
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Product vectors of this very release, from esci precompute; without it, those in "
            "the registry's folder `vectors`, if there are any."
        ),
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(
            help="Neighbourhoods of graph members, from esci precompute: a folder, a .sqlite file "
            "or redis://host:port/db; without it, the registry's folder `states`, if there is one."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to; loopback only.")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one.")] = None,
    cache: Annotated[
        str | None, typer.Option(help="memory://, sqlite:///path or redis://host:port/db.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; about one core each.")] = None,
) -> None:
    """Serve a release over REST until interrupted.

    Without --release, the registry in ESCI_HOME (.esci) is served. More settings are environment
    variables, ESCI_MAX_PAIRS and so on: service/settings.py says what each one trades.

    Example: [bold]esci serve --release .esci --port 8080 --cache redis://127.0.0.1:6379/0[/]
    """
    run(
        Settings.from_environment(
            release=release,
            vectors=vectors,
            states=states,
            host=host,
            port=port,
            cache=cache,
            workers=workers,
        )
    )

"""`esci train`: members from a configuration into a run folder, and into the registry if asked."""

from pathlib import Path
from typing import Annotated

import typer

from models.errors import ConfigError
from models.home import home
from models.release_registry import ReleaseRegistry
from models.typed import plain
from pipelines.config import load_config
from pipelines.console import out, print_json, progress
from pipelines.publish import publish
from pipelines.train import TEST, is_replaceable, train_run


def train(
    data: Annotated[Path, typer.Option(help="A dataset folder.")],
    to: Annotated[Path, typer.Option("--out", help="The run folder to write.")],
    config: Annotated[
        Path | None, typer.Option(help="A TOML configuration; the lexical member without one.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set one key, as in seed=3; may be given several times."),
    ] = None,
    publish_: Annotated[
        bool,
        typer.Option("--publish", help="Write a release and let it be the one that is served."),
    ] = False,
    registry: Annotated[
        Path | None, typer.Option(help="The registry to publish to; .esci without it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train the members that a configuration names.

    Learns from the official training split, keeps some of its queries (`validation`) for choosing,
    and writes every member's logits on validation and test queries, for `esci evaluate`.

    Example: [bold]esci train --data .esci/demo --out runs/first --set seed=3 --publish[/]
    """
    _check_target(to, data, force)
    resolved = load_config(config, set_ or [])
    with progress("training", len(resolved.members)) as tick:
        run = train_run(data, to, resolved, tick)
    released = publish(to, data, ReleaseRegistry(registry or home())) if publish_ else None
    if json:
        print_json({"run": str(to), **plain(run), "release": released.name if released else None})
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in run.rows.items())
    out.print(f"trained {', '.join(m.name for m in resolved.members)} ({rows}) into {to}")
    if released:
        out.print(f"published release {released.name}, which is now the champion")
    if run.rows["test"]:
        first = to / TEST / f"{resolved.members[0].name}.parquet"
        out.print(f"judge it: esci evaluate {first} --data {data}", soft_wrap=True)


def _check_target(to: Path, data: Path, force: bool) -> None:
    """Refuse what a run folder must not replace: anything but a run, and the data by all means."""
    run, dataset = to.resolve(), data.resolve()
    if run.is_relative_to(dataset) or dataset.is_relative_to(run):
        raise ConfigError(f"--out {to} and --data {data} overlap; expected two separate folders")
    if to.exists() and not is_replaceable(to):
        raise ConfigError(f"{to} holds something else than a run; name another folder")
    if to.is_dir() and any(to.iterdir()) and not force:
        raise ConfigError(f"{to} is there already; name another folder, or replace it by --force")

"""`esci train`: members from a configuration into a run folder, and into the registry if asked."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.home import home
from models.release_registry import ReleaseRegistry
from models.typed import plain
from pipelines.commands.options import Threads
from pipelines.config import load_config
from pipelines.console import note, out, print_json, watched
from pipelines.publish import check_publishable, publish
from pipelines.training.run import TEST, Run
from pipelines.training.team import joined
from pipelines.training.threads import VARIABLE, choose_threads
from pipelines.training.train import help_train, train_run


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
    threads: Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train the members that a configuration names.

    Learns from the official training split, keeps some of its queries (`validation`) for choosing,
    and writes every member's logits on validation and test queries, for `esci evaluate`.

    A training that was interrupted, in whatever way, goes on where it was when the same command is
    given again: members that are done are kept, and the one in progress resumes.

    On several GPUs: [bold]torchrun --nproc-per-node 4 -m esci train …[/], or accelerate launch.
    Language members share the work, with a batch in each process per step.

    Example: [bold]esci train --data .esci/demo --out runs/first --set seed=3 --publish[/]
    """
    with joined() as team:
        if not team.is_first:
            help_train(team, threads)
            return
        resolved = load_config(config, set_ or [])
        if publish_:
            check_publishable(resolved)  # before hours of training rather than after
        using = choose_threads(threads)
        note(f"training with {team.in_words(using)} (--threads or {VARIABLE})")
        run = train_run(data, to, resolved, watched, threads=using, force=force, team=team)
    released = publish(to, data, ReleaseRegistry(registry or home())) if publish_ else None
    if json:
        print_json({"run": str(to), **plain(run), "release": released.name if released else None})
        return
    _show(run, to)
    if released:
        out.print(f"published release {released.name}, which is now the champion")
    if run.rows["test"]:
        first = to / TEST / f"{run.members[0].name}.parquet"
        out.print(f"judge it: esci evaluate {first} --data {data}", soft_wrap=True)


def _show(run: Run, folder: Path) -> None:
    rows = ", ".join(f"{count:,} {name}" for name, count in run.rows.items())
    names = ", ".join(member.name for member in run.members)
    out.print(f"trained {names} ({rows}) into {folder}", soft_wrap=True)
    table = Table(title="on the validation queries", title_justify="left")
    table.add_column("member")
    for name in run.members[0].validation:
        table.add_column(name.replace("_", " "), justify="right")
    for member in run.members:
        table.add_row(member.name, *(f"{value:.3f}" for value in member.validation.values()))
    out.print(table)
    for member in run.members:
        for picture in member.pictures:
            out.print(f"how {member.name} learned: {folder / picture}", soft_wrap=True)

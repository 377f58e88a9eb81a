"""`esci adapt`: a backbone pre-trained on a catalogue's own texts, for language members."""

import json as json_module
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.language.pretraining.options import Objective
from models.typed import plain
from pipelines.adapting.config import ENVIRONMENT_PREFIX, AdaptConfig
from pipelines.commands.options import Threads
from pipelines.config import read_config
from pipelines.console import note, out, print_json, watched
from pipelines.training.team import joined
from pipelines.training.threads import VARIABLE, choose_threads

# Better when smaller.
_LESS_IS_BETTER = frozenset({"perplexity", "alignment", "uniformity"})


def adapt(
    data: Annotated[Path, typer.Option(help="A dataset folder; its labels are not read.")],
    to: Annotated[Path, typer.Option("--out", help="The backbone folder to write.")],
    backbone: Annotated[
        str | None,
        typer.Option(help="What to start from: a folder, a preset, a hub id; minilm without it."),
    ] = None,
    objective: Annotated[
        Objective | None,
        typer.Option(
            help="mlm guesses masked words; contrastive brings a product's title and its other "
            "fields together. mlm without it."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="A query log to learn from besides the training queries: Parquet with a column "
            "`query`, or text with one per line. All of it is learned from, so see to it that it "
            "holds no query you will test on.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML configuration.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Set one key, as in training.epochs=2; may be given several times."
        ),
    ] = None,
    threads: Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an adapted backbone that is there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Adapt a language backbone to a catalogue, by its texts alone.

    Reads the texts of all products, and the queries of the training split: never those of the test
    split, and none of those that `esci train` with the same `seed` and `validation` chooses on.
    Some products and those queries are held out to measure perplexity (mlm) or how well one view of
    a product finds the other (contrastive), before and after.

    An adaptation that was interrupted goes on where it was when the same command is given again.
    Several GPUs share the work: [bold]torchrun --nproc-per-node 4 -m esci adapt …[/]
    The folder it writes is a backbone like any other: [bold]backbone = "adapted"[/] in the options
    of a language member.

    Example: [bold]esci adapt --data data --out adapted --set training.epochs=2[/]
    """
    # Here, so that the help need not wait for torch.
    from pipelines.adapting.adapt import adapt as run
    from pipelines.adapting.adapt import help_adapt

    with joined() as team:
        if not team.is_first:
            help_adapt(team, threads)
            return
        named = {"backbone": backbone, "objective": objective}
        flags = [f"{key}={json_module.dumps(value)}" for key, value in named.items() if value]
        resolved = read_config(AdaptConfig, ENVIRONMENT_PREFIX, config, [*flags, *(set_ or [])])
        using = choose_threads(threads)
        note(f"adapting with {team.in_words(using)} (--threads or {VARIABLE})")
        started = time.monotonic()
        adapted = run(data, to, resolved, queries, watched, threads=using, force=force, team=team)
        seconds = time.monotonic() - started
    if json:
        print_json({"folder": str(to), **plain(adapted)})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in adapted.texts.items())
    out.print(f"adapted {resolved.backbone} ({counts}) into {to} in {seconds:.0f} s")
    table = Table(title="on held-out texts", title_justify="left")
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left")
    for name, before in adapted.before.items():
        if name != "score":
            better = "lower" if name in _LESS_IS_BETTER else "higher"
            said = f"{name.replace('_', ' ')} ({better} is better)"
            table.add_row(said, f"{before:.4g}", f"{adapted.after[name]:.4g}")
    out.print(table)
    if adapted.head == "new":
        out.print(
            "The backbone came without a head that guesses words, so part of the gain is that the "
            "new head learned to.",
            soft_wrap=True,
        )

"""`esci precompute`: what members know of a catalogue's products, computed once and stored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from models.errors import ConfigError
from models.typed import plain
from pipelines.commands.options import Threads
from pipelines.console import note, out, print_json, watched
from pipelines.training.team import ALONE
from pipelines.training.threads import VARIABLE, choose_threads

if TYPE_CHECKING:
    from pipelines.neighbourhoods import Filled
    from pipelines.product_vectors import Precomputed


def precompute(
    folder: Annotated[
        Path,
        typer.Argument(help="A registry, a release, a run, or the folder of one member."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="A dataset folder: its products, and for graph members its behaviours and links."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The folder to store vectors of bi-encoders in; that of another time goes on. For "
            "a registry, its own folder `vectors` without it.",
        ),
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Where to store neighbourhoods of graph members: a folder, a file that ends in "
            ".sqlite, or redis://host:6379/0. For a registry, its own folder `states` without it.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="Neighbourhoods of so many products alone, those of most behaviours."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Neighbourhoods of all products, as without --top.")
    ] = False,
    member: Annotated[
        str | None, typer.Option(help="Which member; all that can without it.")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Forget vectors of products that the dataset does not hold (any more), and of "
            "texts that were changed; and neighbourhoods by members as they were before they were "
            "trained again.",
        ),
    ] = False,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Compute once what trained members know of the products of a dataset.

    A bi-encoder knows a vector of each, a graph member a state that holds its neighbourhood: the
    products, queries and behaviours around it. Who has them answers as it would without them, and
    faster: of a product that is found by its id, locale and texts nothing is computed. Any other is
    computed when it is asked for.

    [bold]esci precompute .esci --data data[/]

    stores those of the registry's champion in [bold].esci/vectors[/], where [bold]esci serve[/] and
    [bold]esci run[/] find them when they start. Elsewhere,

    [bold]esci precompute runs/first --data data --out vectors[/]

    and give the folder to [bold]esci serve --vectors vectors[/] (or ESCI_VECTORS) or to
    [bold]esci consistency --vectors vectors[/]: those refuse it if it holds none of that very
    member. A member that is trained again needs new vectors, which go to the same folder; the old
    ones stay for as long as you may want to go back.

    The same command again computes only the products that are new or whose texts were changed; so
    it does after an interruption, in whatever way. With ESCI_LANGUAGE_ENGINE=torch it computes on
    a GPU, in float32, as every engine but onnxruntime does: vectors for a member whose
    `product_variant` is fp32, as it is unless said otherwise. Those of an int8 one are told apart,
    so make them with onnxruntime if that is to serve it. Vectors are as precise as the member's
    option `vectors` says (fp16, or int8 in half the room): what that costs in labels was measured
    when the member was exported. A store that was damaged is set aside and computed anew.

    Neighbourhoods are made of what customers do in this dataset, whatever a member was trained on:

    [bold]esci precompute .esci --data data --top 100000 --to redis://127.0.0.1:6379/0[/]

    computes those whose texts, neighbours or behaviours have changed since the last time, takes
    over the others, and lets readers see all of them at once when the last is there.
    """
    # Here, so that the help need not wait for the engines.
    from pipelines.neighbourhoods import graph_members, precompute_states, states_place
    from pipelines.product_vectors import embedders, precompute_vectors
    from pipelines.trained import find_trained

    if every and top is not None:
        raise ConfigError(f"found --all and --top {top}; expected one of them")
    trained = find_trained(folder)
    graphs, comparing = graph_members(trained, member), embedders(trained, member)
    if not graphs and not comparing:
        kinds = ", ".join(f"{one.name} ({one.kind})" for one in trained.members)
        wanted = "a member" if member is None else f"{member!r} among members"
        raise ConfigError(
            f"{trained.folder} holds {kinds}; expected {wanted} that knows products by themselves, "
            "as a bi_encoder and a gnn do"
        )
    # Whatever is wrong with a destination is said before hours of work for another.
    if graphs:
        states = states_place(trained, states)
    elif states is not None or top is not None or every:
        raise ConfigError("--to, --top and --all are for graph members, and there is none")
    if to is not None and not comparing:
        raise ConfigError("--out is for vectors of bi-encoders, and there is none; expected --to")
    using = choose_threads(threads)
    note(f"computing with {ALONE.in_words(using)} (--threads or {VARIABLE})")
    vectors = [
        precompute_vectors(folder, data, to, watched, member=name, threads=using, prune=prune)
        for name in comparing
    ]
    filled = (
        precompute_states(
            folder, data, states, watched, member=member, top=top, threads=using, prune=prune
        )
        if graphs
        else []
    )
    if json:
        print_json({"vectors": plain(vectors), "states": plain(filled)})
        return
    for found in vectors:
        _print_vectors(found)
    for one in filled:
        _print_states(one)


def _print_vectors(found: "Precomputed") -> None:
    speed = f" ({found.products_per_second:,.1f} products/s)" if found.computed else ""
    out.print(
        f"computed {found.computed:,} of {found.products:,} products in {found.seconds:.0f} s"
        f"{speed}; {found.known:,} were known",
        soft_wrap=True,
    )
    if found.forgotten:
        out.print(f"forgot {found.forgotten:,} vectors of other products or texts")
    each = f", {found.bytes_per_product:,.0f} bytes each" if found.bytes_per_product else ""
    out.print(
        f"{found.store}: {found.stored:,} vectors of {found.width} numbers in {found.precision}"
        f"{each}, {decimal(found.folder_bytes)} in all",
        soft_wrap=True,
    )


def _print_states(found: "Filled") -> None:
    speed = f" ({found.products_per_second:,.1f} products/s)" if found.computed else ""
    out.print(
        f"{found.member}: computed {found.computed:,} of {found.products:,} neighbourhoods in "
        f"{found.seconds:.0f} s{speed}; {found.taken_over:,} had not changed, {found.known:,} were "
        "left of an interrupted run",
        soft_wrap=True,
    )
    if found.forgotten:
        out.print(f"forgot the states of {found.forgotten:,} trainings before this one")
    out.print(
        f"{found.store}: snapshot {found.snapshot}, {found.width} numbers each in fp16",
        soft_wrap=True,
    )

"""`esci precompute`: the vectors of a catalogue's products, so that nobody computes them twice."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from models.typed import plain
from pipelines.commands.options import Threads
from pipelines.console import note, out, print_json, watched
from pipelines.training.team import ALONE
from pipelines.training.threads import VARIABLE, choose_threads


def precompute(
    folder: Annotated[
        Path,
        typer.Argument(help="A registry, a release, a run, or the folder of one bi-encoder."),
    ],
    data: Annotated[Path, typer.Option(help="A dataset folder; its products alone are read.")],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The folder to store in; that of another time goes on. For a registry, its own "
            "folder `vectors` without it.",
        ),
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="Which member, when there are several bi-encoders.")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Forget vectors of products that the dataset does not hold (any more), and of "
            "texts that were changed.",
        ),
    ] = False,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Compute the vectors of all products of a dataset once, for a bi-encoder that was trained.

    Who has them answers as it would without them, and faster: of a product that is found by its
    id, locale and texts nothing is computed. Any other is encoded when it is asked for.

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
    """
    # Here, so that the help need not wait for the engines.
    from pipelines.product_vectors import precompute as run

    using = choose_threads(threads)
    note(f"computing with {ALONE.in_words(using)} (--threads or {VARIABLE})")
    found = run(folder, data, to, watched, member=member, threads=using, prune=prune)
    if json:
        print_json(plain(found))
        return
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

"""The vectors of a dataset's products, computed once for a trained member and stored."""

import time
from dataclasses import dataclass
from pathlib import Path

from models.errors import ConfigError
from models.registry import member_class
from models.vectors.embedder import Embedder
from models.vectors.packing import Precision
from models.vectors.shelf import VECTORS, Shelf
from models.vectors.source import product_keys
from models.workbench import Standing
from pipelines.console import Watch, unwatched
from pipelines.dataset.read import read_catalogue
from pipelines.judging.folders import check_folder
from pipelines.trained import Trained, find_trained, open_embedder
from pipelines.training.threads import choose_threads, threads_limited


@dataclass(frozen=True)
class Precomputed:
    """What a precomputation did, and what lies in the store now."""

    member: str
    store: str  # the folder of this member's vectors
    products: int  # of the dataset
    known: int  # of which were in the store before
    computed: int
    forgotten: int  # vectors of other products that were in the store and are not any more
    seconds: float
    products_per_second: float | None  # None where none was computed
    precision: Precision
    width: int
    stored: int  # vectors in the store, also of other products
    folder_bytes: int
    bytes_per_product: float | None  # None where the store is empty


def embedders(trained: Trained, name: str | None = None) -> list[str]:
    """The names of the members of `trained` that compare vectors, or the one of that name."""
    return [
        one.name
        for one in trained.members
        if issubclass(member_class(one.kind), Embedder) and name in (None, one.name)
    ]


def precompute_vectors(
    folder: Path,
    data: Path,
    out: Path | None = None,
    watch: Watch = unwatched,
    *,
    member: str | None = None,
    threads: int | None = None,
    prune: bool = False,
) -> Precomputed:
    """Store the vectors of the products of dataset `data` by the member in `folder`.

    Only those are computed that the store in `out` lacks; `prune` forgets those of products that
    the dataset does not hold. Killed and called again, it goes on where it was.
    """
    trained = find_trained(folder)
    shelf = _shelf(out, data, trained)
    with threads_limited(choose_threads(threads)):
        embedder = open_embedder(trained, member)
        products = read_catalogue(data)
        place = shelf.place_of(embedder)
        with watch(f"vectors of {embedder.name}") as report:
            started = time.monotonic()
            dones: list[int] = []

            def tick(done: int, total: int) -> None:
                dones.append(done)
                seconds = time.monotonic() - started
                said = f"{(done - dones[0]) / seconds:.0f} products/s" if len(dones) > 1 else ""
                report(Standing(done, total, said))

            store = embedder.precompute(products, place, tick)
            forgotten = store.keep_only(product_keys(products)) if prune else 0
            seconds = time.monotonic() - started
    computed = len(products) - dones[0]
    size = sum(path.stat().st_size for path in place.iterdir())
    return Precomputed(
        member=embedder.name,
        store=str(place),
        products=len(products),
        known=dones[0],
        computed=computed,
        forgotten=forgotten,
        seconds=seconds,
        products_per_second=computed / seconds if computed else None,
        precision=store.packing.precision,
        width=store.packing.width,
        stored=len(store),
        folder_bytes=size,
        bytes_per_product=size / len(store) if len(store) else None,
    )


def _shelf(out: Path | None, data: Path, trained: Trained) -> Shelf:
    """The folder to write to, which must be nobody else's."""
    if out is None:
        if trained.registry is None:
            raise ConfigError(
                f"{trained.folder} is no registry, where vectors have a place of their own; "
                "expected --out FOLDER"
            )
        return Shelf(trained.registry / VECTORS)
    check_folder(out, data, trained.folder)
    return Shelf(out)

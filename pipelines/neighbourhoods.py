"""The states of a catalogue's products with their neighbourhoods, computed ahead and stored.

A state depends on the member, on the product's texts and on what it hears: digests say which of
them changed since the last time, and only those are computed. Readers go on with what was there
until all of it is.
"""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.graphs.serving.neighbourly import Neighbourly, NeighbourlyMember
from models.registry import member_class
from models.states import STATES, open_states
from models.states.protocol import Digests
from models.surroundings import Surroundings
from models.vectors.packing import Packing
from models.vectors.source import Keys, product_keys
from models.workbench import Standing
from pipelines.console import Watch, unwatched
from pipelines.surroundings import read_present
from pipelines.trained import Trained, find_trained
from pipelines.training.threads import choose_threads, threads_limited

# Computed between two reports, and written at a time: what a kill may cost.
_BLOCK: Final = 1 << 13


@dataclass(frozen=True)
class Filled:
    """What a precomputation did for one member."""

    member: str
    store: str
    snapshot: str
    products: int
    known: int  # that a precomputation which was interrupted had left
    taken_over: int  # whose texts and neighbourhoods have not changed
    computed: int
    forgotten: int  # trainings before this one, whose states were there
    seconds: float
    products_per_second: float | None  # None where none was computed
    width: int


def precompute_states(
    folder: Path,
    data: Path,
    where: str | None = None,
    watch: Watch = unwatched,
    *,
    member: str | None = None,
    top: int | None = None,
    threads: int | None = None,
    prune: bool = False,
) -> list[Filled]:
    """Store the states of the products of dataset `data` by the graph members in `folder`.

    Of the `top` products with most behaviours, or of all; by the one of the name `member`, or by
    all. Killed and called again, it goes on where it was. `prune` forgets what members of those
    names had stored before they were trained again.
    """
    trained = find_trained(folder)
    chosen = graph_members(trained, member)
    if not chosen:
        return []
    store = states_place(trained, where)
    with threads_limited(choose_threads(threads)):
        surroundings = read_present(data)
        rows = most_seen(surroundings, top)
        keys = product_keys(surroundings.products.take(rows))
        return [
            _fill(one, surroundings, rows, keys, store, watch, prune=prune)
            for one in (_loaded(trained, name) for name in chosen)
        ]


def graph_members(trained: Trained, name: str | None = None) -> list[str]:
    """The names of the members of `trained` that hear neighbourhoods, or the one of that name."""
    return [
        one.name
        for one in trained.members
        if issubclass(member_class(one.kind), Neighbourly) and name in (None, one.name)
    ]


def most_seen(surroundings: Surroundings, top: int | None) -> NDArray[np.int64]:
    """The rows of the `top` products by the weight of their behaviours, ascending; all without."""
    products = len(surroundings.products)
    if top is None or top >= products:
        return np.arange(products)
    behaviours = surroundings.behaviours
    seen = np.bincount(behaviours.product_rows, behaviours.weights, minlength=products)
    return np.sort(np.argsort(-seen, kind="stable")[:top])


def _loaded(trained: Trained, name: str) -> NeighbourlyMember:
    (one,) = [each for each in trained.members if each.name == name]
    return cast(NeighbourlyMember, member_class(one.kind).load(one.folder))


def _fill(
    member: NeighbourlyMember,
    surroundings: Surroundings,
    rows: NDArray[np.int64],
    keys: Keys,
    where: str,
    watch: Watch,
    *,
    prune: bool,
) -> Filled:
    started = time.monotonic()
    products = surroundings.products
    with ExitStack() as held, watch(f"neighbourhoods of {member.name}") as report:
        member = member.amid(surroundings)
        digests = np.concatenate(
            [np.empty(0, np.uint64), *(member.catalogue_digests(products, part)
                                       for part in _blocks(rows))]
        )  # fmt: skip
        identity, packing = member.vectors_identity(), member.state_packing()
        name = snapshot_name(keys, digests)
        store = held.enter_context(closing(open_states(where, member.name, identity, packing)))
        forgotten = store.forget_others() if prune else 0
        current = store.current()
        # A store may have lost some of what it had, as a Redis that is full does.
        if current is not None and current.name == name and len(current) == len(rows):
            report(Standing(len(rows), len(rows), "nothing has changed"))
            return Filled(member.name, store.where, name, len(rows), 0, len(rows), 0, forgotten,
                          time.monotonic() - started, None, packing.width)  # fmt: skip
        with store.begin(name) as draft:
            known = draft.known(keys)
            taken = draft.take_over(keys, digests) & ~known
            missing = np.flatnonzero(~(known | taken))
            begun, done = time.monotonic(), len(rows) - len(missing)
            for part in _blocks(missing):
                states = member.catalogue_states(products, rows[part])
                draft.append(keys[part], digests[part], states)
                done += len(part)
                speed = (done - len(rows) + len(missing)) / (time.monotonic() - begun)
                report(Standing(done, len(rows), f"{speed:,.0f} products/s"))
            draft.commit(len(rows))
    seconds = time.monotonic() - started
    return Filled(
        member=member.name,
        store=store.where,
        snapshot=name,
        products=len(rows),
        known=int(known.sum()),
        taken_over=int(taken.sum()),
        computed=len(missing),
        forgotten=forgotten,
        seconds=seconds,
        products_per_second=len(missing) / seconds if len(missing) else None,
        width=packing.width,
    )


def snapshot_name(keys: Keys, digests: Digests) -> str:
    """The name of a snapshot of just these states, whatever their order."""
    order = np.lexsort(keys.T[::-1])
    return sha256(keys[order].tobytes() + digests[order].tobytes()).hexdigest()[:16]


def _blocks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def states_place(trained: Trained, where: str | None) -> str:
    """Where states go: the place that is given, or a registry's own.

    An address that leads nowhere is an error at once; nothing is asked or made there.
    """
    if where is None:
        if trained.registry is None:
            raise ConfigError(
                f"{trained.folder} is no registry, where states have a place of their own; "
                "expected --to with a folder, a file that ends in .sqlite, or redis://host:6379/0"
            )
        where = str(trained.registry / STATES)
    open_states(where, "any", "any", Packing("fp16", 1)).close()
    return where

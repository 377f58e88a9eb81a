"""Seeded sampling of neighbours, the same for training, precomputation and serving.

Every edge has a rank that its two ends and the draw decide, and a node hears the neighbours of the
lowest ranks. So what a node hears does not depend on who else is asked for, on where rows lie or on
how many machines share the work; a new edge displaces one neighbour at most; and another draw is
another sample, each of them uniform over all sets of that many neighbours.

pyg-lib, where it can be imported, draws for a training in our stead, and then only uniformly and
without exclusions. Its `neighbor_sample` can do no more of the above: it spends torch's random
numbers on the nodes in the order in which they are asked for, so that a sample depends on who else
is, and it takes nothing that leaves out an edge, which inductive training has to. Sets come as
often as ours but for the rounding of its numbers: it takes 16 random bits modulo the number of
neighbours, up to 65,535 of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.graphs.adjacency import Adjacency, NodeRows, edge_places
from models.graphs.keys import NodeKeys, mixed

By = Literal["uniform", "weight"]

# Edges looked at together: what is made of them stays in a core's cache.
_MOST_EDGES: Final = 1 << 15
_LAST: Final = np.uint64(2**64 - 1)


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What must not be heard: every edge of some nodes, and some edges by their two ends."""

    nodes: NDArray[np.bool_] | None = None  # (nodes of the graph,)
    edges: NDArray[np.int64] | None = None  # hearer * nodes of the graph + heard, ascending

    def allows(
        self, hearers: NDArray[np.integer], heard: NDArray[np.integer], nodes: int
    ) -> NDArray[np.bool_]:
        """Whether each edge may be heard; arrays of one shape, or that broadcast to `heard`'s."""
        allowed = np.ones(heard.shape, bool)
        if self.nodes is not None:
            allowed &= ~(self.nodes[heard] | self.nodes[hearers])
        if self.edges is not None and len(self.edges):
            keys = hearers.astype(np.int64) * nodes + heard
            at = np.minimum(np.searchsorted(self.edges, keys), len(self.edges) - 1)
            allowed &= self.edges[at] != keys
        return allowed


@dataclass(frozen=True, eq=False)
class Sampled:
    """The neighbours that each of some nodes hears, in the order of the nodes."""

    counts: NDArray[np.int64]  # (nodes,)
    neighbours: NDArray[np.int64]  # (edges,), rows of the graph, ascending within a node
    places: NDArray[np.int64]  # (edges,), of each edge in its adjacency


@dataclass(frozen=True)
class Draw:
    """Which neighbours are heard where there are more than can be."""

    number: int  # another number is another sample
    by: By = "uniform"
    # For one step of a training, so that nobody needs the same sample of other nodes.
    passing: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.number < 2**63:
            raise ConfigError(f"draw {self.number}: expected a number from 0 to 2**63 - 1")

    def ranks(self, hearers: NodeKeys, heard: NodeKeys) -> NDArray[np.uint64]:
        """A rank per edge; two neighbours of a node never have the same, for mixing loses nothing.

        Of arrays that broadcast.
        """
        return mixed(mixed(hearers ^ np.uint64(self.number)) ^ heard)


def _waits(ranks: NDArray[np.uint64], weights: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Ranks by weight: the heavier an edge, the sooner its turn comes.

    Sets come as if neighbours were drawn one after another, each with a chance in proportion to its
    weight: -log(u) / w ranks them so (Efraimidis and Spirakis 2006).
    """
    uniform = ((ranks >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    # Floats above zero have the order of their bits.
    return (-np.log(uniform) / weights).view(np.uint64)


def sample(
    adjacency: Adjacency,
    keys: NodeKeys,
    nodes: NodeRows,
    fan_out: int,
    draw: Draw,
    excluded: Exclusion | None = None,
) -> Sampled:
    """At most `fan_out` neighbours of each of `nodes`; none of a node that is not in the graph.

    `keys` are those of all nodes of the graph.
    """
    if fan_out < 1:
        raise ConfigError(f"fan_out {fan_out}: expected at least 1")
    if draw.passing and draw.by == "uniform" and excluded is None and (pyg_lib := _pyg_lib()):
        return _drawn_by(pyg_lib, adjacency, nodes, fan_out, draw.number)
    starts, degrees = _rows(adjacency, nodes)
    # Most nodes of a catalogue have few neighbours, and nothing to choose.
    unclear = np.flatnonzero(degrees > (0 if excluded else fan_out))
    counts, found = degrees.copy(), []
    for edges in _looked_at(adjacency, nodes, unclear, excluded):
        chosen = edges.allowed
        heard_by = np.count_nonzero(chosen, axis=1)
        if (heard_by > fan_out).any():
            ranks = draw.ranks(keys[nodes[edges.rows]][:, None], keys.take(edges.heard))
            if draw.by == "weight":
                ranks = _waits(ranks, adjacency.weights.take(edges.places))
            ranks[~chosen] = _LAST
            chosen &= ranks <= np.partition(ranks, fan_out - 1, axis=1)[:, fan_out - 1 : fan_out]
            heard_by = np.count_nonzero(chosen, axis=1)
            if (heard_by > fan_out).any():  # of equal ranks, those of the first rows
                chosen &= np.cumsum(chosen, axis=1) <= fan_out
                heard_by = np.minimum(heard_by, fan_out)
        counts[edges.rows] = heard_by
        found.append((edges.rows, edges.places[chosen]))
    places = edge_places(starts, counts)
    begins = np.cumsum(counts) - counts
    for rows, chosen_places in found:
        places[edge_places(begins[rows], counts[rows])] = chosen_places
    return Sampled(counts, adjacency.indices.take(places).astype(np.int64), places)


def allowed_degrees(
    adjacency: Adjacency, nodes: NodeRows, excluded: Exclusion | None
) -> NDArray[np.int64]:
    """How many neighbours each of `nodes` may hear; none of a node that is not in the graph."""
    degrees = _rows(adjacency, nodes)[1]
    if excluded:
        for edges in _looked_at(adjacency, nodes, np.flatnonzero(degrees), excluded):
            degrees[edges.rows] = np.count_nonzero(edges.allowed, axis=1)
    return degrees


class _Edges(NamedTuple):
    """All edges of some nodes, one row for each, as wide as the longest needs."""

    rows: NDArray[np.int64]  # (rows,), places among the nodes that are asked
    places: NDArray[np.int64]  # (rows, width), of each edge in its adjacency; any past its end
    heard: NDArray[np.int32]  # (rows, width)
    allowed: NDArray[np.bool_]  # (rows, width), never past the end


def _looked_at(
    adjacency: Adjacency, nodes: NodeRows, rows: NDArray[np.int64], excluded: Exclusion | None
) -> Iterator[_Edges]:
    """The edges of `nodes[rows]`, which have some, in pieces of nodes of about as many."""
    starts, degrees = _rows(adjacency, nodes)
    order = rows[np.argsort(degrees[rows])]
    end = len(order)
    while end:
        width = int(degrees[order[end - 1]])
        begin = max(0, end - max(1, _MOST_EDGES // width))
        mine = order[begin:end]
        end = begin
        columns = np.arange(width)
        places = np.minimum(starts[mine][:, None] + columns, len(adjacency) - 1)
        allowed = columns < degrees[mine][:, None]
        heard = adjacency.indices.take(places)
        if excluded:
            allowed &= excluded.allows(nodes[mine][:, None], heard, adjacency.nodes)
        yield _Edges(mine, places, heard, allowed)


def _rows(adjacency: Adjacency, nodes: NodeRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the edges of each node start, and how many there are."""
    if not adjacency.nodes:
        return np.zeros(len(nodes), np.int64), np.zeros(len(nodes), np.int64)
    known = np.maximum(nodes, 0)
    starts = adjacency.indptr[known]
    return starts, np.where(nodes >= 0, adjacency.indptr[known + 1] - starts, 0)


@cache
def _pyg_lib() -> Any:
    """The module, or None where there is none that can be imported."""
    if find_spec("pyg_lib") is None:
        return None
    try:
        return import_module("pyg_lib")
    except (ImportError, OSError, RuntimeError):  # it was built for another torch
        return None


def _drawn_by(
    pyg_lib: Any, adjacency: Adjacency, nodes: NodeRows, fan_out: int, number: int
) -> Sampled:
    """What `sample` returns, uniformly drawn; the same for the same nodes in the same order."""
    # Imported here, and only where pyg-lib has imported it already.
    import torch

    known = np.flatnonzero(nodes >= 0)
    arrays = (adjacency.indptr, adjacency.wide_indices, nodes[known])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        hearers, _, _, edges, *_ = pyg_lib.sampler.neighbor_sample(
            *map(torch.from_numpy, arrays), [fan_out]
        )
    rows, places = known[hearers.numpy()], edges.numpy()
    order = np.lexsort((places, rows))
    places = places[order]
    counts = np.bincount(rows, minlength=len(nodes))
    return Sampled(counts, adjacency.indices[places].astype(np.int64), places)

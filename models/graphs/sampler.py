"""Seeded sampling of neighbours, the same for training, precomputation and serving.

Every edge has a rank that its two ends and the draw decide, and a node hears the neighbours of the
lowest ranks. So what a node hears does not depend on who else is asked for, on where rows lie or on
how many machines share the work; a new edge displaces one neighbour at most; and another draw is
another sample, each of them uniform over all sets of that many neighbours.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.graphs.adjacency import Adjacency, NodeRows, edge_places
from models.graphs.keys import NodeKeys, mixed

By = Literal["uniform", "weight"]

# Edges looked at together: some hundred megabytes of intermediate arrays.
_MOST_EDGES: Final = 1 << 22
_LOW: Final = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, eq=False)
class Exclusion:
    """What must not be heard: every edge of some nodes, and some edges by their two ends."""

    nodes: NDArray[np.bool_] | None = None  # (nodes of the graph,)
    edges: NDArray[np.int64] | None = None  # hearer * nodes of the graph + heard, ascending

    def allows(
        self, hearers: NDArray[np.integer], heard: NDArray[np.integer], nodes: int
    ) -> NDArray[np.bool_]:
        """Whether each edge may be heard."""
        allowed = np.ones(len(heard), bool)
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

    def __post_init__(self) -> None:
        if not 0 <= self.number < 2**63:
            raise ConfigError(f"draw {self.number}: expected a number from 0 to 2**63 - 1")

    def ranks(
        self, hearers: NodeKeys, heard: NodeKeys, weights: NDArray[np.float32]
    ) -> NDArray[np.uint64]:
        """A rank of 32 bits per edge.

        By weight, sets come as if neighbours were drawn one after another, each with a chance in
        proportion to its weight: -log(u) / w ranks them so (Efraimidis and Spirakis 2006).
        """
        bits = mixed(mixed(hearers ^ np.uint64(self.number)) ^ heard) >> np.uint64(32)
        if self.by == "uniform":
            return bits
        uniform = (bits.astype(np.float64) + 0.5) / 2.0**32
        # Floats above zero have the order of their bits.
        waits = (-np.log(uniform) / weights).astype(np.float32)
        return waits.view(np.uint32).astype(np.uint64)


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
    degrees = _degrees(adjacency, nodes)
    ends = np.cumsum(degrees)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(_MOST_EDGES, total, _MOST_EDGES), side="right")
    bounds = np.unique(np.concatenate([[0], cuts, [len(nodes)]]))
    parts = [
        _sample(adjacency, keys, nodes[a:b], degrees[a:b], fan_out, draw, excluded)
        for a, b in pairwise(bounds.tolist())
    ]
    if len(parts) == 1:
        return parts[0]
    nothing = np.empty(0, np.int64)
    return Sampled(
        np.concatenate([nothing, *(part.counts for part in parts)]),
        np.concatenate([nothing, *(part.neighbours for part in parts)]),
        np.concatenate([nothing, *(part.places for part in parts)]),
    )


def _degrees(adjacency: Adjacency, nodes: NodeRows) -> NDArray[np.int64]:
    if not adjacency.nodes:
        return np.zeros(len(nodes), np.int64)
    known = np.maximum(nodes, 0)
    degrees = adjacency.indptr[known + 1] - adjacency.indptr[known]
    return np.where(nodes >= 0, degrees, 0)


def _sample(
    adjacency: Adjacency,
    keys: NodeKeys,
    nodes: NodeRows,
    degrees: NDArray[np.int64],
    fan_out: int,
    draw: Draw,
    excluded: Exclusion | None,
) -> Sampled:
    starts = adjacency.indptr[np.maximum(nodes, 0)]
    if not excluded and (degrees <= fan_out).all():  # as most nodes of a catalogue
        places, _ = edge_places(starts, degrees)
        return Sampled(degrees, adjacency.indices[places].astype(np.int64), places)
    places, owners = edge_places(starts, degrees)
    neighbours = adjacency.indices[places]
    if excluded:
        allowed = excluded.allows(nodes[owners], neighbours, adjacency.nodes)
        places, owners, neighbours = places[allowed], owners[allowed], neighbours[allowed]
        degrees = np.bincount(owners, minlength=len(nodes))
    crowded = np.flatnonzero(degrees[owners] > fan_out)
    if len(crowded):
        owner = owners[crowded]
        ranks = draw.ranks(
            keys[nodes[owner]], keys[neighbours[crowded]], adjacency.weights[places[crowded]]
        )
        order = np.argsort((owner.astype(np.uint64) << np.uint64(32)) | (ranks & _LOW))
        of_each = degrees[degrees > fan_out]
        rank = np.arange(len(order)) - np.repeat(np.cumsum(of_each) - of_each, of_each)
        keep = np.ones(len(owners), bool)
        keep[crowded[order[rank >= fan_out]]] = False
        places, neighbours = places[keep], neighbours[keep]
        degrees = np.minimum(degrees, fan_out)
    return Sampled(degrees, neighbours.astype(np.int64), places)

"""Who is next to whom: edges as compressed rows, from each node to those whose states it hears."""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

NodeRows: TypeAlias = NDArray[np.int64]
"""Row numbers of nodes, shape (nodes,); -1 where a node is in no graph."""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """The neighbours of every node, ascending, each once; nobody is next to itself."""

    indptr: NDArray[np.int64]  # (nodes + 1,)
    indices: NDArray[np.int32]  # (edges,)
    weights: NDArray[np.float32]  # (edges,), above zero

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.weights) or self.indptr[-1] != len(self.indices):
            raise DataError(
                f"{self.indptr[-1]} edges by their counts, {len(self.indices)} neighbours and "
                f"{len(self.weights)} weights; expected as many of each"
            )

    @classmethod
    def empty(cls, nodes: int) -> Self:
        """Nodes without an edge."""
        nothing, unweighted = np.empty(0, np.int32), np.empty(0, np.float32)
        return cls(np.zeros(nodes + 1, np.int64), nothing, unweighted)

    @classmethod
    def of_edges(
        cls,
        ends: NDArray[np.integer],
        others: NDArray[np.integer],
        weights: NDArray[np.floating],
        nodes: int,
        most: int | None = None,
    ) -> Self:
        """Each edge in both directions; edges that come several times are one, their weights added.

        An edge to itself and one without weight are none. A node with more than `most` neighbours
        keeps those of most weight, of equal ones the first: they may still hear it.
        """
        chosen = (ends != others) & (weights > 0)
        ends, others = ends[chosen].astype(np.int64), others[chosen].astype(np.int64)
        once = weights[chosen].astype(np.float64)
        keys = np.concatenate([ends * nodes + others, others * nodes + ends])
        order = np.argsort(keys)  # not stable, and three times faster for it
        keys, doubled = keys[order], np.concatenate([once, once])[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        sums = np.add.reduceat(doubled, starts) if len(starts) else doubled
        at, neighbours = np.divmod(keys[starts], nodes)
        if most is not None:
            kept = _heaviest(at, sums, nodes, most)
            at, neighbours, sums = at[kept], neighbours[kept], sums[kept]
        indptr = np.zeros(nodes + 1, np.int64)
        np.cumsum(np.bincount(at, minlength=nodes), out=indptr[1:])
        return cls(indptr, neighbours.astype(np.int32), sums.astype(np.float32))

    @property
    def nodes(self) -> int:
        """How many nodes there are, with edges or without."""
        return len(self.indptr) - 1

    def __len__(self) -> int:
        return len(self.indices)

    def degrees(self) -> NDArray[np.int64]:
        """Neighbours of each node."""
        return np.diff(self.indptr)

    def neighbours(self, node: int) -> NDArray[np.int32]:
        """The neighbours of one node."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]


def edge_places(
    starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of every edge of rows that begin at `starts`, and the row that each belongs to."""
    owners = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    return places + np.repeat(starts - ends + counts, counts), owners


def _heaviest(
    at: NDArray[np.int64], weights: NDArray[np.float64], nodes: int, most: int
) -> NDArray[np.int64]:
    """The places of the `most` heaviest edges of each node, in order."""
    counts = np.bincount(at, minlength=nodes)
    crowded = np.flatnonzero(counts[at] > most)
    if not len(crowded):
        return np.arange(len(at))
    order = crowded[np.lexsort((-weights[crowded], at[crowded]))]
    of_each = counts[counts > most]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(of_each) - of_each, of_each)
    keep = counts[at] <= most
    keep[order[rank < most]] = True
    return np.flatnonzero(keep)

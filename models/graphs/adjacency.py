"""Who is next to whom: edges as compressed rows, from each node to those whose states it hears."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

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
        edges = int(self.indptr[-1]) if len(self.indptr) else -1
        if not edges == len(self.indices) == len(self.weights):
            raise DataError(
                f"{edges} edges by their counts, {len(self.indices)} neighbours and "
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
        weights = weights.astype(np.float32)
        chosen = (ends != others) & (weights > 0)
        ends, others = ends[chosen].astype(np.int32), others[chosen].astype(np.int32)
        # Added up once, for both directions; in numbers wide enough that their order tells nothing
        # once they are float32 again. scipy counts rows, which takes a quarter of the time that
        # sorting a million edges took.
        once = coo_array(
            (
                weights[chosen].astype(np.float64),
                (np.minimum(ends, others), np.maximum(ends, others)),
            ),
            shape=(nodes, nodes),
        ).tocsr()
        both = once + once.T.tocsr()
        indptr, indices = both.indptr.astype(np.int64), both.indices.astype(np.int32)
        sums = np.minimum(both.data, np.finfo(np.float32).max).astype(np.float32)
        if most is not None:
            degrees = np.diff(indptr)
            kept = _heaviest(degrees, sums, most)
            indices, sums = indices[kept], sums[kept]
            np.cumsum(np.minimum(degrees, most), out=indptr[1:])
        return cls(indptr, indices, sums)

    @property
    def nodes(self) -> int:
        """How many nodes there are, with edges or without."""
        return len(self.indptr) - 1

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def wide_indices(self) -> NDArray[np.int64]:
        """`indices` as wide as `indptr`, for a library that wants them so; kept once made."""
        return self.indices.astype(np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What makes it again, by the names of the fields."""
        return {"indptr": self.indptr, "indices": self.indices, "weights": self.weights}

    def degrees(self) -> NDArray[np.int64]:
        """Neighbours of each node."""
        return np.diff(self.indptr)

    def neighbours(self, node: int) -> NDArray[np.int32]:
        """The neighbours of one node."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]


def edge_places(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of every edge of rows that begin at `starts`, row by row."""
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    places += np.repeat(starts - ends + counts, counts)
    return places


def _heaviest(
    degrees: NDArray[np.int64], weights: NDArray[np.float32], most: int
) -> NDArray[np.int64]:
    """The places of the `most` heaviest edges of each node, in order."""
    is_crowded = degrees > most
    if not is_crowded.any():
        return np.arange(len(weights))
    starts = np.cumsum(degrees) - degrees
    of_each = degrees[is_crowded]
    places = edge_places(starts[is_crowded], of_each)
    owners = np.repeat(np.arange(len(of_each)), of_each)
    # Floats above zero have the order of their bits: the heaviest of each node come first.
    lightness = ~weights[places].view(np.uint32)
    order = np.argsort((owners.astype(np.uint64) << np.uint64(32)) | lightness, kind="stable")
    rank = np.arange(len(order)) - np.repeat(np.cumsum(of_each) - of_each, of_each)
    keep = np.ones(len(weights), bool)
    keep[places[order[rank >= most]]] = False
    return np.flatnonzero(keep)

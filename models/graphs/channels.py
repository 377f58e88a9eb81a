"""The relations of a graph as its convolutions hear them: all joined into one, or each by itself.

    <folder>/
      <number>.attributes.npy          float32 (edges, relations) of each channel
      <number>.indptr.npy, <number>.indices.npy, <number>.weights.npy      of one that joins several

A channel of one relation has the edges that the graph has. Joining takes seconds and room for every
process that does it; saved, channels are mapped as the graph is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import EsciError, ReleaseError
from models.graphs.adjacency import Adjacency
from models.graphs.arrays import mapped, save_array
from models.graphs.graph import Graph, edge_files, open_edges

_ATTRIBUTES: Final = "attributes.npy"

Merging = Literal["together", "apart"]


@dataclass(frozen=True, eq=False)
class Channel:
    """An adjacency that one convolution hears, with numbers of its own on every edge."""

    relations: tuple[str, ...]
    adjacency: Adjacency
    attributes: NDArray[np.float32]  # (edges, relations): log(1 + weight) in each


def channels(graph: Graph, relations: Sequence[str], merging: Merging) -> list[Channel]:
    """The relations as one channel whose weights are added, or as a channel each.

    Together, an edge keeps what each relation says of it: the released code of the paper this
    follows dropped that, so that its graph of all relations with attributes was that without.
    """
    return [_joined(graph, together) for together in _groups(relations, merging)]


def save_channels(found: Sequence[Channel], folder: Path) -> None:
    """Write the folder; whoever does seals it with what it lies in."""
    for number, channel in enumerate(found):
        arrays: dict[str, NDArray[Any]] = {f"{number}.{_ATTRIBUTES}": channel.attributes}
        if len(channel.relations) > 1:
            arrays |= edge_files(channel.adjacency, str(number))
        for name, array in arrays.items():
            save_array(folder / name, array)


def open_channels(
    graph: Graph, relations: Sequence[str], merging: Merging, folder: Path
) -> list[Channel]:
    """What `channels` returns, from the folder where it was saved, mapped."""
    found = []
    for number, together in enumerate(_groups(relations, merging)):
        said = " and ".join(together)
        try:
            attributes = mapped(folder / f"{number}.{_ATTRIBUTES}", "<f4", 2)
            edges = graph.relations[together[0]]
            if len(together) > 1:
                edges = open_edges(folder, str(number), said)
        except (OSError, ValueError, EsciError) as error:
            raise ReleaseError(f"{folder} holds no channel of {said}: {error}") from error
        if edges.nodes != len(graph) or attributes.shape != (len(edges), len(together)):
            raise ReleaseError(
                f"{folder} holds {len(edges)} edges of {edges.nodes} nodes for {said}, with "
                f"attributes of shape {attributes.shape}; expected {len(graph)} nodes, and a row "
                "for each edge with a number for each relation"
            )
        found.append(Channel(together, edges, attributes))
    return found


def _groups(relations: Sequence[str], merging: Merging) -> list[tuple[str, ...]]:
    """The relations of each channel."""
    return [tuple(relations)] if merging == "together" else [(name,) for name in relations]


def _joined(graph: Graph, relations: Sequence[str]) -> Channel:
    found = [(name, graph.relations[name]) for name in relations]
    if len(found) == 1:
        ((name, adjacency),) = found
        return Channel((name,), adjacency, np.log1p(adjacency.weights)[:, None])
    # Sorted, an edge's relations stand together, and a relation's edges in their own order.
    runs = [_edge_keys(edges) * len(found) + number for number, (_, edges) in enumerate(found)]
    keys = np.sort(np.concatenate(runs), kind="stable")  # which merges what is sorted already
    edges, of_relation = np.divmod(keys, len(found))
    is_first = np.append(True, edges[1:] != edges[:-1])[: len(edges)]
    places = np.cumsum(is_first) - 1
    at, neighbours = np.divmod(edges[is_first], max(len(graph), 1))
    weights = np.zeros((len(at), len(found)), np.float32)
    for number, (_, adjacency) in enumerate(found):
        weights[places[of_relation == number], number] = adjacency.weights
    indptr = np.zeros(len(graph) + 1, np.int64)
    np.cumsum(np.bincount(at, minlength=len(graph)), out=indptr[1:])
    merged = Adjacency(indptr, neighbours.astype(np.int32), weights.sum(axis=1))
    return Channel(tuple(relations), merged, np.log1p(weights))


def _edge_keys(adjacency: Adjacency) -> NDArray[np.int64]:
    hearers = np.repeat(np.arange(adjacency.nodes, dtype=np.int64), adjacency.degrees())
    return hearers * adjacency.nodes + adjacency.indices

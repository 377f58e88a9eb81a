"""The typed graph of one locale: its products, its queries, and an adjacency for each relation.

    <folder>/
      graph.json                       locale, counts, relations, and the SHA-256 of every array
      keys.npy                         uint64 (nodes,): products first, then queries
      <number>.indptr.npy, <number>.indices.npy, <number>.weights.npy      of each relation

Arrays are mapped: a graph of ten million edges is open at once, and processes share its pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import DataError, EsciError, ReleaseError
from models.files import atomic_file, file_sha256, read_json, write_json
from models.graphs.adjacency import Adjacency, NodeRows
from models.graphs.keys import NodeKeys
from models.locales import Locale
from models.typed import STRICT, complaints, parse, plain

GRAPH_FILE: Final = "graph.json"
_FORMAT: Final = 1
_KEYS: Final = "keys.npy"
_ARRAYS: Final = ("indptr", "indices", "weights")


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes of one locale, and who hears whom in each relation."""

    locale: Locale
    keys: NodeKeys  # (nodes,): of products, then of queries
    products: int
    relations: Mapping[str, Adjacency]

    def __post_init__(self) -> None:
        for name, adjacency in self.relations.items():
            if adjacency.nodes != len(self.keys):
                raise DataError(
                    f"relation {name!r} has {adjacency.nodes} nodes; expected {len(self.keys)}"
                )

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        order = np.argsort(self.keys)
        ordered = self.keys[order]
        if (ordered[1:] == ordered[:-1]).any():
            raise DataError(
                f"two nodes of the graph of {self.locale} have one key; expected each product and "
                "each query once"
            )
        return order

    @cached_property
    def _ordered(self) -> NodeKeys:
        return np.asarray(self.keys[self._order])

    def rows_of(self, keys: NodeKeys) -> NodeRows:
        """The row of each key; -1 where the graph has no such node."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._ordered, keys), len(self.keys) - 1)
        return np.where(self._ordered[at] == keys, self._order[at], -1).astype(np.int64)

    def is_query(self, rows: NodeRows) -> NDArray[np.bool_]:
        """Whether each row is a query's."""
        return rows >= self.products

    def save(self, folder: Path) -> None:
        """Write the folder; graph.json last, so that half of one is none."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPH_FILE).unlink(missing_ok=True)
        arrays: dict[str, NDArray[Any]] = {_KEYS: self.keys}
        for number, adjacency in enumerate(self.relations.values()):
            for part in _ARRAYS:
                arrays[f"{number}.{part}.npy"] = getattr(adjacency, part)
        for name, array in arrays.items():
            with atomic_file(folder / name) as scratch, scratch.open("wb") as target:
                np.save(target, np.asarray(array), allow_pickle=False)
        about = _About(
            _FORMAT,
            self.locale,
            self.products,
            len(self.keys) - self.products,
            tuple(self.relations),
            {name: file_sha256(folder / name) for name in arrays},
        )
        write_json(folder / GRAPH_FILE, plain(about))

    @classmethod
    def open(cls, folder: Path, *, verified: bool = False) -> Self:
        """The graph saved in `folder`, mapped; every file is what `save` wrote, or it is an error.

        Digests are left alone where they are `verified` already, as those of a member's folder are.
        """
        try:
            about = parse(_About, read_json(folder / GRAPH_FILE))
            if about.format != _FORMAT:
                raise ReleaseError(f"format {about.format} and this code reads {_FORMAT}")
            if not verified:
                _verify(folder, about)
            keys = mapped(folder / _KEYS, "<u8")
            relations = {}
            for number, name in enumerate(about.relations):
                parts = [
                    mapped(folder / f"{number}.{part}.npy", kind)
                    for part, kind in zip(_ARRAYS, ("<i8", "<i4", "<f4"), strict=True)
                ]
                relations[name] = _checked(Adjacency(*parts), name)
            if len(keys) != about.products + about.queries:
                raise ReleaseError(
                    f"{len(keys)} keys for {about.products} products and {about.queries} queries"
                )
            return cls(about.locale, keys, about.products, relations)
        except ValidationError as error:
            raise ReleaseError(f"{folder / GRAPH_FILE}: {complaints(error)}; {_AGAIN}") from error
        except (OSError, ValueError, EsciError) as error:
            raise ReleaseError(f"{folder} holds no whole graph: {error}; {_AGAIN}") from error


_AGAIN: Final = "train the member again, or restore the folder"


@dataclass(frozen=True)
class _About:
    __pydantic_config__ = STRICT

    format: int
    locale: Locale
    products: int
    queries: int
    relations: tuple[str, ...]
    files: dict[str, str]


def _verify(folder: Path, about: _About) -> None:
    numbers = range(len(about.relations))
    names = {_KEYS, *(f"{number}.{part}.npy" for number in numbers for part in _ARRAYS)}
    if set(about.files) != names:
        raise ReleaseError(f"digests of {sorted(about.files)}; expected of {sorted(names)}")
    for name, expected in about.files.items():
        if (digest := file_sha256(folder / name)) != expected:
            raise ReleaseError(f"{name} has SHA-256 {digest} and was written with {expected}")


def mapped(path: Path, kind: str, dimensions: int = 1) -> NDArray[Any]:
    """The array saved in `path`, mapped; OSError or ValueError where that holds another."""
    array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim != dimensions or array.dtype != np.dtype(kind):
        raise ValueError(f"{path.name} holds {array.dtype} of shape {array.shape}")
    return np.asarray(array)


def _checked(adjacency: Adjacency, name: str) -> Adjacency:
    indptr, indices, weights = adjacency.indptr, adjacency.indices, adjacency.weights
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ReleaseError(f"relation {name!r} has counts of edges that fall")
    if len(indices) and (indices.min() < 0 or indices.max() >= adjacency.nodes):
        raise ReleaseError(f"relation {name!r} names nodes that are not there")
    if not ((weights > 0) & (weights < np.inf)).all():
        raise ReleaseError(f"relation {name!r} has weights that are none")
    return adjacency


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
    found = [(name, graph.relations[name]) for name in relations]
    if merging == "apart" or len(found) == 1:
        return [
            Channel((name,), adjacency, np.log1p(adjacency.weights)[:, None])
            for name, adjacency in found
        ]
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
    return [Channel(tuple(name for name, _ in found), merged, np.log1p(weights))]


def _edge_keys(adjacency: Adjacency) -> NDArray[np.int64]:
    hearers = np.repeat(np.arange(adjacency.nodes, dtype=np.int64), adjacency.degrees())
    return hearers * adjacency.nodes + adjacency.indices

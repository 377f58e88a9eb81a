"""The typed graph of one locale: its products, its queries, and an adjacency for each relation.

    <folder>/
      graph.json                       locale, counts, relations, and the SHA-256 of every array
      keys.npy                         uint64 (nodes,): products first, then queries
      <number>.indptr.npy, <number>.indices.npy, <number>.weights.npy      of each relation

Arrays are mapped: a graph of ten million edges is open at once, and processes share its pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import DataError, EsciError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.graphs.adjacency import Adjacency, NodeRows
from models.graphs.arrays import mapped, save_array
from models.graphs.keys import NodeKeys
from models.locales import Locale
from models.typed import STRICT, complaints, parse, plain

GRAPH_FILE: Final = "graph.json"
_FORMAT: Final = 1
_KEYS: Final = "keys.npy"
_ARRAYS: Final = {"indptr": "<i8", "indices": "<i4", "weights": "<f4"}


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
            arrays |= edge_files(adjacency, str(number))
        for name, array in arrays.items():
            save_array(folder / name, array)
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
                relations[name] = open_edges(folder, str(number), name)
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


def edge_files(adjacency: Adjacency, stem: str) -> dict[str, NDArray[Any]]:
    """The arrays of an adjacency by the names of their files."""
    return {f"{stem}.{part}.npy": array for part, array in adjacency.arrays().items()}


def open_edges(folder: Path, stem: str, name: str) -> Adjacency:
    """The adjacency of the relation `name` whose arrays lie in `folder`, mapped."""
    parts = [mapped(folder / f"{stem}.{part}.npy", kind) for part, kind in _ARRAYS.items()]
    return _checked(Adjacency(*parts), name)


def _checked(adjacency: Adjacency, name: str) -> Adjacency:
    indptr, indices, weights = adjacency.indptr, adjacency.indices, adjacency.weights
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ReleaseError(f"relation {name!r} has counts of edges that fall")
    if len(indices) and (indices.min() < 0 or indices.max() >= adjacency.nodes):
        raise ReleaseError(f"relation {name!r} names nodes that are not there")
    if not ((weights > 0) & (weights < np.inf)).all():
        raise ReleaseError(f"relation {name!r} has weights that are none")
    return adjacency

"""What each row holds, as sorted hashes with a payload: a set per row that answers in bulk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.ragged import Indptr, expand, indptr_of, owners
from models.lexical.reading.hashing import Hashes

Merge = Callable[[NDArray[np.uint32], NDArray[np.int64]], NDArray[np.uint32]]
"""Payloads of equal elements, which stand together from each start on, to one for each start."""


def union(payload: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Every bit that any of the equal elements has."""
    return np.bitwise_or.reduceat(payload, starts)


@dataclass(frozen=True, eq=False)
class Postings:
    """Row i holds `hashes[indptr[i]:indptr[i + 1]]`, sorted and distinct, each with its payload."""

    indptr: Indptr
    hashes: Hashes
    payload: NDArray[np.uint32]

    @classmethod
    def of(
        cls,
        rows: int,
        owner: NDArray[Any],
        hashes: Hashes,
        payload: NDArray[np.uint32],
        merge: Merge = union,
    ) -> Self:
        """Postings of elements in any order; `merge` sees equal elements in no particular one."""
        keys = (owner.astype(np.uint64) << np.uint64(32)) | hashes
        order = np.argsort(keys)
        keys = keys[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        merged = merge(payload[order], starts) if len(starts) else payload[:0]
        kept = keys[starts]
        counts = np.bincount((kept >> np.uint64(32)).astype(np.int64), minlength=rows)
        return cls(indptr_of(counts), kept.astype(np.uint32), merged.astype(np.uint32))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """Row and hash of every element in one number, sorted."""
        rows = owners(self.indptr).astype(np.uint64)
        return (rows << np.uint64(32)) | self.hashes

    def find(self, rows: NDArray[Any], hashes: Hashes) -> NDArray[np.uint32]:
        """The payload of each hash in its row, zero where the row lacks it."""
        if not len(self.hashes):
            return np.zeros(len(rows), np.uint32)
        wanted = (rows.astype(np.uint64) << np.uint64(32)) | hashes
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.payload[at], np.uint32(0))

    def take(self, rows: NDArray[Any]) -> "Postings":
        """The postings of `rows`, in that order; rows may repeat."""
        indptr, elements = expand(self.indptr, rows)
        return Postings(indptr, self.hashes[elements], self.payload[elements])


def concatenated(parts: Sequence[Postings]) -> Postings:
    """The rows of all parts, one part after the other."""
    return Postings(
        indptr_of(np.concatenate([np.diff(part.indptr) for part in parts])),
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.payload for part in parts]),
    )

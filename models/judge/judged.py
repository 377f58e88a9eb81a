"""What is judged: labels with the queries and lists they belong to, and the systems that answer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.labels import LABELS, Codes
from models.texts import Rows

Floats = NDArray[np.float64]
GroupCodes = NDArray[np.int64]
"""One non-negative code per pair, without gaps: 0 to groups - 1."""


def dense_codes(values: NDArray[Any]) -> GroupCodes:
    """Codes of `values` in sorted order, so that they do not depend on the order of the pairs."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64).reshape(-1)


@dataclass(frozen=True, eq=False)
class Judged:
    """The labels of pairs, the query of each, and the result list of each.

    The query is the unit of resampling: pairs of one query stay together in every resample and
    are swapped together in every permutation. A list is what is ranked; a query may have several
    (one per locale), and a list lies within one query.
    """

    labels: Codes  # (pairs,)
    queries: GroupCodes  # (pairs,)
    lists: GroupCodes  # (pairs,)

    @classmethod
    def of(cls, labels: Codes, queries: NDArray[Any], lists: NDArray[Any] | None = None) -> Self:
        """Judged pairs from any values that tell queries and lists apart."""
        judged = cls(labels, dense_codes(queries), dense_codes(queries if lists is None else lists))
        if not len(labels) == len(judged.queries) == len(judged.lists):
            raise DataError(
                f"judged pairs need columns of one length; found labels {len(labels)}, "
                f"queries {len(judged.queries)}, lists {len(judged.lists)}"
            )
        if not len(labels):
            raise DataError("there are no judged pairs; expected at least one")
        owner = judged.list_queries
        if (astray := np.flatnonzero(owner[judged.lists] != judged.queries)).size:
            raise DataError(
                f"the list of pair {astray[0]} has pairs of two queries; "
                "a list must lie within one query, for queries are resampled whole"
            )
        return judged

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def query_count(self) -> int:
        """How many queries there are."""
        return int(self.queries.max()) + 1

    @cached_property
    def list_count(self) -> int:
        """How many lists there are."""
        return int(self.lists.max()) + 1

    @cached_property
    def list_queries(self) -> GroupCodes:
        """The query of each list, shape (lists,)."""
        owner = np.zeros(self.list_count, np.int64)
        owner[self.lists] = self.queries
        return owner

    def label_counts(self) -> NDArray[np.int64]:
        """How many pairs have each label, in the order of LABELS."""
        return np.bincount(self.labels, minlength=len(LABELS))

    def restricted(self, rows: Rows) -> tuple["Judged", GroupCodes]:
        """The pairs of `rows` with codes made dense again, and the old code of each query."""
        queries, kept = _without_gaps(self.queries[rows], self.query_count)
        lists, _ = _without_gaps(self.lists[rows], self.list_count)
        return Judged(self.labels[rows], queries, lists), kept


@dataclass(frozen=True, eq=False)
class System:
    """What one system says of every judged pair; its label is the likeliest, ties to the first."""

    name: str
    probabilities: Floats  # (pairs, 4), columns in the order of LABELS

    @classmethod
    def of(cls, name: str, probabilities: NDArray[np.floating[Any]]) -> Self:
        """A system from probabilities of any precision; the caller has checked that they are."""
        if probabilities.ndim != 2 or probabilities.shape[1] != len(LABELS):
            raise DataError(
                f"system {name!r} has probabilities of shape {probabilities.shape}; "
                f"expected (pairs, {len(LABELS)}), columns {', '.join(LABELS)}"
            )
        return cls(name, np.asarray(probabilities, np.float64))

    @cached_property
    def predicted(self) -> Codes:
        """The label the system gives each pair."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int8)

    def restricted(self, rows: Rows) -> "System":
        """What the system says of the pairs of `rows`."""
        return System(self.name, self.probabilities[rows])


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """`part / whole`, NaN where there is nothing to divide by."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    found: Floats = np.divide(part, whole, out=np.full(shape, np.nan), where=np.greater(whole, 0))
    return found


def _without_gaps(codes: GroupCodes, limit: int) -> tuple[GroupCodes, GroupCodes]:
    """`codes` renumbered without gaps, in the same order, and the old code of each new one."""
    present = np.zeros(limit, bool)
    present[codes] = True
    return (np.cumsum(present) - 1)[codes], np.flatnonzero(present)

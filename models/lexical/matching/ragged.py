"""Rows of unequal length in flat arrays: expanding, summing and choosing within them.

`indptr` has one entry more than there are rows; row i owns elements indptr[i] to indptr[i + 1].
Sums go element by element in order, so a row's sum is the same to the bit in any company.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indptr = NDArray[np.int64]


def indptr_of(lengths: NDArray[Any]) -> Indptr:
    """The row bounds of rows of these lengths."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def owners(indptr: Indptr) -> NDArray[np.int64]:
    """The row of every element."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def expand(indptr: Indptr, rows: NDArray[Any]) -> tuple[Indptr, NDArray[np.int64]]:
    """The row bounds and the elements of `rows`, one after the other; rows may repeat."""
    lengths = np.diff(indptr)[rows]
    bounds = indptr_of(lengths)
    elements = np.arange(bounds[-1], dtype=np.int64)
    elements += np.repeat(indptr[:-1][rows] - bounds[:-1], lengths)
    return bounds, elements


def sums(values: NDArray[Any], owner: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """The sum of each row's values; zero where a row has none."""
    # np.bincount adds in order, one by one. np.add.reduceat adds pairwise and hands an empty row
    # the element that follows it.
    return np.bincount(owner, weights=values, minlength=rows).astype(np.float64, copy=False)


def firsts(values: NDArray[Any], indptr: Indptr, default: int) -> NDArray[np.int64]:
    """The smallest of each row's values, or `default` where a row is empty."""
    return _reduce(np.minimum, values, indptr, default)


def lasts(values: NDArray[Any], indptr: Indptr, default: int) -> NDArray[np.int64]:
    """The largest of each row's values, or `default` where a row is empty."""
    return _reduce(np.maximum, values, indptr, default)


def _reduce(
    operation: np.ufunc, values: NDArray[Any], indptr: Indptr, default: int
) -> NDArray[np.int64]:
    found = np.full(len(indptr) - 1, default, np.int64)
    filled = np.flatnonzero(np.diff(indptr))
    if filled.size:
        found[filled] = operation.reduceat(values, indptr[:-1][filled])
    return found

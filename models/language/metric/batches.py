"""Batches that hold several products of a query, for losses that compare them."""

import numpy as np
from numpy.typing import NDArray


def grouped_batches(
    queries: NDArray[np.int64],
    lengths: NDArray[np.int64],
    batch_size: int,
    per_query: int,
    generator: np.random.Generator,
    pool: int = 50,
) -> list[NDArray[np.int64]]:
    """Every row once, in batches of `batch_size`, up to `per_query` rows of a query side by side.

    Groups of rows are drawn at random, sorted by their longest row within pools of `pool` batches,
    so that little is padding, and cut into batches; the batches come in random order. A cut may go
    through a group. `queries` are codes and `lengths` tokens, one per row.
    """
    if not len(queries):
        return []
    group = _groups(queries, per_query, generator)
    count = int(group.max()) + 1
    longest = np.zeros(count, np.int64)
    np.maximum.at(longest, group, lengths)
    shuffled = generator.permutation(count)  # the place of each group
    # Rows before a group's own in shuffled order tell which pool it falls into.
    sizes = np.bincount(group, minlength=count)
    by_place = np.argsort(shuffled)
    before = np.empty(count, np.int64)
    before[by_place] = np.cumsum(sizes[by_place]) - sizes[by_place]
    pools = before // (batch_size * pool)
    order = np.lexsort((shuffled[group], longest[group], pools[group]))
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    return [batches[at] for at in generator.permutation(len(batches))]


def _groups(
    queries: NDArray[np.int64], per_query: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """A group per row: the rows of each query, in random order, cut into groups of `per_query`."""
    order = generator.permutation(len(queries))
    order = order[np.argsort(queries[order], kind="stable")]
    is_first = np.diff(queries[order], prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(is_first | (place % per_query == 0)) - 1
    return group

"""Held-out pairs in two halves: what int8 is shaped by, and what judges it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Halves:
    """Rows of the held-out pairs, each part rising."""

    choosing: NDArray[np.int64]
    judging: NDArray[np.int64]


def halved(query_rows: NDArray[np.int32]) -> Halves:
    """About as many pairs on both sides and no query on two, drawn, and the same every time.

    Pairs of one query alone cannot be parted: they are both sides.
    """
    queries, at, counts = np.unique(query_rows, return_inverse=True, return_counts=True)
    everything = np.arange(len(query_rows))
    if len(queries) < 2:
        return Halves(everything, everything)
    drawn = np.random.default_rng(0).permutation(len(queries))
    # A query goes where its middle pair falls, so neither side is ever empty.
    middles = np.cumsum(counts[drawn]) - counts[drawn] / 2
    chooses = np.isin(at, drawn[middles <= len(query_rows) / 2])
    return Halves(everything[chooses], everything[~chooses])

"""Resamples and permutations of queries as matrices of weights, and intervals from resamples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.judge.judged import Floats, GroupCodes

LEVEL: Final = 0.95

# The least share of resamples that must have a metric for its interval to mean anything. Where one
# query alone decides a metric, 63 % of the resamples draw it and all agree; where two do, 86 %.
_FEWEST_DEFINED: Final = 0.8

# Rows of weights turned into float64 at a time: 32 MiB for a thousand draws.
_BLOCK_ROWS: Final = 4096
# Draws made before they are turned into columns: writing one column at a time misses the cache.
_BLOCK_DRAWS: Final = 64


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each query counts in each draw, shape (queries, draws).

    Kept as single bytes, so that a thousand draws of fifty thousand queries take 50 MB. A query
    drawn more than 255 times among at least as many has a chance below 1e-500.
    """

    counts: NDArray[np.uint8]

    def __len__(self) -> int:
        return int(self.counts.shape[1])

    def totals(self, sums: Floats, units: GroupCodes) -> Floats:
        """Sums per query added up under each draw, shape (draws, width).

        Row i of `sums` belongs to query `units[i]`; several rows may share a query.
        """
        totals = np.zeros((sums.shape[1], len(self)))
        # Sparse columns are common (a bin nobody predicts, a label a slice lacks).
        live = np.flatnonzero(sums.any(axis=0))
        narrow = sums[:, live]
        for start in range(0, len(units), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            totals[live] += narrow[block].T @ self.counts[units[block]].astype(np.float64)
        return totals.T

    def weights(self, units: GroupCodes) -> Floats:
        """The weight of each unit in each draw, shape (units, draws)."""
        return self.counts[units].astype(np.float64)


def resample_queries(queries: int, resamples: int, seed: int) -> Draws:
    """Draw as many queries as there are, with replacement, as often as `resamples`.

    The same seed gives the same draws; the first n of more resamples are the n of fewer.
    """
    _check_count("resamples", resamples)
    rng = np.random.default_rng(seed)
    return _draw(
        queries,
        resamples,
        lambda: np.bincount(rng.integers(0, queries, queries), minlength=queries),
    )


def swap_queries(queries: int, permutations: int, seed: int) -> Draws:
    """Mark each query with probability one half, as often as `permutations`."""
    _check_count("permutations", permutations)
    # Another stream than the resamples of the same seed.
    rng = np.random.default_rng([seed, 1])
    return _draw(queries, permutations, lambda: rng.integers(0, 2, queries, dtype=np.uint8))


class Estimate(NamedTuple):
    """A value with its percentile interval; None where there is no such thing.

    There is no interval where fewer than two queries decide the value: resamples of one query are
    all alike, which would look like certainty.

    `bias` is the mean of the resamples less the value. Metrics that cannot be negative and vanish
    for a perfect system (calibration errors, OPIS) grow under any noise, resampling included, so
    their interval sits above the value by about this much.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bias: float | None = None

    @property
    def is_shifted(self) -> bool:
        """Whether the bias is more than half a standard error of a normal estimate."""
        if self.low is None or self.high is None or self.bias is None:
            return False
        return abs(self.bias) > (self.high - self.low) / 8 and abs(self.bias) > 1e-12

    def to_json(self) -> dict[str, float | None]:
        """The estimate as a JSON object."""
        return self._asdict()


def estimates(values: Floats, replicates: Floats, level: float = LEVEL) -> list[Estimate]:
    """An estimate per column of `replicates`, from the resamples in which the metric is defined.

    Without an interval where too few are: such a metric rests on one query.
    """
    tail = (1 - level) / 2
    found = []
    for value, column in zip(values.tolist(), replicates.T, strict=True):
        defined = column[np.isfinite(column)]
        if not np.isfinite(value):
            found.append(Estimate(None))
        elif defined.size < _FEWEST_DEFINED * len(column):
            found.append(Estimate(value))
        else:
            low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
            found.append(Estimate(value, low, high, float(defined.mean()) - value))
    return found


def _draw(queries: int, draws: int, one: Callable[[], NDArray[np.integer[Any]]]) -> Draws:
    counts = np.empty((queries, draws), np.uint8)
    for start in range(0, draws, _BLOCK_DRAWS):
        stop = min(start + _BLOCK_DRAWS, draws)
        counts[:, start:stop] = np.array([one() for _ in range(start, stop)], np.uint8).T
    return Draws(counts)


def _check_count(what: str, count: int) -> None:
    if count < 1:
        raise ConfigError(f"{what} is {count}; expected at least 1 (1000 is usual)")

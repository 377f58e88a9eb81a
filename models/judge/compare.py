"""Two systems on the same pairs: differences with intervals, and how surprising each would be."""

from typing import Any, Final, NamedTuple

import numpy as np

from models.judge.family import Assessment, Family, Prepared
from models.judge.judged import Floats
from models.judge.resample import Draws, Estimate, estimates

TEST: Final = (
    "paired approximate randomisation: in each permutation the two systems swap their answers on "
    "a random half of the queries; p = (1 + permutations with at least this absolute difference) "
    "/ (1 + permutations), two-sided"
)

# Sums in another order differ by rounding; a permutation that swaps nothing must count as a tie.
_ROUNDING: Final = 1e-10


class Difference(NamedTuple):
    """First less second for one metric, with its interval and the p-value of there being none.

    What has no interval has no p-value: swapping one query only turns the sign.
    """

    first: float | None
    second: float | None
    difference: Estimate
    p: float | None

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference.to_json(),
            "p": self.p,
        }


def compare(
    family: Family[Prepared],
    first: Assessment[Prepared],
    second: Assessment[Prepared],
    swaps: Draws,
) -> dict[str, Difference]:
    """The difference of every metric of a family.

    Both assessments must come from the same resamples, so that what makes a query hard for both
    systems cancels.
    """
    observed = first.values - second.values
    permuted = np.subtract(*family.swapped(first.prepared, second.prepared, swaps))
    found = estimates(observed, first.replicates - second.replicates)
    chances = randomisation_p(observed, permuted)
    return {
        name: Difference(
            _finite(one), _finite(other), difference, None if difference.low is None else _finite(p)
        )
        for name, one, other, difference, p in zip(
            family.metrics, first.values, second.values, found, chances, strict=True
        )
    }


def randomisation_p(observed: Floats, permuted: Floats) -> Floats:
    """Two-sided p-value of each metric, from permutations of shape (permutations, metrics).

    Permutations in which a metric has no value do not count; NaN where the observed one has none.
    """
    defined = np.isfinite(permuted)
    reach = np.abs(observed) - _ROUNDING * (1 + np.abs(observed))
    as_far = (np.abs(np.where(defined, permuted, 0)) >= reach) & defined
    p = (1 + as_far.sum(axis=0)) / (1 + defined.sum(axis=0))
    return np.where(np.isfinite(observed), p, np.nan)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

"""Fits the additive model: multinomial logistic regression on piecewise-linear bases.

    min over W, D, V of  -1/n Σ_i log softmax(B(x_i)(W + D_l(i)) + C_i V)[y_i]
                         + λ/2n (|√β W|² + δ|√β D|²) + κ/2n |V|²

with B the standardised basis of all features, D the deviations of each locale and C the word
indicators; β is 1 for a feature's straight line and the price of a bend for its other columns.
Needs scipy; nothing here runs when a member answers.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import LABELS, Codes
from models.lexical.matching.crosses import Crosses
from models.lexical.matching.pair_features import Features
from models.lexical.reading.hashing import Hashes
from models.lexical.weighing.additive import AdditiveModel, Knots
from models.locales import LOCALES, LocaleCodes

_LABELS: Final = len(LABELS)


@dataclass(frozen=True, eq=False)
class Sample:
    """Pairs with all that a fit needs of them."""

    features: Features
    locales: LocaleCodes
    crosses: Crosses
    queries: NDArray[np.int32]  # a number per distinct query
    labels: Codes
    weights: NDArray[np.float64]  # of each pair in the loss

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Penalties:
    """How strongly weights are drawn to zero, in the symbols of the module's formula."""

    curve: float  # λ
    bend: float  # β of the columns that bend a line
    locale: float  # δ
    cross: float  # κ; infinity leaves the indicators out


def quantile_knots(features: Features, most: int) -> Knots:
    """At most `most` knots per feature, at quantiles of its distinct values; the ends always."""
    found = []
    for column in features.T.astype(np.float64):
        distinct = np.unique(column)
        if len(distinct) > most:
            # Of the distinct values as well as of all: half of the pairs may share one value.
            within = distinct[np.linspace(0, len(distinct) - 1, most).astype(int)]
            among = np.quantile(column, np.linspace(0, 1, most), method="lower")
            both = np.unique(np.concatenate([within, among]))
            distinct = both[np.linspace(0, len(both) - 1, most).astype(int)]
        found.append(distinct if len(distinct) > 1 else np.append(distinct, distinct + 1.0)[:2])
    width = max(map(len, found), default=2)
    return np.stack([np.append(knots, np.full(width - len(knots), np.inf)) for knots in found])


def frequent_crosses(sample: Sample, least: int) -> Hashes:
    """The indicators that occur in at least `least` queries, sorted.

    An indicator of one query, however many products were judged for it, learns that query.
    """
    query = sample.queries[sample.crosses.owner].astype(np.uint64)
    seen = np.unique((sample.crosses.hash.astype(np.uint64) << np.uint64(32)) | query)
    found, queries = np.unique((seen >> np.uint64(32)).astype(np.uint32), return_counts=True)
    return found[queries >= least]


class Basis:
    """Standardised hinge functions of every feature, at knots."""

    def __init__(self, knots: Knots, features: Features) -> None:
        self.knots = knots
        self._feature, self._knot = np.nonzero(np.isfinite(knots[:, 1:]))
        raw = self._raw(features)
        self._mean, self._scale = raw.mean(axis=0), raw.std(axis=0)
        self._scale[self._scale < 1e-6] = np.inf  # a constant column gets no weight

    def __len__(self) -> int:
        return len(self._feature)

    @property
    def bends(self) -> NDArray[np.bool_]:
        """Which columns bend the straight line that the first of a feature is."""
        return np.asarray(self._knot > 0)

    def _raw(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """max(0, min(x, last knot) - knot) of every knot but the last, (rows, columns)."""
        last = np.max(np.where(np.isfinite(self.knots), self.knots, -np.inf), axis=1)
        clipped = np.minimum(features, last.astype(np.float32))
        starts = self.knots[self._feature, self._knot].astype(np.float32)
        return np.asarray(np.maximum(clipped[:, self._feature] - starts, 0), dtype=np.float32)

    def __call__(self, features: Features) -> NDArray[np.float32]:
        """The basis of each row, shape (rows, len(self))."""
        return np.asarray((self._raw(features) - self._mean) / self._scale, dtype=np.float32)

    def curves(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value at each knot of the curves with these weights, (features, knots, 4)."""
        width = self.knots.shape[1]
        values = np.zeros((*self.knots.shape, _LABELS))
        for knot in range(width):
            # A feature without this knot keeps its last value: its table ends there.
            at = np.where(np.isfinite(self.knots[:, knot]), self.knots[:, knot], 3e38)
            basis = (self._raw(at[None, :])[0] - self._mean) / self._scale
            np.add.at(values[:, knot], self._feature, basis[:, None] * weights)
        return values


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model, and the weights from which a fit with other penalties may start."""

    model: AdditiveModel
    weights: NDArray[np.float64]


def fit_additive(
    sample: Sample, basis: Basis, crosses: Hashes, penalties: Penalties, near: Fit | None = None
) -> Fit:
    """The model of least penalised log-loss; `crosses` are the indicators it may weigh."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    problem = _Problem(sample, basis, crosses, penalties)
    # One thread: sums that do not depend on the machine's cores, and L-BFGS takes many steps too
    # small to share (with two busy cores a tiny fit took ten times as long on two threads).
    with threadpool_limits(limits=1):
        result = minimize(
            problem,
            problem.start(near),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 300, "maxcor": 10, "ftol": 1e-7, "gtol": 1e-5},
        )
    return Fit(problem.model(result.x), result.x)


class _Problem:
    def __init__(self, sample: Sample, basis: Basis, crosses: Hashes, penalties: Penalties) -> None:
        self._basis, self._penalties = basis, penalties
        self._hashes = crosses if np.isfinite(penalties.cross) else crosses[:0]
        self._slots = len(self._hashes)
        order = np.argsort(sample.locales, kind="stable")
        self._design = basis(sample.features[order])
        self._bounds = np.searchsorted(sample.locales[order], np.arange(len(LOCALES) + 1))
        self._labels = sample.labels[order].astype(np.int64)
        self._weights = (sample.weights / sample.weights.sum() * len(sample))[order]
        if self._slots:
            self._crosses = _incidence(sample, self._hashes)[order]
            self._crosses_back = self._crosses.T.tocsr()
        self._columns = len(basis) + 1  # and the intercept
        self._dense = self._columns * _LABELS
        self.size = (1 + len(LOCALES)) * self._dense + self._slots * _LABELS
        # An intercept may follow the labels: it is what makes probabilities honest on average.
        self._strength = np.full((self._columns, 1), penalties.curve)
        self._strength[:-1][basis.bends] *= penalties.bend
        self._strength[-1] = 0.01

    def start(self, near: Fit | None) -> NDArray[np.float64]:
        """The curves of `near`, or weights that give every pair the shares of the labels."""
        weights = np.zeros(self.size)
        if near is not None:
            curves = min(self.size, len(near.weights), (1 + len(LOCALES)) * self._dense)
            weights[:curves] = near.weights[:curves]
            return weights
        counts = np.bincount(self._labels, self._weights, minlength=_LABELS) + 1.0
        shared = weights[: self._dense].reshape(self._columns, _LABELS)
        shared[-1] = np.log(counts / counts.sum())
        return weights

    def _split(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        shape = (1 + len(LOCALES), self._columns, _LABELS)
        dense = weights[: (1 + len(LOCALES)) * self._dense].reshape(shape)
        return dense[0], dense[1:], weights[dense.size :].reshape(self._slots, _LABELS)

    def __call__(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        shared, deviations, crosses = self._split(weights)
        logits = np.empty((len(self._labels), _LABELS))
        for locale in range(len(LOCALES)):
            rows = slice(*self._bounds[locale : locale + 2])
            own = shared + deviations[locale]
            logits[rows] = self._design[rows] @ own[:-1].astype(np.float32) + own[-1]
        if self._slots:
            logits += self._crosses @ crosses.astype(np.float32)

        here = np.arange(len(self._labels))
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        count = len(self._labels)
        loss = -(self._weights * (shifted - log_total)[here, self._labels]).sum()
        slope = np.exp(shifted - log_total)
        slope[here, self._labels] -= 1.0
        slope *= self._weights[:, None]

        penalties, strength = self._penalties, self._strength
        loss += 0.5 * (strength * shared**2).sum()
        loss += 0.5 * penalties.locale * (strength * deviations**2).sum()
        gradient = np.empty_like(weights)
        to_shared, to_deviations, to_crosses = self._split(gradient)
        to_shared[:] = strength * shared
        to_deviations[:] = penalties.locale * strength * deviations
        slope32 = slope.astype(np.float32)
        for locale in range(len(LOCALES)):
            rows = slice(*self._bounds[locale : locale + 2])
            pull = np.vstack([self._design[rows].T @ slope32[rows], slope[rows].sum(axis=0)])
            to_shared += pull
            to_deviations[locale] += pull
        if self._slots:
            loss += 0.5 * penalties.cross * (crosses**2).sum()
            to_crosses[:] = penalties.cross * crosses + self._crosses_back @ slope32
        return loss / count, gradient / count

    def model(self, weights: NDArray[np.float64]) -> AdditiveModel:
        """The model with these weights."""
        shared, deviations, crosses = self._split(weights)
        curves = np.stack([self._basis.curves((shared + own)[:-1]) for own in deviations])
        curves[:, 0] += (shared + deviations)[:, -1][:, None, :]
        return AdditiveModel(self._basis.knots, curves, self._hashes, crosses.astype(np.float32))


def _incidence(sample: Sample, hashes: Hashes) -> Any:
    """One row per pair, one column per indicator, ones where the pair has it."""
    from scipy.sparse import csr_array

    at = np.minimum(np.searchsorted(hashes, sample.crosses.hash), len(hashes) - 1)
    known = hashes[at] == sample.crosses.hash
    ones = np.ones(int(known.sum()), np.float32)
    return csr_array(
        (ones, (sample.crosses.owner[known], at[known])), shape=(len(sample), len(hashes))
    )

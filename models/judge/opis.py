"""OPIS: how differently one threshold serves different classes (Zhang et al., ICLR 2024).

The core knows distances and class numbers only. Whoever has other pairs (items of one class and of
two, say) brings their distances and reuses everything here:

    thresholds = grid(calibration_range(negative_distances))
    curves = utility(
        histogram(positive_distances, positive_classes, count, thresholds),
        histogram(negative_distances, negative_classes, count, thresholds),
    )
    spread(curves, np.ones((count, 1)), epsilon=0.1)

A histogram is additive, so distances may come in blocks. A pair that belongs to two classes is
handed in once for each.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.judge.judged import Floats

# The benchmark setting: false-accept rates of 1 % to 10 % over the pooled negatives.
FAR: Final = (1e-2, 1e-1)
THRESHOLDS: Final = 101


class Range(NamedTuple):
    """The distances between which one threshold would be set."""

    low: float
    high: float


def calibration_range(negative_distances: Floats, far: tuple[float, float] = FAR) -> Range | None:
    """The distances at which the pooled negatives are accepted at the two rates of `far`.

    None where there are no negatives or both rates fall on one distance.
    """
    if not negative_distances.size:
        return None
    low, high = np.quantile(negative_distances, far).tolist()
    return Range(low, high) if high > low else None


def grid(between: Range, thresholds: int = THRESHOLDS) -> Floats:
    """Equally spaced thresholds over the range, both ends included."""
    return np.linspace(between.low, between.high, thresholds)


def cells_of(
    distances: Floats, groups: NDArray[np.integer[Any]], thresholds: Floats
) -> NDArray[np.int64]:
    """The place of each distance in a flattened histogram of its group."""
    width = len(thresholds) + 1
    found: NDArray[np.int64] = groups.astype(np.int64) * width
    found += np.searchsorted(thresholds, distances)
    return found


def histogram(
    distances: Floats, groups: NDArray[np.integer[Any]], count: int, thresholds: Floats
) -> Floats:
    """Distances per group by the first threshold that accepts them, (count, thresholds + 1).

    A distance is accepted by a threshold it does not exceed; the last column is what none accepts.
    """
    width = len(thresholds) + 1
    cells = cells_of(distances, groups, thresholds)
    return np.bincount(cells, minlength=count * width).reshape(count, width).astype(np.float64)


def utility(positives: Floats, negatives: Floats, c: float = 1.0) -> Floats:
    """U(d) = (1 + c^2) phi psi / (c^2 phi + psi) from two histograms, shape (..., thresholds).

    psi(d) is the share of positives accepted at d, phi(d) the share of negatives refused. U is 0
    where both are 0, and NaN for a group without positives or without negatives.
    """
    with np.errstate(invalid="ignore"):
        psi = np.cumsum(positives, axis=-1)[..., :-1] / positives.sum(axis=-1, keepdims=True)
        phi = 1 - np.cumsum(negatives, axis=-1)[..., :-1] / negatives.sum(axis=-1, keepdims=True)
    below = c * c * phi + psi
    # Not `where=below > 0`, which would turn NaN into 0.
    found: Floats = np.divide(
        (1 + c * c) * phi * psi, below, out=np.zeros_like(below), where=below != 0
    )
    return found


class Spread(NamedTuple):
    """OPIS and both readings of epsilon-OPIS, one value per column of weights."""

    opis: Floats
    epsilon_a: Floats
    epsilon_b: Floats


def spread(curves: Floats, weights: Floats, epsilon: float) -> Spread:
    """How far the utility curves of classes lie apart, shape (draws,) each.

    `curves` has shape (classes, thresholds); `weights`, shape (classes, draws), holds whole
    numbers: how often each class counts. With T classes, mean curve Ubar, and means over d by the
    trapezoid rule:

    - OPIS = (1/T) sum_i OPIS_i, OPIS_i = mean over d of (U_i(d) - Ubar(d))^2;
    - epsilon-OPIS (A) = mean over d of (Ubar_W(d) - Ubar_R(d))^2, W the ceil(epsilon T) classes of
      lowest mean utility, R the rest;
    - epsilon-OPIS (B) = |mean of OPIS_i over W - mean of OPIS_i over R|.

    NaN where fewer than two classes count.
    """
    over_d = trapezoid_weights(curves.shape[1])
    squares = np.square(curves) @ over_d  # (classes,)
    # Ties in mean utility go by the curve's square, so that the order of classes decides nothing.
    order = np.lexsort((squares, curves @ over_d))
    curves, squares, weights = curves[order], squares[order], weights[order]
    total = weights.sum(axis=0)  # (draws,)
    worst_count = _worst_count(total, epsilon)
    head = _classes_until(weights, worst_count, epsilon)
    before = np.cumsum(weights[:head], axis=0)
    before -= weights[:head]
    worst = np.clip(worst_count - before, 0, weights[:head])  # (head, draws)
    return _spread(
        over_d,
        _Sums(total, curves.T @ weights, squares @ weights),
        _Sums(worst_count, curves[:head].T @ worst, squares[:head] @ worst),
    )


def spread_of_drawn(curves: Floats, epsilon: float) -> Spread:
    """`spread` where every draw has curves of its own, shape (classes, draws, thresholds).

    A class whose curve is NaN in a draw does not take part in that draw.
    """
    over_d = trapezoid_weights(curves.shape[2])
    defined = np.isfinite(curves[:, :, 0])  # (classes, draws)
    curves = np.where(defined[:, :, None], curves, 0.0)
    squares = np.square(curves) @ over_d  # (classes, draws)
    level = np.where(defined, curves @ over_d, np.inf)
    place = np.argsort(np.lexsort((squares, level), axis=0), axis=0)
    total = defined.sum(axis=0).astype(np.float64)
    worst_count = _worst_count(total, epsilon)
    worst = (place < worst_count).astype(np.float64)  # (classes, draws)
    return _spread(
        over_d,
        _Sums(total, curves.sum(axis=0).T, squares.sum(axis=0)),
        _Sums(worst_count, np.einsum("trd,tr->dr", curves, worst), (squares * worst).sum(axis=0)),
    )


def trapezoid_weights(thresholds: int) -> Floats:
    """Weights that average a curve over equally spaced thresholds, shape (thresholds,)."""
    weights = np.ones(thresholds)
    weights[[0, -1]] = 0.5
    return np.asarray(weights / weights.sum())


def worst_classes(curves: Floats, epsilon: float) -> NDArray[np.intp]:
    """The classes of lowest mean utility, worst first: the W of epsilon-OPIS."""
    over_d = trapezoid_weights(curves.shape[1])
    order = np.lexsort((np.square(curves) @ over_d, curves @ over_d))
    return order[: int(_worst_count(np.array([float(len(curves))]), epsilon)[0])]


class _Sums(NamedTuple):
    """Sums over some classes: how many they are, of their curves, of their mean squares."""

    classes: Floats  # (draws,)
    curve: Floats  # (thresholds, draws)
    square: Floats  # (draws,)


def _worst_count(total: Floats, epsilon: float) -> Floats:
    # A hair less, because 0.1 * 30 is more than 3 in floating point.
    return np.clip(np.ceil(epsilon * total - 1e-9), 1, np.maximum(total - 1, 1))


def _classes_until(weights: Floats, wanted: Floats, epsilon: float) -> int:
    """How many of the first classes hold the wanted weight in every draw.

    The worst tenth is found among the first few classes; looking no further saves most of the time.
    """
    head = int(1.2 * epsilon * len(weights)) + 64
    while head < len(weights) and (weights[:head].sum(axis=0) < wanted).any():
        head *= 2
    return min(head, len(weights))


def _spread(over_d: Floats, every: _Sums, worst: _Sums) -> Spread:
    count = np.where(every.classes >= 2, every.classes, np.nan)
    rest = _Sums(count - worst.classes, every.curve - worst.curve, every.square - worst.square)
    mean = every.curve / count
    mean_square = over_d @ np.square(mean)

    def mean_contribution(some: _Sums) -> Floats:
        """The mean of OPIS_i over some classes, from sums alone."""
        cross = over_d @ (mean * some.curve)
        found: Floats = (some.square - 2 * cross) / some.classes + mean_square
        return found

    gap = worst.curve / worst.classes - rest.curve / rest.classes
    return Spread(
        # Rounding can leave a hair below zero when all curves coincide.
        opis=np.maximum(every.square / count - mean_square, 0),
        epsilon_a=over_d @ np.square(gap),
        epsilon_b=np.abs(mean_contribution(worst) - mean_contribution(rest)),
    )

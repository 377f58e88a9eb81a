"""Scales that bring activations and weights to eight bits with the least harm to their product."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# How much of an input's spread is moved into its row of the weights: 0 none, 1 all of it.
_SHARES: Final = (0.4, 0.5, 0.6, 0.7, 0.8)
_ROW_SHARES: Final = (0.0, 0.5)
_LEAST: Final = 1e-3  # of the largest: an input that was hardly seen must not get any factor
_HEADROOM: Final = 1.1  # of a fixed scale, for texts that go beyond the sample
# What a costlier way has to save of the error: scales by row, and factors before them.
_WORTH_A_ROW: Final = 0.7
_WORTH_FACTORS: Final = 0.8


@dataclass(frozen=True)
class Eighths:
    """A matrix product in eight bits.

    With `inputs * factors - middle`, divided by the row's own largest where `by_row`, rounded at
    `scale` around `zero`: the product with `weights`, times `scale * weight_scales` and the row's
    largest, plus `shift`, is the product in floats.
    """

    factors: Floats | None  # (inputs,); None where all are 1
    middle: Floats | None  # (inputs,); None where all are 0
    by_row: bool
    two_sided: bool  # whether a row's largest is sought among negative numbers too
    scale: Floats  # ()
    zero: NDArray[np.uint8]  # ()
    weights: NDArray[np.int8]  # (inputs, outputs)
    weight_scales: Floats  # (outputs,)
    shift: Floats  # (outputs,)

    def product(self, inputs: Floats) -> Floats:
        """What the network will compute of `inputs` (tokens, inputs)."""
        if self.factors is not None:
            inputs = inputs * self.factors
        if self.middle is not None:
            inputs = inputs - self.middle
        largest = row_largest(inputs, self.two_sided) if self.by_row else np.float32(1)
        zero = np.float32(self.zero)
        steps = np.clip(np.rint(inputs / largest / self.scale) + zero, 0, 255) - zero
        sums = steps.astype(np.float32) @ self.weights.astype(np.float32)
        product: Floats = sums * (self.scale * self.weight_scales) * largest + self.shift
        return product


def row_largest(inputs: Floats, two_sided: bool) -> Floats:
    """The largest of each row, (tokens, 1), never zero."""
    sought: Floats = np.abs(inputs) if two_sided else inputs
    return np.asarray(np.maximum(sought.max(axis=1, keepdims=True), 1e-6), np.float32)


def eight_bits(inputs: Floats, weights: Floats) -> Eighths:
    """The product of `inputs` (tokens, inputs), a sample, and `weights` (inputs, outputs).

    Inputs differ in how far they spread, and one scale has to do for all of a token's: a part of
    each input's spread is moved into its row of the weights, which have a scale per column (Xiao
    et al. 2023, SmoothQuant, eq. 4, with the exponent chosen for every product). Where tokens
    differ so much that a fixed scale loses too much, every token gets its own. The choice is made
    on the second half of the sample by what the first half fits.
    """
    half = len(inputs) // 2 or len(inputs)
    fit, judge = inputs[:half], inputs[half:] if half < len(inputs) else inputs
    exact = judge @ weights

    def error(way: "_Way") -> float:
        lost = exact - way.of(fit, weights).product(judge)
        return float((lost**2).sum(dtype=np.float64))

    fixed = min((_Way(share, by_row=False) for share in _SHARES), key=error)
    plain, factored = (_Way(share, by_row=True) for share in _ROW_SHARES)
    row = factored if error(factored) < error(plain) * _WORTH_FACTORS else plain
    best = row if error(row) < error(fixed) * _WORTH_A_ROW else fixed
    return best.of(inputs, weights)


@dataclass(frozen=True)
class _Way:
    """One way to bring a product to eight bits."""

    share: float
    by_row: bool

    def of(self, inputs: Floats, weights: Floats) -> Eighths:
        factors = _factors(inputs, weights, self.share) if self.share else None
        if factors is not None:
            inputs, weights = inputs * factors, weights / factors[:, None]
        middle, two_sided = None, True
        if self.by_row:
            below = float(np.max(-inputs / row_largest(inputs, two_sided=False), initial=0.0))
            two_sided = below > 0.5
            below = 1.0 if two_sided else below
            zero, scale = np.rint(255 * below / (1 + below)), (1 + below) / 255
        else:
            middle = ((inputs.max(axis=0) + inputs.min(axis=0)) / 2).astype(np.float32)
            largest = max(float(np.abs(inputs - middle).max()), 1e-6) * _HEADROOM
            zero, scale = np.float64(128), largest / 127
        columns = np.maximum(np.abs(weights).max(axis=0) / 127, 1e-9).astype(np.float32)
        made = Eighths(
            factors=factors,
            middle=middle,
            by_row=self.by_row,
            two_sided=two_sided,
            scale=np.array(scale, np.float32),
            zero=np.array(zero, np.uint8),
            weights=np.clip(np.rint(weights / columns), -127, 127).astype(np.int8),
            weight_scales=columns,
            shift=np.zeros(weights.shape[1], np.float32),
        )
        if self.by_row:
            return made  # which makes nothing of nothing, as a network may rely on
        # What is always there goes past the rounding: the middle, and the mean of what is lost.
        given = inputs if factors is None else inputs / factors
        lost = inputs @ weights - made.product(given)
        return replace(made, shift=lost.mean(axis=0, dtype=np.float64).astype(np.float32))


def _factors(inputs: Floats, weights: Floats, share: float) -> Floats:
    spread = _floored(np.abs(inputs).max(axis=0))
    weight = _floored(np.abs(weights).max(axis=1))
    factors = weight ** (1 - share) / spread**share
    return np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)


def _floored(largest: Floats) -> Floats:
    return np.maximum(largest, max(float(largest.max()) * _LEAST, 1e-9))

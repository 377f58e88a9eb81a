"""Products in eight bits stay close to those in floats, whatever inputs look like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.language.serving.scales import eight_bits, row_largest


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def normal(rows: int, inputs: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, inputs)).astype(np.float32)


WEIGHTS = normal(48, 32, seed=0)


def loud_input(rows: int, seed: int) -> np.ndarray:
    found = normal(rows, 48, seed=seed)
    found[:, 7] *= 40
    return found


def loud_tokens(rows: int, seed: int) -> np.ndarray:
    found = normal(rows, 48, seed=seed)
    found[::10] *= 60
    return found


def nearly_positive(rows: int, seed: int) -> np.ndarray:
    return np.maximum(normal(rows, 48, seed=seed) * 5, np.float32(-0.17))


def off_centre(rows: int, seed: int) -> np.ndarray:
    return normal(rows, 48, seed=seed) + np.linspace(-30, 30, 48, dtype=np.float32)


@pytest.mark.parametrize("inputs", [loud_input, loud_tokens, nearly_positive, off_centre])
def test_new_tokens_lose_at_most_a_hundredth(inputs):
    made = eight_bits(inputs(400, 1), WEIGHTS)
    fresh = inputs(400, 2)
    assert relative_error(made.product(fresh), fresh @ WEIGHTS) < 0.011


def test_a_scale_by_row_is_for_tokens_that_differ():
    made = eight_bits(loud_tokens(400, 1), WEIGHTS)
    assert made.by_row
    assert made.two_sided
    alike = np.sign(normal(400, 48, seed=1)) * np.float32(3)
    assert not eight_bits(alike, WEIGHTS).by_row


def test_a_quiet_token_keeps_its_precision_beside_loud_ones():
    inputs = loud_tokens(400, 1)
    made = eight_bits(inputs, WEIGHTS)
    quiet = inputs[1:2]
    assert relative_error(made.product(quiet), quiet @ WEIGHTS) < 0.02


def test_factors_are_for_inputs_that_differ():
    made = eight_bits(loud_input(400, 1), WEIGHTS)
    assert made.factors is not None
    assert made.factors[7] < 0.5 * np.median(made.factors)


@given(st.integers(1, 40), st.integers(1, 20), st.floats(1e-4, 1e4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_sample_gives_finite_scales(rows, width, size, seed):
    inputs = normal(rows, width, seed=seed) * np.float32(size)
    weights = normal(width, 5, seed=seed + 1)
    made = eight_bits(inputs, weights)
    assert np.isfinite(made.product(inputs * 3)).all()
    assert made.weight_scales.min() > 0
    assert made.scale > 0


def test_inputs_that_are_always_zero_are_borne():
    inputs = normal(50, 48, seed=1)
    inputs[:, :10] = 0
    weights = WEIGHTS.copy()
    weights[20:30] = 0
    made = eight_bits(inputs, weights)
    assert relative_error(made.product(inputs), inputs @ weights) < 0.02
    nothing = np.zeros((5, 48), np.float32)
    assert np.abs(eight_bits(nothing, weights).product(nothing)).max() < 1e-4


def test_a_scale_by_row_makes_nothing_of_nothing():
    # A network that normalises what comes out would make much of a little.
    made = eight_bits(loud_tokens(400, 1), WEIGHTS)
    assert made.by_row
    assert not made.product(np.zeros((3, 48), np.float32)).any()


def test_the_largest_of_a_row_is_never_zero():
    assert row_largest(np.zeros((2, 3), np.float32), two_sided=True).min() > 0
    rows = np.array([[-5.0, 2.0]], np.float32)
    assert row_largest(rows, two_sided=True) == 5
    assert row_largest(rows, two_sided=False) == 2

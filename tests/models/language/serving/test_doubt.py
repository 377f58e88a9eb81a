"""Close decisions are left to the exact network, and only those."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.language.reading.sequences import Batch
from models.language.serving.doubt import DoubtingSession, leads, smallest_doubt

LOGITS = st.integers(1, 60).flatmap(
    lambda rows: st.tuples(
        *[
            arrays.arrays(
                np.float32, (rows, 4), elements=st.floats(-4, 4, width=32, allow_subnormal=False)
            )
        ]
        * 2
    )
)


def batch(lengths: list[int]) -> Batch:
    width = max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return Batch(mask * np.arange(1, len(lengths) + 1)[:, None], mask, mask)


class Recorded:
    """A session that answers each text with the row of its number, and keeps what it was asked."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.asked = np.asarray(rows, np.float32), []

    def __call__(self, given: Batch) -> np.ndarray:
        self.asked.append(given)
        return self.rows[given.ids[:, 0] - 1]


def test_the_exact_network_is_asked_about_close_rows_alone():
    quick = Recorded([[3, 0, 0, 0], [1, 1.1, 0, 0], [0, 2, 0, 0], [0, 0, 0.9, 1.3]])
    exact = Recorded(quick.rows + 10)
    found = DoubtingSession(quick, exact, 0.5)(batch([9, 4, 7, 2]))
    expected = quick.rows + 10 * np.array([[0], [1], [0], [1]], np.float32)
    np.testing.assert_array_equal(found, expected)
    (asked,) = exact.asked
    # Padded to the longer of the two, no more.
    np.testing.assert_array_equal(asked.mask, [[1, 1, 1, 1], [1, 1, 0, 0]])
    assert asked.ids.flags.c_contiguous


def test_without_close_rows_the_exact_network_rests():
    quick, exact = Recorded([[3, 0, 0, 0]]), Recorded([[0, 0, 0, 0]])
    DoubtingSession(quick, exact, 0.5)(batch([3]))
    assert not exact.asked


def test_a_lead_is_over_the_second():
    np.testing.assert_allclose(leads(np.array([[1, 4, -2, 3.5], [2, 2, 0, 0]])), [0.5, 0])


@given(LOGITS, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_no_more_labels_change_than_may(logits, flip_rate):
    trained, served = logits
    chosen = trained[np.arange(len(trained)), served.argmax(axis=1)]
    changed = leads(served)[chosen < trained.max(axis=1)]
    doubt = smallest_doubt(trained, served, flip_rate)
    assert (changed > doubt).sum() <= flip_rate * len(trained)
    assert doubt >= smallest_doubt(trained, served, min(flip_rate * 2, 1))


@pytest.mark.parametrize(("near", "far"), [(0.03, 0.03), (0.1, 0.1), (0.06, 0.01)])
def test_a_tenth_of_what_may_change_does_on_other_pairs(near, far):
    def pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        trained = generator.normal(size=(4000, 4)).astype(np.float32)
        noise = np.where(leads(trained) < np.median(leads(trained)), near, far)
        moved = trained + generator.normal(size=(4000, 4)) * noise[:, None]
        return trained, moved.astype(np.float32)

    doubt = smallest_doubt(*pairs(1), 0.1)
    shares = []
    for seed in range(2, 8):
        trained, served = pairs(seed)
        changed = trained.argmax(axis=1) != served.argmax(axis=1)
        shares.append((changed & (leads(served) > doubt)).mean())
    assert changed.mean() > 0.01
    assert np.mean(shares) == pytest.approx(0.01, rel=0.2)


def test_networks_that_agree_leave_no_doubt():
    logits = np.eye(4, dtype=np.float32)
    assert smallest_doubt(logits, logits + 2, 0.0) == 0

"""Of held-out pairs one half chooses and the other judges, and no query has a say in both."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.language.serving.halves import halved

query_rows = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(
    lambda rows: np.array(rows, np.int32)
)


@given(rows=query_rows)
def test_every_pair_is_on_one_side_with_its_query(rows):
    halves = halved(rows)
    if len(set(rows)) > 1:
        both = np.concatenate([halves.choosing, halves.judging])
        assert sorted(both) == list(range(len(rows)))
        assert not set(rows[halves.choosing]) & set(rows[halves.judging])
        assert len(halves.choosing)
        assert len(halves.judging)
    else:
        np.testing.assert_array_equal(halves.choosing, np.arange(len(rows)))
        np.testing.assert_array_equal(halves.judging, np.arange(len(rows)))


@given(rows=query_rows)
def test_the_sides_differ_by_no_more_than_the_longest_query(rows):
    halves = halved(rows)
    assert abs(len(halves.choosing) - len(halves.judging)) <= np.bincount(rows).max()


@given(rows=query_rows)
def test_how_queries_are_numbered_does_not_matter(rows):
    np.testing.assert_array_equal(halved(rows * 7 + 3).judging, halved(rows).judging)


def test_neither_side_is_that_of_the_first_queries():
    # Tables are often sorted, by locale for one.
    rows = np.arange(1000, dtype=np.int32)
    assert 0.4 < (halved(rows).choosing < 500).mean() < 0.6


def test_no_pairs_have_empty_sides():
    assert not len(halved(np.empty(0, np.int32)).choosing)

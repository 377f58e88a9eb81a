"""Batches that keep pairs of a query together: laws, and that they do what they are for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.language.metric.batches import grouped_batches


def drawn(seed: int, rows: int, queries: int):
    rng = np.random.default_rng(seed)
    return rng.integers(0, queries, rows), rng.integers(1, 100, rows)


@given(
    seed=st.integers(0, 999),
    rows=st.integers(0, 200),
    queries=st.integers(1, 40),
    size=st.integers(1, 40),
    per_query=st.integers(1, 8),
)
def test_every_row_comes_once_in_batches_of_the_asked_size(seed, rows, queries, size, per_query):
    codes, lengths = drawn(seed, rows, queries)
    batches = grouped_batches(codes, lengths, size, per_query, np.random.default_rng(seed), pool=3)
    every = np.concatenate([np.empty(0, np.int64), *batches])
    assert sorted(every.tolist()) == list(range(rows))
    assert len(batches) == -(-rows // size)
    assert sum(len(batch) < size for batch in batches) <= 1


@given(seed=st.integers(0, 999), per_query=st.sampled_from([1, 2, 3, 4, 6]))
def test_rows_of_a_query_stay_together_up_to_the_limit(seed, per_query):
    codes = np.repeat(np.arange(20), 12)
    lengths = np.random.default_rng(seed).integers(1, 100, 240)
    batches = grouped_batches(codes, lengths, 40, per_query, np.random.default_rng(seed))
    for batch in batches:
        # Groups are whole but for the two at the cuts.
        runs = np.diff(np.flatnonzero(np.diff(codes[batch], prepend=-1, append=-1)))
        assert (runs[1:-1] % per_query == 0).all()
    alone = sum(
        (np.bincount(codes[batch], minlength=20)[codes[batch]] < per_query).sum()
        for batch in batches
    )
    assert alone <= 2 * per_query * len(batches)


def test_a_query_with_many_pairs_is_spread_over_batches():
    codes = np.concatenate([np.zeros(100, np.int64), np.arange(1, 301)])
    batches = grouped_batches(codes, np.ones(400, np.int64), 20, 4, np.random.default_rng(1))
    assert max((codes[batch] == 0).sum() for batch in batches) <= 16


def test_similar_lengths_share_a_batch_and_epochs_differ():
    codes, lengths = drawn(3, 2000, 2000)
    generator = np.random.default_rng(5)
    first = grouped_batches(codes, lengths, 20, 2, generator)
    padded = sum(lengths[batch].max() * len(batch) for batch in first)
    assert padded < 1.3 * lengths.sum()  # 1.9 without sorting; pairs of one query differ in length
    second = grouped_batches(codes, lengths, 20, 2, generator)
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    again = grouped_batches(codes, lengths, 20, 2, np.random.default_rng(5))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]

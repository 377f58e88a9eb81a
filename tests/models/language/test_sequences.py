"""Sequences, padded batches and token-bounded batches, against plain lists."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.reading.sequences import (
    Sequences,
    padded,
    ranges,
    stacked,
    token_batches,
)

LISTS = st.lists(st.lists(st.integers(0, 30_000), max_size=6), max_size=6)
PAD = 77_777


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Sequences, list[list[int]], list[list[int]]]:
    """Sequences with segments, and what they hold as lists."""
    ids = draw(LISTS)
    plain = Sequences.of(ids)
    segments = [[draw(st.integers(0, 1)) for _ in text] for text in ids]
    flat = np.array([segment for text in segments for segment in text], np.uint8)
    return Sequences(plain.ids, flat, plain.starts), ids, segments


def rows_of(data: st.DataObject, size: int) -> np.ndarray:
    some = st.lists(st.integers(0, size - 1), max_size=8) if size else st.just([])
    return np.array(data.draw(some), np.int64)


def lists_of(given: Sequences, column: str) -> list[list[int]]:
    values = getattr(given, column).tolist()
    return [values[a:b] for a, b in pairwise(given.starts.tolist())]


class TestSequences:
    @given(lists=LISTS)
    def test_they_hold_what_they_were_made_of(self, lists):
        made = Sequences.of(lists)
        assert len(made) == len(lists)
        assert lists_of(made, "ids") == lists
        assert made.lengths().tolist() == [len(text) for text in lists]
        assert not made.segments.any()

    @given(made=sequences(), data=st.data())
    def test_take_is_indexing(self, made, data):
        given, ids, segments = made
        rows = rows_of(data, len(ids))
        taken = given.take(rows)
        assert lists_of(taken, "ids") == [ids[row] for row in rows]
        assert lists_of(taken, "segments") == [segments[row] for row in rows]

    @given(made=sequences(), data=st.data())
    def test_taking_twice_is_taking_once(self, made, data):
        given, ids, _ = made
        rows = rows_of(data, len(ids))
        again = rows_of(data, len(rows))
        assert lists_of(given.take(rows).take(again), "ids") == lists_of(
            given.take(rows[again]), "ids"
        )

    @given(made=sequences(), data=st.data())
    def test_parts_are_slices_and_stacked_they_are_the_whole(self, made, data):
        given, ids, segments = made
        cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
        parts = [given.part(a, b) for a, b in pairwise([0, *cuts, len(ids)])]
        assert [lists_of(part, "ids") for part in parts] == [
            ids[a:b] for a, b in pairwise([0, *cuts, len(ids)])
        ]
        whole = stacked(iter(parts))
        assert lists_of(whole, "ids") == ids
        assert lists_of(whole, "segments") == segments
        assert whole.ids.dtype == np.int32
        if len(ids):
            assert lists_of(given.followed_by(given), "ids") == lists_of(
                stacked([given, given]), "ids"
            )

    @given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), max_size=8))
    def test_ranges_are_ranges(self, spans):
        starts = np.array([start for start, _ in spans], np.int64)
        lengths = np.array([length for _, length in spans], np.int64)
        expected = [number for start, length in spans for number in range(start, start + length)]
        assert ranges(starts, lengths).tolist() == expected


class TestPadded:
    @given(made=sequences(), data=st.data())
    def test_every_token_is_there_and_the_rest_is_padding(self, made, data):
        given, ids, segments = made
        rows = rows_of(data, len(ids))
        batch = padded(given, rows, PAD)
        width = max([1, *(len(ids[row]) for row in rows)])
        assert batch.ids.shape == batch.mask.shape == batch.segments.shape == (len(rows), width)
        for at, row in enumerate(rows):
            beyond = width - len(ids[row])
            assert batch.ids[at].tolist() == ids[row] + [PAD] * beyond
            assert batch.mask[at].tolist() == [1] * len(ids[row]) + [0] * beyond
            assert batch.segments[at].tolist() == segments[row] + [0] * beyond

    def test_it_is_what_torch_takes(self):
        batch = padded(Sequences.of([[1, 2], [3]]), np.array([1, 0]), 0)
        assert {batch.ids.dtype, batch.mask.dtype, batch.segments.dtype} == {np.dtype(np.int64)}


class TestTokenBatches:
    @given(
        lengths=st.lists(st.integers(0, 50), max_size=40),
        max_tokens=st.integers(1, 120),
        max_texts=st.integers(1, 9),
    )
    def test_each_row_once_and_within_the_bounds(self, lengths, max_tokens, max_texts):
        column = np.array(lengths, np.int64)
        batches = list(token_batches(column, max_tokens, max_texts))
        assert sorted(row for batch in batches for row in batch.tolist()) == list(
            range(len(lengths))
        )
        for batch in batches:
            assert 1 <= len(batch) <= max_texts
            assert len(batch) * column[batch].max() <= max_tokens or len(batch) == 1

    @given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=40))
    def test_the_longest_come_first(self, lengths):
        column = np.array(lengths, np.int64)
        in_order = np.concatenate(list(token_batches(column, 100, 8)))
        assert (np.diff(column[in_order]) <= 0).all()

    @given(lengths=st.lists(st.integers(1, 50), min_size=2, max_size=40))
    def test_no_batch_could_have_taken_the_next_text(self, lengths):
        column = np.array(lengths, np.int64)
        batches = list(token_batches(column, 100, 8))
        for batch in batches[:-1]:
            full = len(batch) == 8
            assert full or (len(batch) + 1) * column[batch].max() > 100

    @pytest.mark.parametrize("size", [0, 1])
    def test_few_texts(self, size):
        assert len(list(token_batches(np.ones(size, np.int64), 10, 10))) == size

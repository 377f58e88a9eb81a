import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.training.batching import length_bucketed, padded_share

LENGTHS = st.lists(st.integers(1, 300), max_size=300).map(lambda x: np.array(x, np.int64))


@given(
    lengths=LENGTHS, batch_size=st.integers(1, 40), pool=st.integers(1, 9), seed=st.integers(0, 9)
)
def test_every_row_is_in_exactly_one_batch(lengths, batch_size, pool, seed):
    batches = length_bucketed(lengths, batch_size, np.random.default_rng(seed), pool)
    rows = np.concatenate([*batches, np.empty(0, np.int64)])
    assert sorted(rows) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-len(lengths) // batch_size)


@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_the_same_seed_gives_the_same_batches(lengths, seed):
    one, other = (length_bucketed(lengths, 8, np.random.default_rng([seed, 1])) for _ in range(2))
    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in other]


def test_batches_hold_similar_lengths_and_little_padding():
    random = np.random.default_rng(0)
    lengths = random.geometric(0.02, 20_000).clip(4, 128)
    bucketed = padded_share(lengths, length_bucketed(lengths, 32, np.random.default_rng(1)))
    shuffled = padded_share(lengths, np.array_split(random.permutation(20_000), 625))
    by_length = padded_share(lengths, np.array_split(np.argsort(lengths), 625))
    assert shuffled > 0.4
    assert bucketed < by_length + 0.02


def test_neither_batches_nor_their_lengths_repeat_from_epoch_to_epoch():
    lengths = np.random.default_rng(0).integers(4, 128, 4000)
    first, second = (length_bucketed(lengths, 32, np.random.default_rng([7, e])) for e in (0, 1))
    assert {tuple(sorted(b)) for b in first}.isdisjoint(tuple(sorted(b)) for b in second)
    # Sorted batches in order would be a curriculum, the same in every epoch.
    widths = [[int(lengths[batch].max()) for batch in batches] for batches in (first, second)]
    for found in widths:
        assert abs(np.corrcoef(found, np.arange(len(found)))[0, 1]) < 0.3
    assert abs(np.corrcoef(*widths)[0, 1]) < 0.3

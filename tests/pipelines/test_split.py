import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError
from models.folds import pair_folds, query_folds, query_positions
from models.pairs import LabelledPairs, Products, Queries
from models.text import fold
from pipelines.dataset.read import Judgements
from pipelines.split import held_out, official_split

QUERIES = st.lists(
    st.tuples(st.text("aAñÑ ｱア", min_size=1, max_size=4), st.sampled_from(["us", "es", "jp"])),
    min_size=1,
    max_size=40,
)


def judgements(rows: list[tuple[str, str, int, str]]) -> Judgements:
    """One judgement per (query, locale, query_id, split), each with a product of its own."""
    texts, locales, query_ids, splits = zip(*rows, strict=True)
    every = np.arange(len(rows), dtype=np.int32)
    products = Products.of(
        [{"product_id": f"P{row}", "locale": locale} for row, locale in enumerate(locales)]
    )
    return Judgements(
        LabelledPairs(
            Queries.of(texts, locales), products, every, every, np.zeros_like(every, np.int8)
        ),
        every.astype(np.int64),
        np.array(query_ids),
        np.array([split == "test" for split in splits], dtype=np.int8),
    )


def pairs_of(queries: list[tuple[str, str]]) -> LabelledPairs:
    return judgements([(text, locale, 0, "train") for text, locale in queries]).pairs


@given(QUERIES, st.integers(2, 6), st.integers(0, 9))
def test_no_query_text_is_in_two_folds(queries, folds, seed):
    fold_of = {}
    for (text, _), place in zip(queries, pair_folds(pairs_of(queries), folds, seed), strict=True):
        assert 0 <= place < folds
        assert fold_of.setdefault(fold(text), place) == place


@given(QUERIES, st.integers(0, 9))
def test_no_query_text_is_on_both_sides_of_the_held_out_block(queries, seed):
    side_of = {}
    for (text, _), side in zip(queries, held_out(pairs_of(queries), 0.5, seed), strict=True):
        assert side_of.setdefault(fold(text), side) == side


@given(QUERIES, st.integers(0, 9))
def test_a_query_stays_where_it_is_when_others_come(queries, seed):
    texts = [text for text, _ in queries]
    alone = [query_positions([text], seed, "fold")[0] for text in texts]
    assert query_positions(texts, seed, "fold").tolist() == alone


def test_folds_are_about_equal_and_follow_the_seed():
    queries = Queries.of([f"query {row}" for row in range(10_000)], ["us"] * 10_000)
    first, second = query_folds(queries, 5, 1), query_folds(queries, 5, 2)
    sizes = np.bincount(first, minlength=5)
    assert sizes.min() > 1800
    # Independent seeds agree on one query in five.
    assert 0.15 < (first == second).mean() < 0.25


def test_what_is_held_out_leaves_the_folds_about_equal():
    texts = [f"query {row}" for row in range(10_000)]
    tested = query_positions(texts, 7, "test") < 0.2
    pairs = pairs_of([(text, "us") for text, test in zip(texts, tested, strict=True) if not test])
    held = held_out(pairs, 0.15, 7)
    assert 0.13 < held.mean() < 0.17
    sizes = np.bincount(pair_folds(pairs.take(np.flatnonzero(~held)), 5, 7), minlength=5)
    assert sizes.min() > 0.9 * sizes.mean()


def test_folds_are_the_same_in_every_process():
    queries = Queries.of(["a", "b", "ñ", "ケース"], ["us"] * 4)
    assert query_folds(queries, 5, 7).tolist() == [3, 3, 2, 3]


def test_the_official_split_is_respected():
    found = official_split(
        judgements([("a", "us", 1, "train"), ("b", "us", 2, "test"), ("c", "es", 3, "train")])
    )
    assert (found.train.tolist(), found.test.tolist(), found.dropped.tolist()) == ([0, 2], [1], [])


@pytest.mark.parametrize(
    ("text", "locale", "query_id"),
    [
        ("grand piano", "us", 79706),  # the official trap: one id in both splits
        ("Piano ", "us", 5),  # the same text under another id
        ("ＰＩＡＮＯ", "jp", 6),  # and in another locale and form
    ],
)
def test_a_tested_query_teaches_nothing(text, locale, query_id):
    rows = [
        ("piano", "us", 79706, "test"),
        (text, locale, query_id, "train"),
        ("tea", "us", 9, "train"),
    ]
    found = official_split(judgements(rows))
    assert (found.train.tolist(), found.test.tolist(), found.dropped.tolist()) == ([2], [0], [1])


def test_impossible_splits_are_refused():
    pairs = pairs_of([("a", "us")])
    with pytest.raises(ConfigError, match="found 1 folds"):
        pair_folds(pairs, 1, 0)
    with pytest.raises(ConfigError, match=r"fraction of 1\.5"):
        held_out(pairs, 1.5, 0)
    with pytest.raises(ConfigError, match="found seed 1000"):
        pair_folds(pairs, 5, 10**20)

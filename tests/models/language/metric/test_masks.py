"""Which pairs of a batch attract and repel, against the rules written out pair by pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError
from models.language.metric.masks import Judgements, title_codes
from models.language.metric.options import MetricOptions, TcmOptions
from models.pairs import LabelledPairs, Pairs, Products, Queries
from models.text import fold

QUERIES = ["Red shoe", "red  SHOE", "blue shoe", "", "red shoes"]
TITLES = ["Shoe, red", "shoe, RED", "Shoe, blue", "", "", "Ladder"]
GAINS = MetricOptions().gains()


def judged(rows: list[tuple[int, int, int]]) -> LabelledPairs:
    """Pairs of (query, product, label) over the tables above."""
    queries = Queries.of(QUERIES, ["us", "us", "us", "es", "jp"])
    products = Products.of(
        [{"product_id": f"P{at}", "locale": "us", "title": t} for at, t in enumerate(TITLES)]
    )
    query, product, label = np.array(rows, np.int32).reshape(-1, 3).T
    return LabelledPairs(queries, products, query, product, label.astype(np.int8))


def plain_gain(pairs: LabelledPairs, query: int, product: int, gains, in_batch: bool) -> float:
    found, same_title = [], False
    for q, p, label in zip(pairs.query_rows, pairs.product_rows, pairs.labels, strict=True):
        if fold(QUERIES[q]) == fold(QUERIES[query]):
            if p == product:
                found.append(float(gains[label]))
            elif TITLES[product] and fold(TITLES[p]) == fold(TITLES[product]):
                same_title = True
    if found:
        if min(found) > 0:
            return min(found)
        return max(found) if max(found) < 0 else 0.0
    return -1.0 if in_batch and not same_title else 0.0


rows = st.lists(
    st.tuples(st.integers(0, len(QUERIES) - 1), st.integers(0, len(TITLES) - 1), st.integers(0, 3)),
    max_size=20,
)
gain_tables = st.sampled_from([(1, 0, 0, -1), (1, 0.5, -0.25, -1), (1, 1, 1, 1), (0.5, 0, -1, -1)])


class TestBlock:
    @given(rows=rows, gains=gain_tables, in_batch=st.booleans())
    def test_it_follows_the_rules_pair_by_pair(self, rows, gains, in_batch):
        pairs, gains = judged(rows), np.array(gains, np.float32)
        block = Judgements.of(pairs, gains, in_batch).block(
            np.arange(len(QUERIES)), np.arange(len(TITLES))
        )
        expected = [
            [plain_gain(pairs, q, p, gains, in_batch) for p in range(len(TITLES))]
            for q in range(len(QUERIES))
        ]
        np.testing.assert_array_equal(block, np.array(expected, np.float32))
        assert block.dtype == np.float32

    @given(rows=rows, seed=st.integers(0, 99))
    def test_a_block_is_cut_from_the_whole(self, rows, seed):
        judgements = Judgements.of(judged(rows), GAINS, True)
        rng = np.random.default_rng(seed)
        queries, products = rng.integers(0, len(QUERIES), 3), rng.integers(0, len(TITLES), 4)
        whole = judgements.block(np.arange(len(QUERIES)), np.arange(len(TITLES)))
        np.testing.assert_array_equal(
            judgements.block(queries, products), whole[np.ix_(queries, products)]
        )

    def test_a_substitute_is_neither_and_never_an_in_batch_negative(self):
        block = Judgements.of(judged([(0, 0, 1), (2, 5, 0)]), GAINS, True).block(
            np.arange(3), np.array([0, 1, 2, 5])
        )
        # Queries 0 and 1 are one text; products 0 and 1 one title.
        assert block.tolist() == [[0, 0, -1, -1], [0, 0, -1, -1], [-1, -1, -1, 1]]

    def test_products_without_a_title_are_not_the_same(self):
        codes = title_codes(judged([]).products)
        assert codes[0] == codes[1]
        assert len(set(codes.tolist())) == len(TITLES) - 1

    def test_pairs_need_not_share_tables_with_anything(self):
        pairs = judged([(0, 0, 0)])
        empty = Pairs(Queries.of([], []), Products.of([]), *[np.empty(0, np.int32)] * 2)
        nothing = LabelledPairs(
            empty.queries, empty.products, empty.query_rows, empty.product_rows, pairs.labels[:0]
        )
        no_rows = np.empty(0, np.int64)
        assert Judgements.of(nothing, GAINS, True).block(no_rows, no_rows).shape == (0, 0)


class TestOptions:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"gain_exact": 0.0, "loss": "info_nce"}, "no label has a gain above 0"),
            ({"gain_substitute": 0.1, "loss": "multi_similarity"}, "no gains between"),
            ({"gain_irrelevant": -2.0}, "-1 to 1"),
            ({"temperature": 0.0}, "temperature"),
            ({"angle": 90.0}, "angle"),
            ({"products_per_query": 0}, "products_per_query"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, values, message):
        with pytest.raises(ConfigError, match=message):
            MetricOptions(**values)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"weight": -1.0}, "0 or more"),
            ({"positive_margin": 0.4}, "two cosines"),
            ({"fewest_violators": 0}, "1 or more"),
        ],
    )
    def test_so_are_margins(self, values, message):
        with pytest.raises(ConfigError, match=message):
            TcmOptions(**values)

    def test_it_is_on_where_a_weight_is(self):
        assert not MetricOptions().is_on
        assert not MetricOptions(loss="info_nce", weight=0).is_on
        assert MetricOptions(loss="info_nce").is_on
        assert MetricOptions(tcm=TcmOptions(weight=1)).is_on

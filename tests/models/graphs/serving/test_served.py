"""States and their digests: what changes them, and what must not."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from models.errors import DataError
from models.graphs.serving.convolutions import Convolution
from models.pairs import Pairs, Products
from models.vectors.source import product_keys
from tests.models.graphs import made
from tests.models.graphs.shop import fit, fitted, pairs, surroundings
from tests.models.graphs.shop import member as shop_member
from tests.models.graphs.stored import Stored

CONVOLUTIONS = get_args(Convolution)
ALL = np.arange(60)


@pytest.fixture(params=CONVOLUTIONS)
def member(request):
    return fitted(request.param).amid(surroundings())


def changed(of, **fields):
    return replace(of, behaviours=replace(of.behaviours, **fields))


def titled(of, row: int, title: str):
    rows = [{"product_id": of.products.ids[i], "locale": of.products.locale(i),
             **of.products.texts(i)} for i in range(len(of.products))]  # fmt: skip
    rows[row]["title"] = title
    return replace(of, products=Products.of(rows))


def strangers(products: Products) -> Products:
    """Others with the same texts, which no graph knows."""
    return Products.of(
        [{"product_id": f"new {row}", "locale": products.locale(row), **products.texts(row)}
         for row in range(len(products))]
    )  # fmt: skip


class TestStates:
    def test_of_the_catalogue_they_are_those_of_its_texts(self, member):
        products = surroundings().products
        found = member.catalogue_states(products, ALL)
        packing = member.state_packing()
        expected = packing.unpack(member._whole().served.computed_states(products))
        np.testing.assert_allclose(packing.unpack(found), expected, atol=2e-3)
        some = np.array([3, 59, 12, 50])
        np.testing.assert_allclose(
            packing.unpack(member.catalogue_states(products, some)), expected[some], atol=2e-3
        )

    def test_stored_or_computed_the_answers_agree_as_fp16_does(self, member):
        products, asked = surroundings().products, pairs(surroundings()).without_labels()
        rows = ALL[::2]
        states = member.catalogue_states(products, rows)
        source = Stored(member.vectors_identity(), product_keys(products.take(rows)), states)
        stored = member.with_vectors(source)
        np.testing.assert_allclose(
            stored.predict_logits(asked), member.predict_logits(asked), atol=1e-2
        )
        counts = stored.product_counts()
        named = np.unique(asked.product_rows)
        assert counts == (np.isin(named, rows).sum(), (~np.isin(named, rows)).sum())

    def test_they_are_what_answers(self, member):
        # Else what is stored could be anything.
        products, asked = surroundings().products, pairs(surroundings()).without_labels()
        states = np.roll(member.catalogue_states(products, ALL), 1, axis=0)
        source = Stored(member.vectors_identity(), product_keys(products), states)
        wrong = member.with_vectors(source).predict_logits(asked)
        assert not np.allclose(wrong, member.predict_logits(asked), atol=0.05)


class TestDigests:
    def test_a_node_has_one_whoever_else_is_asked(self, member):
        products = surroundings().products
        found = member.catalogue_digests(products, ALL)
        assert len(np.unique(found)) == len(ALL)
        order = np.random.default_rng(2).permutation(60)
        np.testing.assert_array_equal(member.catalogue_digests(products, order), found[order])
        again = fitted(member.options.convolution).amid(surroundings())
        np.testing.assert_array_equal(again.catalogue_digests(products, ALL), found)

    @pytest.mark.parametrize("change", ["edge", "weight", "title"])
    def test_they_change_where_states_do_and_nowhere_else(self, member, change):
        of = surroundings()
        behaviours = of.behaviours
        if change == "edge":
            moved = behaviours.product_rows.copy()
            moved[5] = (moved[5] + 1) % 50
            other = changed(of, product_rows=moved)
        elif change == "weight":
            weights = behaviours.weights.copy()
            weights[5] += 7
            other = changed(of, weights=weights)
        else:
            other = titled(of, 7, "wooden ladder of eleven steps")
        before, after = member.amid(of), member.amid(other)
        is_same = before.catalogue_digests(of.products, ALL) == after.catalogue_digests(
            other.products, ALL
        )
        states = [
            one.state_packing().unpack(one.catalogue_states(products, ALL))
            for one, products in ((before, of.products), (after, other.products))
        ]
        is_close = np.isclose(states[0], states[1], atol=2e-3).all(axis=1)
        assert is_close[is_same].all()
        assert 0 < is_same.sum() < len(ALL)
        # A weight that reaches nobody's state may change a digest; nothing else may.
        assert change == "weight" or not is_close[~is_same].all()
        if change == "title":
            assert not is_same[7]


class TestColdProducts:
    def test_one_that_is_in_no_graph_is_answered_from_its_text(self, member):
        asked = pairs(surroundings()).without_labels().compact()
        cold = replace(asked, products=strangers(asked.products))
        logits = member.predict_logits(cold)
        assert np.isfinite(logits).all()
        assert not np.allclose(logits, member.predict_logits(asked), atol=1e-2)

    def test_or_not_at_all_where_the_rule_is_so(self):
        member = fitted()
        served = replace(member._whole().served, cold="nan")
        asked = pairs(surroundings()).without_labels()
        new = Products.of([{"product_id": "new", "locale": "us", "title": "red lamp"}])
        cold = replace(asked.take(np.arange(3)), products=new, product_rows=np.zeros(3, np.int32))
        assert np.isnan(served.logits(cold)).all()
        assert np.isfinite(served.logits(asked)).any()
        assert served.identity != member.vectors_identity()


class TestNoGraph:
    """A catalogue without products makes no graph, and nobody is heard."""

    def test_it_is_as_if_every_product_were_new(self, member):
        asked = pairs(surroundings()).without_labels().compact()
        silent = member.amid(made.surroundings([]))
        assert not silent._whole().served.neighbourhoods
        np.testing.assert_allclose(
            silent.predict_logits(asked),
            member.predict_logits(replace(asked, products=strangers(asked.products))),
            atol=1e-5,
        )
        found = silent.explain(asked.take(np.array([0])))
        assert found.logits
        assert not found.neighbours

    def test_nothing_is_said_where_the_rule_is_so(self, member):
        silent = replace(member.amid(made.surroundings([]))._whole().served, cold="nan")
        assert np.isnan(silent.logits(pairs(surroundings()).without_labels())).all()

    def test_it_is_the_same_member(self, member):
        # What is stored of one graph is looked up amid another.
        silent = member.amid(made.surroundings([]))
        assert silent.vectors_identity() == member.vectors_identity()
        other = replace(silent._whole().served, hearing=replace(
            silent._whole().served.hearing, fan_outs=(9, 9)))  # fmt: skip
        assert other.identity != member.vectors_identity()
        rows = np.empty(0, np.int64)
        assert len(silent.catalogue_states(Products.of([]), rows)) == 0
        assert len(silent.catalogue_digests(Products.of([]), rows)) == 0

    def test_a_locale_without_products_hears_nobody(self, member):
        products = Products.of([{"product_id": "P1", "locale": "jp", "title": "red lamp"}])
        asked = Pairs.of_query("lamp", "jp", products)
        assert np.isfinite(member.predict_logits(asked)).all()
        assert not member.explain(asked).relations

    def test_nothing_can_be_learned_from_it(self):
        with pytest.raises(DataError, match="no graph to learn from"):
            fit(shop_member(), made.surroundings([]), pairs(surroundings()))

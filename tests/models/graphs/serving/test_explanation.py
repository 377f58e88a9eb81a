"""What explains a pair is what it heard, and what leaving it out would do."""

from dataclasses import replace

import numpy as np
import pytest

from models.graphs.serving.explanation import explain
from models.pairs import Products
from models.vectors.source import product_keys
from models.vectors.tally import Tally
from tests.models.graphs.shop import fit, fitted, member, pairs, surroundings
from tests.models.graphs.stored import Stored


@pytest.fixture(params=["sage", "gatv2", "rsage"])
def served(request):
    return fitted(request.param)._whole().served


def one_pair(row: int = 0):
    return pairs(surroundings()).without_labels().take(np.array([row]))


def test_it_explains_the_logits_that_are_answered(served):
    for row in range(8):
        found = explain(served, one_pair(row), 10.0)
        np.testing.assert_allclose(found.logits, served.logits(one_pair(row))[0], atol=1e-5)
        assert found.complete
        assert not found.stored
        assert found.by_graph == found.logits


def test_neighbours_are_those_that_are_sampled_with_their_weights(served):
    of = surroundings()
    for row in range(8):
        pair = one_pair(row).compact()
        found = explain(served, pair, 10.0)
        product = of.products.take(one_pair(row).product_rows)
        at = next(i for i in range(len(of.products)) if of.products.ids[i] == product.ids[0])
        queries = {
            of.behaviours.queries.texts[int(q)]
            for q in of.behaviours.query_rows[of.behaviours.product_rows == at]
        }
        for neighbour in found.neighbours:
            assert neighbour.hearer == "product"
            assert min(neighbour.weights.values()) > 0
            if neighbour.kind == "query":
                assert neighbour.name in queries
                assert not set(neighbour.weights) & {"co_buy"}
        assert len(found.neighbours) <= 4 * len(served.neighbourhoods["us"].channels)
        sizes = [np.ptp(neighbour.effect) for neighbour in found.neighbours]
        assert sizes == sorted(sizes, reverse=True)


def test_leaving_all_of_it_out_is_what_a_stranger_would_hear():
    # One relation, so that without it nobody is heard.
    alone = fit(member(graph={"relations": ["click"]}), surroundings())._whole().served
    asked = pairs(surroundings()).without_labels()
    for row in range(10):
        pair = asked.take(np.array([row])).compact()
        found = explain(alone, pair, 10.0)
        if not found.relations:
            continue
        (relation,) = found.relations
        products = pair.products
        stranger = replace(pair, products=replace(products, ids=type(products.ids).of(["new"])))
        np.testing.assert_allclose(
            np.array(found.logits) - relation.effect, alone.logits(stranger)[0], atol=1e-4
        )
        if relation.edges == 1:
            np.testing.assert_allclose(found.neighbours[0].effect, relation.effect, atol=1e-5)


def test_it_stops_when_time_is_up(served):
    rows = [row for row in range(20) if explain(served, one_pair(row), 10.0).neighbours]
    found = explain(served, one_pair(rows[0]), 0.0)
    assert not found.complete
    assert not found.neighbours
    assert found.relations


class TestStoredStates:
    """What is looked up need not be of the graph that an explanation looks at."""

    def looking_up(self, served, packed, rows=slice(None)):
        products = surroundings().products
        keys = product_keys(products)[rows]
        source = Stored(served.identity, keys, packed[rows])
        return replace(served, source=source, tally=Tally())

    def test_their_logits_are_told_beside_those_of_the_graph(self, served):
        # The states of other products stand for those of another graph.
        states = np.roll(served.computed_states(surroundings().products), 1, axis=0)
        other = self.looking_up(served, states)
        for row in range(8):
            found, before = (
                explain(other, one_pair(row), 10.0),
                explain(served, one_pair(row), 10.0),
            )
            assert found.stored
            np.testing.assert_allclose(found.logits, other.logits(one_pair(row))[0], atol=1e-5)
            assert not np.allclose(found.logits, found.by_graph, atol=1e-3)
            assert found.by_graph == before.logits
            assert found.neighbours == before.neighbours
            assert found.relations == before.relations

    def test_one_that_is_not_known_is_not_said_to_have_answered(self, served):
        states = served.computed_states(surroundings().products)
        product = one_pair().product_rows[0]
        lacking = self.looking_up(served, states, np.arange(60) != product)
        found = explain(lacking, one_pair(), 10.0)
        assert not found.stored
        assert found == explain(served, one_pair(), 10.0)
        assert lacking.tally.counts == (0, 1)

    def test_the_product_counts_once(self, served):
        counted = self.looking_up(served, served.computed_states(surroundings().products))
        explain(counted, one_pair(), 10.0)
        assert counted.tally.counts == (1, 0)


class TestSilence:
    """A member that says nothing of products without neighbours."""

    @pytest.fixture
    def silent(self, served):
        return replace(served, cold="nan")

    @pytest.fixture
    def stranger(self):
        products = Products.of([{"product_id": "new", "locale": "us", "title": "red lamp"}])
        return replace(one_pair(), products=products, product_rows=np.zeros(1, np.int32))

    def test_nothing_is_said_of_a_product_that_hears_nobody(self, served, silent, stranger):
        assert np.isnan(silent.logits(stranger)).all()
        found = explain(silent, stranger, 10.0)
        assert found.logits is None
        assert found.by_graph is None
        assert not found.neighbours
        assert not found.relations
        assert explain(served, stranger, 10.0).logits is not None

    def test_nor_of_what_a_query_hears_where_its_product_hears_nobody(self, served, stranger):
        whole = replace(served, transductive=True)
        assert explain(whole, stranger, 10.0).neighbours
        found = explain(replace(whole, cold="nan"), stranger, 10.0)
        assert found.logits is None
        assert not found.neighbours
        assert not found.relations

    def test_nor_where_a_stored_state_says_nothing(self, silent):
        products = surroundings().products
        empty = np.zeros((60, silent.packing.stride), np.uint8)
        muted = replace(silent, source=Stored(silent.identity, product_keys(products), empty))
        assert np.isnan(muted.logits(one_pair())).all()
        found = explain(muted, one_pair(), 10.0)
        assert found.stored
        assert found.logits is None
        assert found.by_graph == explain(silent, one_pair(), 10.0).logits is not None
        assert not found.neighbours

    def test_a_stored_state_speaks_where_the_graph_does_not(self, silent, stranger):
        states = silent.computed_states(surroundings().products)[:1]
        keys = product_keys(stranger.products)
        found = explain(
            replace(silent, source=Stored(silent.identity, keys, states)), stranger, 9.0
        )
        assert found.stored
        assert found.logits is not None
        assert found.by_graph is None
        assert not found.relations

    def test_what_silence_would_follow_without_has_no_number_and_comes_first(self):
        alone = fit(member(graph={"relations": ["click"]}, cold="nan"), surroundings())
        served, asked = alone._whole().served, pairs(surroundings()).without_labels()
        heard_by_query = replace(served, transductive=True)
        effects, others = [], 0
        for row in range(20):
            found = explain(served, asked.take(np.array([row])), 10.0)
            said = served.logits(asked.take(np.array([row])))[0]
            if np.isnan(said).any():
                assert found.logits is None
                continue
            np.testing.assert_allclose(found.logits, said, atol=1e-5)
            (relation,) = found.relations
            assert relation.effect is None
            effects += [one.effect for one in found.neighbours if relation.edges == 1]
            assert relation.edges == 1 or None not in [one.effect for one in found.neighbours]
            if relation.edges == 1:
                both = explain(heard_by_query, asked.take(np.array([row])), 10.0).neighbours
                assert [one.effect is None for one in both] == [True] + [False] * (len(both) - 1)
                others += len(both) - 1
        assert effects
        assert others
        assert set(effects) == {None}

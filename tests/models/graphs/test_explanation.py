"""What explains a pair is what it heard, and what leaving it out would do."""

from dataclasses import replace

import numpy as np
import pytest

from models.graphs.explanation import explain
from tests.models.graphs.shop import fit, fitted, member, pairs, surroundings


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

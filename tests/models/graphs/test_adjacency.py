"""Edges as compressed rows, against a dictionary filled edge by edge."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.graphs.adjacency import Adjacency, edge_places
from tests.models.graphs.made import Edges, edges, neighbours, of_rows


def plain(rows: Edges, nodes: int, most: int | None) -> list[dict[int, float]]:
    sums: list[dict[int, float]] = [defaultdict(float) for _ in range(nodes)]
    for one, other, weight in rows:
        if one != other and weight > 0:
            sums[one][other] += weight
            sums[other][one] += weight
    heaviest_first = [sorted(mine.items(), key=lambda edge: (-edge[1], edge[0])) for mine in sums]
    return [dict(sorted(mine[:most])) for mine in heaviest_first]


@given(made=edges(), most=st.none() | st.integers(1, 6))
def test_is_what_a_plain_loop_over_the_edges_says(made, most):
    nodes, rows = made
    found = of_rows(rows, nodes, most)
    expected = plain(rows, nodes, most)
    assert neighbours(found) == expected
    # The dictionaries tell neither the order of neighbours nor that each comes once.
    assert [found.neighbours(node).tolist() for node in range(nodes)] == [*map(list, expected)]
    assert found.degrees().tolist() == [*map(len, expected)]
    assert (found.nodes, len(found)) == (nodes, sum(map(len, expected)))
    assert [found.indptr.dtype, found.indices.dtype, found.weights.dtype] == ["i8", "i4", "f4"]


@given(made=edges(), data=st.data())
def test_two_nodes_hear_each_other_alike_and_nobody_hears_itself(made, data):
    nodes, rows = made
    weights = st.floats(0, 2.0**90, width=32)
    rows = [(one, other, data.draw(weights)) for one, other, _ in rows]
    found = neighbours(of_rows(rows, nodes))
    for node, mine in enumerate(found):
        assert node not in mine
        for other, weight in mine.items():
            assert weight > 0
            assert found[other][node] == weight


@given(made=edges(), most=st.none() | st.integers(1, 6), data=st.data())
def test_neither_the_order_of_edges_nor_which_end_comes_first_counts(made, most, data):
    nodes, rows = made
    turned = [
        (other, one, weight) if data.draw(st.booleans()) else (one, other, weight)
        for one, other, weight in data.draw(st.permutations(rows))
    ]
    before, after = of_rows(rows, nodes, most), of_rows(turned, nodes, most)
    for name in ("indptr", "indices", "weights"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@given(made=edges(), most=st.integers(1, 6))
def test_a_crowded_node_keeps_its_heaviest_and_is_heard_by_all_it_was_heard_by(made, most):
    nodes, rows = made
    whole, capped = (neighbours(of_rows(rows, nodes, limit)) for limit in (None, most))
    for node in range(nodes):
        kept, lost = capped[node], whole[node].keys() - capped[node].keys()
        assert len(kept) == min(most, len(whole[node]))
        assert kept.items() <= whole[node].items()
        assert all(whole[node][other] <= min(kept.values()) for other in lost)
        # What others keep is their affair.
        hearers = [other for other in range(nodes) if node in capped[other]]
        assert all(len(whole[other]) > most for other in whole[node].keys() - set(hearers))


def test_of_many_that_weigh_the_same_the_first_are_kept():
    hub, most = 0, 40
    found = of_rows([(hub, other, 1.0 + (other == 90)) for other in range(1, 100)], 100, most)
    assert found.neighbours(hub).tolist() == [*range(1, most), 90]


def test_nothing_is_an_adjacency_too():
    nothing = np.empty(0, np.int64)
    for nodes in (0, 3):
        for most in (None, 2):
            found = Adjacency.of_edges(nothing, nothing, nothing.astype(float), nodes, most)
            assert (found.nodes, len(found)) == (nodes, 0)
        assert neighbours(Adjacency.empty(nodes)) == [{}] * nodes


def test_weights_that_float32_cannot_hold_are_none_or_its_largest():
    rows = [(0, 1, 1e-60), (1, 2, 3e38), (2, 1, 3e38)]
    ends, others, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = neighbours(Adjacency.of_edges(ends, others, weights, 3))
    assert found == [{}, {2: np.finfo(np.float32).max}, {1: np.finfo(np.float32).max}]


@pytest.mark.parametrize(
    ("indptr", "indices", "weights"),
    [([0, 2], [1], [1.0]), ([0, 1], [1], []), ([], [], []), ([0, 1], [], [])],
)
def test_parts_that_do_not_belong_together_are_refused(indptr, indices, weights):
    parts = np.array(indptr, np.int64), np.array(indices, np.int32), np.array(weights, np.float32)
    with pytest.raises(DataError, match="as many of each"):
        Adjacency(*parts)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=10))
def test_places_of_edges_are_those_of_each_row_in_turn(rows):
    starts, counts = (np.array([row[part] for row in rows], np.int64) for part in (0, 1))
    places = edge_places(starts, counts)
    assert places.tolist() == [start + step for start, count in rows for step in range(count)]

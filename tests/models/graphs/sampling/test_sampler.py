"""Sampled neighbours, against a plain loop over the nodes and against the exact distributions."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations, permutations
from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.errors import ConfigError
from models.graphs.adjacency import Adjacency
from models.graphs.sampling import sampler
from models.graphs.sampling.sampler import Draw, Exclusion, allowed_degrees, sample
from tests.models.graphs.made import adjacencies, keys_of, neighbours, of_rows

draws = st.builds(Draw, st.integers(0, 2**63 - 1), st.sampled_from(["uniform", "weight"]))
fan_outs = st.integers(1, 5)


def splitmix(value: int) -> int:
    bits = (value + 0x9E3779B97F4A7C15) % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31


def plain_rank(draw: Draw, hearer: int, heard: int, weight: float) -> float:
    bits = splitmix(splitmix(hearer ^ draw.number) ^ heard)
    return bits if draw.by == "uniform" else -log(((bits >> 11) + 0.5) / 2**53) / weight


def plain(
    of: Adjacency, keys: np.ndarray, node: int, fan_out: int, draw: Draw,
    banned_nodes: frozenset[int] = frozenset(),
    banned_edges: frozenset[tuple[int, int]] = frozenset(),
) -> list[int]:  # fmt: skip
    """What one node hears."""
    if node < 0 or node in banned_nodes:
        return []
    ranks = {
        other: plain_rank(draw, int(keys[node]), int(keys[other]), weight)
        for other, weight in neighbours(of)[node].items()
        if other not in banned_nodes and (node, other) not in banned_edges
    }
    return sorted(sorted(ranks, key=ranks.__getitem__)[:fan_out])


def heard(found: sampler.Sampled) -> list[list[int]]:
    """The neighbours of each node by itself."""
    return [part.tolist() for part in np.split(found.neighbours, np.cumsum(found.counts)[:-1])]


def asked_of(data: st.DataObject, of: Adjacency) -> np.ndarray:
    """Nodes, some of them several times, and some that are in no graph."""
    return np.array(data.draw(st.lists(st.integers(-1, of.nodes - 1), min_size=1)), np.int64)


def star(weights: list[float]) -> Adjacency:
    """Node 0 next to as many others as there are weights."""
    return of_rows(
        [(0, other, weight) for other, weight in enumerate(weights, 1)], len(weights) + 1
    )


class TestNeighbours:
    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_are_those_that_a_plain_loop_finds(self, of, draw, fan_out, data):
        keys, asked = keys_of(of.nodes), asked_of(data, of)
        found = sample(of, keys, asked, fan_out, draw)
        assert heard(found) == [plain(of, keys, int(node), fan_out, draw) for node in asked]

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_are_real_and_as_many_as_there_are_up_to_the_fan_out(self, of, draw, fan_out, data):
        asked, real = asked_of(data, of), neighbours(of)
        found = sample(of, keys_of(of.nodes), asked, fan_out, draw)
        np.testing.assert_array_equal(of.indices[found.places], found.neighbours)
        for node, mine in zip(asked.tolist(), heard(found), strict=True):
            known = real[node] if node >= 0 else {}
            assert set(mine) <= set(known)
            assert mine == sorted(set(mine))
            assert len(mine) == min(fan_out, len(known))
        owners = np.repeat(asked, found.counts)
        assert (found.places >= of.indptr[owners]).all()
        assert (found.places < of.indptr[owners + 1]).all()

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_do_not_depend_on_who_else_is_asked_for(self, of, draw, fan_out, data):
        keys, asked = keys_of(of.nodes), asked_of(data, of)
        together = heard(sample(of, keys, asked, fan_out, draw))
        alone = [heard(sample(of, keys, asked[[at]], fan_out, draw))[0] for at in range(len(asked))]
        assert together == alone
        order = np.array(data.draw(st.permutations(range(len(asked)))))
        shuffled = heard(sample(of, keys, asked[order], fan_out, draw))
        assert shuffled == [together[at] for at in order]

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_do_not_depend_on_where_rows_lie(self, of, draw, fan_out, data):
        keys = keys_of(of.nodes)
        row_of = np.array(data.draw(st.permutations(range(of.nodes))))
        hearers = np.repeat(np.arange(of.nodes), of.degrees())
        moved = of_rows(
            [
                (int(row_of[one]), int(row_of[other]), weight / 2)
                for one, other, weight in zip(hearers, of.indices, of.weights, strict=True)
            ],
            of.nodes,
        )
        keys_moved = np.empty_like(keys)
        keys_moved[row_of] = keys
        before = heard(sample(of, keys, np.arange(of.nodes), fan_out, draw))
        after = heard(sample(moved, keys_moved, row_of, fan_out, draw))
        assert after == [sorted(row_of[mine].tolist()) for mine in before]

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, most=st.integers(1, 40), data=st.data())
    def test_do_not_depend_on_how_many_edges_are_looked_at_together(
        self, of, draw, fan_out, most, data
    ):
        keys, asked = keys_of(of.nodes), asked_of(data, of)
        banned = Exclusion(nodes=np.arange(of.nodes) % 3 == data.draw(st.integers(0, 2)))
        for excluded in (None, banned):
            before = sample(of, keys, asked, fan_out, draw, excluded)
            whole = sampler._MOST_EDGES
            try:
                sampler._MOST_EDGES = most
                after = sample(of, keys, asked, fan_out, draw, excluded)
            finally:
                sampler._MOST_EDGES = whole
            for name in ("counts", "neighbours", "places"):
                np.testing.assert_array_equal(getattr(after, name), getattr(before, name))

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_a_new_edge_displaces_one_neighbour_at_most(self, of, draw, fan_out, data):
        row = st.integers(0, of.nodes - 1)
        one, other = data.draw(row), data.draw(row)
        hearers = np.repeat(np.arange(of.nodes), of.degrees())
        rows = list(zip(hearers, of.indices, of.weights / 2, strict=True))
        known = other in neighbours(of)[one] or one == other
        more = of_rows(rows if known else [*rows, (one, other, 1.0)], of.nodes)
        keys = keys_of(of.nodes)
        before, after = (
            heard(sample(each, keys, np.arange(of.nodes), fan_out, draw)) for each in (of, more)
        )
        for node in range(of.nodes):
            lost, gained = (
                set(before[node]) - set(after[node]),
                set(after[node]) - set(before[node]),
            )
            assert len(lost) <= len(gained) <= 1
            if gained:
                assert (node, gained.pop()) in {(one, other), (other, one)}

    def test_nobody_is_asked_for_or_nobody_is_there(self):
        nothing = np.empty(0, np.int64)
        of = star([1.0, 1.0])
        found = sample(of, keys_of(3), nothing, 1, Draw(0))
        assert [len(found.counts), len(found.neighbours), len(found.places)] == [0, 0, 0]
        found = sample(Adjacency.empty(0), keys_of(0), np.array([-1, -1]), 1, Draw(0))
        assert (found.counts.tolist(), len(found.neighbours)) == ([0, 0], 0)

    def test_nodes_of_one_key_are_no_reason_to_hear_more(self):
        # Ranks are equal then, as by weight they may be by a chance of one in 2^53.
        for by in ("uniform", "weight"):
            keys = np.array([7, 8, 8, 8, 8], np.uint64)
            found = sample(star([1.0] * 4), keys, np.array([0, 0]), 2, Draw(1, by))
            assert heard(found) == [[1, 2]] * 2

    def test_what_is_no_number_of_neighbours_or_of_a_draw_is_refused(self):
        with pytest.raises(ConfigError, match="fan_out 0"):
            sample(star([1.0]), keys_of(2), np.array([0]), 0, Draw(0))
        for number in (-1, 2**63):
            with pytest.raises(ConfigError, match=str(number)):
                Draw(number)


class TestExclusion:
    @given(of=adjacencies(), draw=draws, fan_out=fan_outs, data=st.data())
    def test_the_rest_fills_the_fan_out(self, of, draw, fan_out, data):
        keys, asked, row = keys_of(of.nodes), asked_of(data, of), st.integers(0, of.nodes - 1)
        nodes = frozenset(data.draw(st.sets(row)))
        # A set of half the edges: they come in one direction or in both.
        ends = [(one, other) for one, mine in enumerate(neighbours(of)) for other in mine]
        edges = frozenset(data.draw(st.sets(st.sampled_from(ends)))) if ends else frozenset()
        excluded = Exclusion(
            nodes=np.isin(np.arange(of.nodes), [*nodes]) if data.draw(st.booleans()) else None,
            edges=np.array(sorted(one * of.nodes + other for one, other in edges), np.int64),
        )
        nodes = nodes if excluded.nodes is not None else frozenset()
        found = sample(of, keys, asked, fan_out, draw, excluded)
        # The plain loop leaves out what is banned before it chooses.
        assert heard(found) == [
            plain(of, keys, int(node), fan_out, draw, nodes, edges) for node in asked
        ]
        for node, mine in zip(asked.tolist(), heard(found), strict=True):
            assert not nodes & {node, *mine} or not mine
            assert not edges & {(node, other) for other in mine}
        degrees = allowed_degrees(of, asked, excluded)
        assert degrees.tolist() == [
            len(plain(of, keys, int(node), of.nodes, draw, nodes, edges)) for node in asked
        ]
        np.testing.assert_array_equal(found.counts, np.minimum(degrees, fan_out))

    @given(of=adjacencies(), draw=draws, fan_out=fan_outs)
    def test_of_nothing_is_none(self, of, draw, fan_out):
        keys, asked = keys_of(of.nodes), np.arange(-1, of.nodes)
        expected = heard(sample(of, keys, asked, fan_out, draw))
        nothing = (
            Exclusion(),
            Exclusion(nodes=np.zeros(of.nodes, bool), edges=np.empty(0, np.int64)),
        )
        for excluded in nothing:
            assert heard(sample(of, keys, asked, fan_out, draw, excluded)) == expected
        np.testing.assert_array_equal(allowed_degrees(of, asked, None), [0, *of.degrees()])


def frequencies(of: Adjacency, fan_out: int, draws: list[Draw]) -> Counter[tuple[int, ...]]:
    """How often node 0 hears each set."""
    keys, asked = keys_of(of.nodes), np.zeros(1, np.int64)
    return Counter(
        tuple(sample(of, keys, asked, fan_out, draw).neighbours.tolist()) for draw in draws
    )


class TestDistribution:
    def test_every_set_of_neighbours_comes_as_often_over_draws(self):
        sets = [*combinations(range(1, 8), 3)]
        found = frequencies(star([1.0] * 7), 3, [Draw(number) for number in range(60 * len(sets))])
        assert chisquare([found[each] for each in sets]).pvalue > 0.001
        assert sum(found.values()) == 60 * len(sets)

    def test_every_set_of_neighbours_comes_as_often_over_hearers(self):
        hearers, fan_out = 3500, 3
        edges = [(hearer, hearers + other, 1.0) for hearer in range(hearers) for other in range(7)]
        of = of_rows(edges, hearers + 7)
        found = sample(of, keys_of(of.nodes), np.arange(hearers), fan_out, Draw(11))
        sets = Counter(map(tuple, (found.neighbours.reshape(-1, fan_out) - hearers).tolist()))
        expected = [*combinations(range(7), fan_out)]
        assert chisquare([sets[each] for each in expected]).pvalue > 0.001

    def test_by_weight_sets_come_as_when_drawn_one_after_another(self):
        weights = [1.0, 2.0, 3.0, 10.0]
        chances: Counter[tuple[int, ...]] = Counter()
        for order in permutations(range(4), 2):
            chance, left = 1.0, sum(weights)
            for node in order:
                chance *= weights[node] / left
                left -= weights[node]
            chances[tuple(sorted(node + 1 for node in order))] += chance
        assert np.isclose(sum(chances.values()), 1)
        draws = [Draw(number, "weight") for number in range(4000)]
        found = frequencies(star(weights), 2, draws)
        expected = [len(draws) * chance for chance in chances.values()]
        assert chisquare([found[each] for each in chances], expected).pvalue > 0.001

    def test_another_draw_is_another_sample_and_the_same_is_the_same(self):
        of = star([1.0] * 40)
        found = {
            number: tuple(sample(of, keys_of(41), np.array([0]), 5, Draw(number)).neighbours)
            for number in (0, 1, 2, 3, 2**62, 2**63 - 1)
        }
        assert len(set(found.values())) == len(found)

    @pytest.mark.parametrize("scale", [1e-45, 1e-30, 1.0, 1e30, 1e38])
    def test_weights_of_any_size_are_drawn_by(self, scale):
        # The heaviest is a thousand times the others together, or as near as float32 comes to it.
        of = star([scale] * 20 + [min(2e4 * scale, 3e38)])
        found = frequencies(of, 1, [Draw(number, "weight") for number in range(50)])
        assert found[21,] > (40 if scale < 1e38 else 0)


class Loops:
    """What pyg-lib documents, node by node in Python: edges by their hearers, in any order.

    It stands in for the library where that is not installed, so that what asks it is tried all the
    same; that the library itself draws so is for the test that needs it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.sampler = SimpleNamespace(neighbor_sample=self.neighbor_sample)

    def neighbor_sample(self, rowptr, col, seed, num_neighbors):
        self.calls += 1
        assert {rowptr.dtype, col.dtype, seed.dtype} == {torch.int64}
        (fan_out,) = num_neighbors
        hearers, edges = [], []
        for place, node in enumerate(seed.tolist()):
            start, end = rowptr[node : node + 2].tolist()
            chosen = start + torch.randperm(end - start)[:fan_out]
            hearers += [place] * len(chosen)
            edges += chosen.tolist()
        found, order = torch.tensor([hearers, edges], dtype=torch.int64), torch.randperm(len(edges))
        hearers, edges = found[:, order]
        return hearers, col[edges], seed, edges, [len(seed)], [len(edges)]


@pytest.fixture
def loops(monkeypatch) -> Loops:
    stand_in = Loops()
    monkeypatch.setattr(sampler, "_pyg_lib", lambda: stand_in)
    return stand_in


passing = Draw(3, passing=True)


class TestPygLib:
    def test_draws_what_training_needs_once_and_nothing_else(self, loops):
        of, asked = star([1.0] * 9), np.array([0, 1])
        for draw, excluded in (
            (replace(passing, passing=False), None),
            (replace(passing, by="weight"), None),
            (passing, Exclusion(nodes=np.zeros(10, bool))),
        ):
            sample(of, keys_of(10), asked, 4, draw, excluded)
            assert not loops.calls
        sample(of, keys_of(10), asked, 4, passing)
        assert loops.calls == 1

    @given(of=adjacencies(), fan_out=fan_outs, number=st.integers(0, 2**63 - 1), data=st.data())
    def test_hands_over_real_neighbours_in_our_order(self, of, fan_out, number, data):
        stand_in, asked, real = Loops(), asked_of(data, of), neighbours(of)
        before = torch.get_rng_state()
        found = sampler._drawn_by(stand_in, of, asked, fan_out, number)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(1)  # whatever has been drawn elsewhere meanwhile
        again = sampler._drawn_by(stand_in, of, asked, fan_out, number)
        np.testing.assert_array_equal(again.places, found.places)
        np.testing.assert_array_equal(of.indices[found.places], found.neighbours)
        for node, mine in zip(asked.tolist(), heard(found), strict=True):
            known = real[node] if node >= 0 else {}
            assert set(mine) <= set(known)
            assert mine == sorted(set(mine))
            assert len(mine) == min(fan_out, len(known))

    def test_agrees_with_ours_in_distribution(self):
        if sampler._pyg_lib() is None:
            pytest.skip("pyg-lib cannot be imported: there is no wheel of it for this torch")
        sets = [*combinations(range(1, 8), 3)]
        draws = [Draw(number, passing=True) for number in range(60 * len(sets))]
        found = frequencies(star([1.0] * 7), 3, draws)
        assert chisquare([found[each] for each in sets]).pvalue > 0.001

    @pytest.mark.skipif(find_spec("pyg_lib") is not None, reason="pyg-lib brings torch with it")
    def test_where_it_is_not_no_torch_is_imported(self):
        code = """
import sys
import numpy as np
from models.graphs.adjacency import Adjacency
from models.graphs.sampling.sampler import Draw, sample

of = Adjacency.of_edges(np.zeros(9, int), np.arange(1, 10), np.ones(9), 10)
found = sample(of, np.arange(10, dtype=np.uint64), np.array([0]), 4, Draw(3, passing=True))
assert len(found.neighbours) == 4
assert "torch" not in sys.modules
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

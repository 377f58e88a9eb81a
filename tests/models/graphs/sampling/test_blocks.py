"""What has to be computed for some states, against walking out from one node after the other."""

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.graphs.channels import Channel, channels
from models.graphs.graph import Graph
from models.graphs.sampling.blocks import Blocks, gather
from models.graphs.sampling.sampler import Draw, Exclusion, sample
from tests.models.graphs.made import graph, graphs, neighbours, of_rows

hops = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
draws = st.builds(Draw, st.integers(0, 9), st.sampled_from(["uniform", "weight"]))


class Case(NamedTuple):
    graph: Graph
    channels: list[Channel]
    asked: np.ndarray
    fan_outs: tuple[int, ...]
    draw: Draw
    excluded: Exclusion | None

    def blocks(self, asked: np.ndarray | None = None) -> Blocks:
        asked = self.asked if asked is None else asked
        return gather(
            self.channels, self.graph.keys, asked, self.fan_outs, self.draw, self.excluded
        )

    def heard(self, channel: Channel, node: int, fan_out: int) -> list[int]:
        """What one node hears in one channel."""
        of = channel.adjacency
        found = sample(of, self.graph.keys, np.array([node]), fan_out, self.draw, self.excluded)
        return found.neighbours.tolist()


@st.composite
def cases(draw: st.DrawFn) -> Case:
    of = draw(graphs())
    merging = draw(st.sampled_from(["together", "apart"]))
    asked = draw(st.lists(st.integers(-1, len(of) - 1), min_size=1, max_size=6))
    hidden = np.array(draw(st.lists(st.booleans(), min_size=len(of), max_size=len(of))))
    excluded = draw(st.sampled_from([None, Exclusion(nodes=hidden)]))
    made = channels(of, [*of.relations], merging)
    return Case(of, made, np.array(asked), draw(hops), draw(draws), excluded)


@given(case=cases())
def test_there_is_a_layer_for_each_hop_and_nodes_of_one_come_first_below(case):
    blocks = case.blocks()
    assert len(blocks.layers) == len(case.fan_outs) == len(blocks.sizes) - 1
    assert blocks.sizes[0] == len(blocks.rows)
    assert blocks.sizes[-1] == len(case.asked)
    np.testing.assert_array_equal(blocks.rows[: len(case.asked)], case.asked)
    for number, layer in enumerate(blocks.layers):
        below, here = blocks.sizes[number : number + 2]
        assert here <= below
        assert len(layer) == len(case.channels)
        sources = set()
        for heard in layer:
            assert len(heard.counts) == here
            assert heard.counts.sum() == len(heard.sources) == len(heard.attributes)
            assert heard.hearers().tolist() == [
                place for place, count in enumerate(heard.counts) for _ in range(count)
            ]
            sources |= set(heard.sources.tolist())
        # Nobody is there whom nobody hears, or who was not there above.
        assert sources | set(range(here)) == set(range(below))


@given(case=cases())
def test_sources_are_the_sampled_neighbours_with_what_their_edges_say(case):
    blocks = case.blocks()
    for layer, fan_out in zip(blocks.layers, reversed(case.fan_outs), strict=True):
        for heard, channel in zip(layer, case.channels, strict=True):
            of, ends = channel.adjacency, np.cumsum(heard.counts)
            for place, (end, count) in enumerate(zip(ends, heard.counts, strict=True)):
                row = int(blocks.rows[place])
                mine = slice(end - count, end)
                sources = blocks.rows[heard.sources[mine]].tolist()
                assert sources == case.heard(channel, row, fan_out)
                for at, source in enumerate(sources, end - count):
                    edge = of.indptr[row] + [*neighbours(of)[row]].index(source)
                    np.testing.assert_array_equal(heard.attributes[at], channel.attributes[edge])
                    # How many it may hear itself tells the convolution how much it counts.
                    assert heard.spread[at] == len(case.heard(channel, source, fan_out))


@given(case=cases())
def test_nobody_hears_who_is_asked_for_and_no_other_is_computed_twice(case):
    blocks, asked = case.blocks(), len(case.asked)
    assert all((heard.sources >= asked).all() for layer in blocks.layers for heard in layer)
    others = blocks.rows[asked:].tolist()
    assert len(set(others)) == len(others)
    assert -1 not in others


@given(case=cases())
def test_a_node_is_told_the_same_alone_and_among_others(case):
    def told(blocks: Blocks, layer: int, place: int) -> object:
        """All that a node of a layer hears, and what those heard, down to the last."""
        if layer < 0:
            return int(blocks.rows[place])
        said = []
        for heard in blocks.layers[layer]:
            mine = np.flatnonzero(heard.hearers() == place)
            for edge in mine.tolist():
                source = told(blocks, layer - 1, int(heard.sources[edge]))
                said.append((heard.attributes[edge].tolist(), int(heard.spread[edge]), source))
        return told(blocks, layer - 1, place), said

    top, together = len(case.fan_outs) - 1, case.blocks()
    for place, node in enumerate(case.asked):
        alone = case.blocks(np.array([node]))
        assert told(alone, top, 0) == told(together, top, place)


@given(case=cases())
def test_who_is_excluded_is_in_no_layer(case):
    if case.excluded is None:
        return
    hidden, blocks = case.excluded.nodes, case.blocks()
    assert not hidden[blocks.rows[len(case.asked) :]].any()
    for layer in blocks.layers:
        for heard in layer:
            rows = blocks.rows[heard.hearers()]
            assert not hidden[rows].any()


def test_fan_outs_are_those_of_each_hop_from_the_asked_outwards():
    # A line of nodes with two leaves each: 0 - 1 - 2, where node n has the leaves 10 n + 3 and 4.
    edges = [(0, 1, 9.0), (1, 2, 9.0)] + [
        (node, leaf, 1.0) for node in range(3) for leaf in (10 * node + 3, 10 * node + 4)
    ]
    of = Graph("us", graph(products=30, queries=0).keys, 30, {"click": of_rows(edges, 30)})
    blocks = gather(channels(of, ["click"], "apart"), of.keys, np.array([0]), (3, 1), Draw(0))
    upper, lower = blocks.layers[1][0], blocks.layers[0][0]
    assert upper.counts.tolist() == [3]
    assert lower.counts.tolist() == [1] * 4
    assert blocks.sizes[1:] == (4, 1)

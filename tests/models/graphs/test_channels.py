"""What convolutions hear: the relations joined or apart, made now or mapped from where they lie."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ReleaseError
from models.graphs.arrays import save_array
from models.graphs.channels import channels, open_channels, save_channels
from models.graphs.graph import Graph
from tests.models.graphs.made import RELATIONS, adjacency, graph, graphs, keys_of, neighbours


class TestChannels:
    @given(of=graphs(), data=st.data())
    def test_apart_each_relation_is_heard_by_itself(self, of, data):
        names = data.draw(st.permutations(sorted(of.relations)))
        found = channels(of, names, "apart")
        assert [channel.relations for channel in found] == [(name,) for name in names]
        for name, channel in zip(names, found, strict=True):
            assert channel.adjacency is of.relations[name]
            expected = np.log1p(of.relations[name].weights)[:, None]
            np.testing.assert_array_equal(channel.attributes, expected)

    @given(of=graphs(), data=st.data())
    def test_together_an_edge_keeps_what_each_relation_says_of_it(self, of, data):
        names = data.draw(st.permutations(sorted(of.relations)))
        (found,) = channels(of, names, "together")
        assert found.relations == tuple(names)
        said = [neighbours(of.relations[name]) for name in names]
        merged = neighbours(found.adjacency)
        for node in range(len(of)):
            heard = sorted(set().union(*(each[node] for each in said)))
            assert [*merged[node]] == heard
            start = int(found.adjacency.indptr[node])
            for place, other in enumerate(heard, start):
                weights = [each[node].get(other, 0.0) for each in said]
                assert merged[node][other] == sum(weights)  # eighths: to the bit
                np.testing.assert_array_equal(
                    found.attributes[place], np.log1p(np.array(weights, np.float32))
                )
        assert len(found.attributes) == len(found.adjacency)

    def test_the_largest_rows_do_not_run_into_each_other(self):
        # Keys of edges are products of row numbers: at 80,000 nodes 32 bits would be too few.
        nodes, rng = 80_000, np.random.default_rng(0)
        relations = {name: adjacency(rng, nodes, 500) for name in RELATIONS}
        (found,) = channels(Graph("us", keys_of(nodes), nodes, relations), RELATIONS, "together")
        expected = sum(edges.weights.sum(dtype=float) for edges in relations.values())
        assert np.isclose(found.adjacency.weights.sum(dtype=float), expected)
        for number, (_, edges) in enumerate(relations.items()):
            np.testing.assert_array_equal(
                np.sort(found.attributes[:, number])[-len(edges) :],
                np.sort(np.log1p(edges.weights)),
            )


class TestSaving:
    @given(of=graphs(), data=st.data())
    def test_what_is_opened_is_what_was_made(self, of, data):
        names = data.draw(st.permutations(sorted(of.relations)))
        merging = data.draw(st.sampled_from(["together", "apart"]))
        made = channels(of, names, merging)
        with TemporaryDirectory() as scratch:
            save_channels(made, Path(scratch))
            found = open_channels(of, names, merging, Path(scratch))
        assert [one.relations for one in found] == [one.relations for one in made]
        for one, other in zip(found, made, strict=True):
            np.testing.assert_array_equal(one.attributes, other.attributes)
            for part in ("indptr", "indices", "weights"):
                mine, theirs = (getattr(each.adjacency, part) for each in (one, other))
                assert mine.dtype == theirs.dtype
                np.testing.assert_array_equal(mine, theirs)

    @pytest.mark.parametrize("merging", ["together", "apart"])
    def test_nothing_of_it_is_in_memory_but_mapped(self, tmp_path, merging):
        of = graph()
        save_channels(channels(of, RELATIONS, merging), tmp_path)
        for channel in open_channels(of, RELATIONS, merging, tmp_path):
            arrays = [channel.attributes]
            if merging == "together":
                edges = channel.adjacency
                arrays += [edges.indptr, edges.indices, edges.weights]
            else:
                assert channel.adjacency is of.relations[channel.relations[0]]
            assert all(isinstance(array.base, np.memmap) for array in arrays)

    @pytest.mark.parametrize(
        ("name", "change", "said"),
        [
            ("0.attributes.npy", lambda array: array[:-1], "attributes of shape"),
            ("0.attributes.npy", lambda array: array[:, :-1], "attributes of shape"),
            ("0.attributes.npy", lambda array: array.astype(float), "float64"),
            ("0.indptr.npy", lambda array: array[:-1], "edges by their counts"),
            ("0.indptr.npy", lambda array: np.append(array, array[-1]), "43 nodes"),
            ("0.indices.npy", lambda array: array + 1, "nodes that are not there"),
            ("0.weights.npy", lambda array: -array, "weights that are none"),
        ],
    )
    def test_others_than_the_graph_s_are_refused(self, tmp_path, name, change, said):
        of = graph()
        save_channels(channels(of, RELATIONS, "together"), tmp_path)
        save_array(tmp_path / name, change(np.load(tmp_path / name)))
        with pytest.raises(ReleaseError, match=said):
            open_channels(of, RELATIONS, "together", tmp_path)

    def test_those_that_are_not_there_are_missed(self, tmp_path):
        save_channels(channels(graph(), RELATIONS[:1], "together"), tmp_path)
        with pytest.raises(ReleaseError, match="no channel of click and purchase"):
            open_channels(graph(), RELATIONS[:2], "together", tmp_path)

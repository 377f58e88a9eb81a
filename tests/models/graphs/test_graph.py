"""The typed graph: rows by key, and a folder that is whole or refused."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError, ReleaseError
from models.graphs.adjacency import Adjacency
from models.graphs.graph import GRAPH_FILE, Graph
from tests.models.graphs.made import RELATIONS, graph, graphs, keys_of

ARRAYS = ["keys.npy"] + [
    f"{number}.{part}.npy" for number in range(3) for part in ("indptr", "indices", "weights")
]


def bytes_of(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


def flipped(content: bytes) -> bytes:
    """The last byte another: shape and kind stay, a number changes."""
    return content[:-1] + bytes([content[-1] ^ 1])


def zipped(content: bytes) -> bytes:
    held = io.BytesIO()
    np.savez(held, keys=np.load(io.BytesIO(content)))
    return held.getvalue()


DAMAGES = {
    "cut in half": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
    "empty": lambda _: b"",
    "another number": flipped,
    "an archive": zipped,
    "a pickle": lambda _: bytes_of(np.array([{"a": 1}], object)),
    "text": lambda _: b"keys",
    "another kind": lambda content: bytes_of(np.load(io.BytesIO(content)).astype(np.float64)),
    "another shape": lambda content: bytes_of(np.load(io.BytesIO(content))[None]),
    "no numbers": lambda content: bytes_of(np.load(io.BytesIO(content))[:0]),
}


class TestRows:
    @given(data=st.data())
    def test_each_node_is_found_by_its_key_and_a_stranger_is_nowhere(self, data):
        of = data.draw(graphs())
        asked = data.draw(st.lists(st.integers(0, len(of) + 4)))
        rows = of.rows_of(keys_of(len(of) + 5)[np.array(asked, np.int64)])
        assert rows.tolist() == [row if row < len(of) else -1 for row in asked]

    def test_a_graph_of_nothing_knows_nobody(self):
        empty = Graph("us", keys_of(0), 0, {})
        assert empty.rows_of(keys_of(3)).tolist() == [-1, -1, -1]

    def test_products_come_before_queries(self):
        of = graph(products=4, queries=2)
        assert of.is_query(np.arange(6)).tolist() == [False] * 4 + [True] * 2

    def test_two_nodes_of_one_key_are_refused(self):
        of = Graph("us", np.zeros(2, np.uint64), 1, {})
        with pytest.raises(DataError, match="us have one key"):
            of.rows_of(keys_of(1))

    def test_a_relation_over_other_nodes_is_refused(self):
        with pytest.raises(DataError, match=r"'click' has 3 nodes; expected 2"):
            Graph("us", keys_of(2), 1, {"click": Adjacency.empty(3)})


class TestSaving:
    @given(of=graphs())
    @settings(max_examples=15)  # what is written is waited for until it is on disk
    def test_what_was_saved_is_opened_and_mapped(self, of, tmp_path_factory):
        folder = tmp_path_factory.mktemp("graph")
        of.save(folder)
        for verified in (False, True):
            again = Graph.open(folder, verified=verified)
            assert (again.locale, again.products) == (of.locale, of.products)
            assert [*again.relations] == [*of.relations]
            pairs = [(again.keys, of.keys)]
            for name, edges in again.relations.items():
                pairs += [
                    (getattr(edges, part), getattr(of.relations[name], part))
                    for part in ("indptr", "indices", "weights")
                ]
            for found, expected in pairs:
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype
                assert isinstance(found.base, np.memmap)
                assert not found.flags.writeable

    def test_every_file_is_known_to_be_one_of_these(self, tmp_path):
        graph().save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {*ARRAYS, GRAPH_FILE}

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_every_damaged_file_is_refused(self, damage, tmp_path):
        graph().save(tmp_path)
        for path in (tmp_path / name for name in ARRAYS):
            content = path.read_bytes()
            path.write_bytes(DAMAGES[damage](content))
            with pytest.raises(ReleaseError, match=str(tmp_path)):
                Graph.open(tmp_path)
            if damage != "another number":  # of which digests alone tell
                with pytest.raises(ReleaseError, match=str(tmp_path)):
                    Graph.open(tmp_path, verified=True)
            path.write_bytes(content)
        Graph.open(tmp_path)

    def test_every_missing_file_is_refused(self, tmp_path):
        graph().save(tmp_path)
        for path in (tmp_path / name for name in (*ARRAYS, GRAPH_FILE)):
            content = path.read_bytes()
            path.unlink()
            for verified in (False, True):
                with pytest.raises(ReleaseError, match=str(tmp_path)):
                    Graph.open(tmp_path, verified=verified)
            path.write_bytes(content)

    def test_every_file_of_another_graph_is_refused(self, tmp_path):
        for seed in (0, 1):
            graph(seed, products=30 + seed).save(tmp_path / str(seed))
        for name in ARRAYS:
            path = tmp_path / "0" / name
            content = path.read_bytes()
            path.write_bytes((tmp_path / "1" / name).read_bytes())
            with pytest.raises(ReleaseError, match=f"{name} has SHA-256"):
                Graph.open(tmp_path / "0")
            path.write_bytes(content)

    @pytest.mark.parametrize(
        ("part", "at", "number"),
        [("indptr", 0, 1), ("indptr", 5, 10**9), ("indices", 3, 42), ("indices", 3, -1),
         ("weights", 0, 0.0), ("weights", 0, -1.0), ("weights", 0, np.nan),
         ("weights", 0, np.inf)],
    )  # fmt: skip
    def test_numbers_that_nobody_may_index_or_draw_with_are_refused(
        self, part, at, number, tmp_path
    ):
        graph().save(tmp_path)
        path = tmp_path / f"1.{part}.npy"
        array = np.load(path)
        array[at] = number
        np.save(path, array)
        with pytest.raises(ReleaseError, match="'purchase'"):
            Graph.open(tmp_path, verified=True)

    @pytest.mark.parametrize(
        ("change", "told"),
        [({"format": 2}, "format 2 and this code reads 1"), ({"locale": "de"}, "locale"),
         ({"products": 31}, "42 keys for 31 products and 12 queries"), ({"more": 1}, "more"),
         ({"files": {}}, "digests of"), ({"relations": ["click"]}, "digests of"),
         ({"relations": [*RELATIONS, "add"]}, "digests of")],
    )  # fmt: skip
    def test_a_description_of_another_graph_is_refused(self, change, told, tmp_path):
        graph().save(tmp_path)
        path = tmp_path / GRAPH_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ReleaseError, match=told):
            Graph.open(tmp_path)

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "\x00"])
    def test_a_description_of_nothing_is_refused(self, content, tmp_path):
        graph().save(tmp_path)
        (tmp_path / GRAPH_FILE).write_text(content)
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Graph.open(tmp_path)

    def test_half_a_graph_over_an_old_one_is_none(self, tmp_path, monkeypatch):
        graph(0).save(tmp_path)
        save, left = np.save, [5]  # the keys and one relation are new by then

        def saving(*arguments, **options):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            save(*arguments, **options)

        monkeypatch.setattr(np, "save", saving)
        with pytest.raises(KeyboardInterrupt):
            graph(1).save(tmp_path)
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Graph.open(tmp_path, verified=True)

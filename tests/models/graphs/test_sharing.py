"""What the fits of one run share is what each would have made by itself."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.graphs.building import build_graphs
from models.graphs.features.hashed import HashedText
from models.graphs.options import GraphOptions
from models.graphs.sharing import Sharing, identity_of
from models.pairs import Products, Queries
from models.surroundings import Surroundings
from models.texts import Texts
from models.workbench import Workbench
from tests.models.graphs.made import Digested
from tests.models.graphs.shop import pairs, surroundings

OPTIONS = GraphOptions(relations=("click", "co_buy"))


class Making:
    """Arrays that know how often they were made."""

    def __init__(self, *numbers: float) -> None:
        self.numbers, self.times = numbers, 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return {"numbers": np.array(self.numbers), "none": np.empty((0, 3), np.int32)}


def sharing(common: Path | None, of: Surroundings | None = None) -> Sharing:
    return Sharing(of or surroundings(), Workbench(common=common))


class TestIdentities:
    @given(st.lists(st.text(max_size=4), max_size=6), st.data())
    def test_of_texts_it_is_that_of_what_they_hold(self, strings, data):
        whole = Texts.of(strings)
        cut = sorted(data.draw(st.integers(0, len(strings))) for _ in range(2))
        part = Texts(whole.data, whole.offsets[cut[0] : cut[1] + 1])
        assert identity_of(part) == identity_of(Texts.of(strings[slice(*cut)]))
        others = data.draw(st.lists(st.text(max_size=4), max_size=6))
        is_same = [*Texts.of(others)] == [*whole]
        assert (identity_of(Texts.of(others)) == identity_of(whole)) == is_same

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("ab", "c"), ("a", "bc")),
            ((1,), ("1",)),
            ((None,), ("None",)),
            ((1, 23), (12, 3)),
            ((["a"], "b"), (["a", "b"],)),
            ((np.array([1, 2]),), (np.array([[1, 2]]),)),
            ((np.array([1, 2]),), (np.array([1.0, 2.0]),)),
            ((np.array([1]), np.array([2])), (np.array([1, 2]),)),
            ((Queries.of(["a"], ["us"]),), (Queries.of(["a"], ["es"]),)),
        ],
    )
    def test_none_runs_into_another(self, one, other):
        assert identity_of(*one) == identity_of(*one)
        assert identity_of(*one) != identity_of(*other)

    def test_it_is_of_the_values_and_not_of_where_they_lie(self):
        rows = np.arange(20)
        assert identity_of(rows[::2]) == identity_of(rows[::2].copy())
        assert identity_of({"a": 1, "b": 2}) == identity_of({"b": 2, "a": 1})


class TestArrays:
    def test_they_are_made_once_for_all_that_decides_them(self, tmp_path):
        making = Making(1.0, 2.0)
        for _ in range(3):
            found = sharing(tmp_path).arrays(making, "one", 7)
            assert set(found) == {"numbers", "none"}
            np.testing.assert_array_equal(found["numbers"], [1.0, 2.0])
            assert found["none"].shape == (0, 3)
        assert making.times == 1
        sharing(tmp_path).arrays(making, "one", 8)
        assert making.times == 2

    def test_alone_they_are_made_each_time(self):
        making = Making(1.0)
        for _ in range(2):
            sharing(None).arrays(making, "one")
        assert making.times == 2

    @pytest.mark.parametrize("field", ["products", "behaviours", "links", "lists"])
    def test_other_surroundings_decide_too(self, tmp_path, field):
        of = surroundings()
        sharing(tmp_path, of).arrays(Making(1.0), "one")
        changed = {
            "products": of.products.take(np.arange(59)),
            "behaviours": replace(of.behaviours, weights=of.behaviours.weights + 1),
            "links": replace(of.links, weights=of.links.weights + 1),
            "lists": pairs(of).without_labels(),
        }
        making = Making(2.0)
        other = sharing(tmp_path, replace(of, **{field: changed[field]}))
        np.testing.assert_array_equal(other.arrays(making, "one")["numbers"], [2.0])

    def test_who_writes_into_them_writes_for_himself(self, tmp_path):
        first = sharing(tmp_path).arrays(Making(1.0), "one")["numbers"]
        first[0] = 5
        assert sharing(tmp_path).arrays(Making(1.0), "one")["numbers"][0] == 1

    def test_those_that_ask_together_wait_for_the_first(self, tmp_path):
        making = Making(1.0)
        with ThreadPoolExecutor(8) as threads:
            found = [
                threads.submit(sharing(tmp_path).arrays, making, "one").result for _ in range(8)
            ]
            assert {float(each()["numbers"][0]) for each in found} == {1.0}
        assert making.times == 1

    def test_what_was_broken_off_is_made_again(self, tmp_path):
        def killed() -> Mapping[str, np.ndarray]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sharing(tmp_path).arrays(killed, "one")
        making = Making(1.0)
        sharing(tmp_path).arrays(making, "one")
        assert making.times == 1

    @pytest.mark.parametrize("name", ["numbers.npy", "whole.json"])
    @pytest.mark.parametrize("left", [0, -3, None])
    def test_what_is_damaged_is_made_again(self, tmp_path, name, left):
        sharing(tmp_path).arrays(Making(1.0), "one")
        (path,) = tmp_path.glob(f"*/{name}")
        content = path.read_bytes()
        path.unlink()
        if left is not None:
            path.write_bytes(content[:left])
        making = Making(1.0)
        for _ in range(2):
            found = sharing(tmp_path).arrays(making, "one")
        assert making.times == 1
        assert found["numbers"][0] == 1


def graphs_of(common: Path | None, options: GraphOptions, **asked) -> list[bytes]:
    """All that the graphs hold, one array after another."""
    of, hidden = asked.get("of", surroundings()), asked.get("hidden", frozenset())
    features = asked.get("features", Digested())
    relations = options.relations
    found = build_graphs(of, options, features, hidden, relations, sharing(common, of))
    return [
        np.asarray(array).tobytes()
        for graph in found.values()
        for array in (
            graph.graph.keys,
            graph.features,
            graph.names.data,
            *(part for name in relations for part in graph.graph.relations[name].arrays().values()),
        )
    ]


class TestGraphs:
    @pytest.mark.parametrize(
        ("options", "asked"),
        [
            ({}, {}),
            ({"relations": ("purchase", "click")}, {}),
            ({"relations": ("same_brand", "similar")}, {}),
            ({"most_neighbours": 2}, {}),
            ({"relations": ("same_brand",), "derived_neighbours": 2}, {}),
            ({}, {"hidden": frozenset({"red lamp 0", "blue desk 1"})}),
            ({}, {"of": surroundings(seed=4)}),
            ({"half_life_days": 3.0}, {"of": replace(
                surroundings(), behaviours=replace(
                    surroundings().behaviours, days=np.arange(300, dtype=np.int32)))}),
            ({"relations": ("similar",)}, {"features": HashedText.fit(
                surroundings().behaviours.queries, surroundings().products, 8, 0)}),
        ],
    )  # fmt: skip
    def test_after_others_they_are_what_they_would_be_alone(self, tmp_path, options, asked):
        chosen = replace(OPTIONS, **options)
        before = [
            (OPTIONS, {}),
            (replace(OPTIONS, relations=("similar", "same_brand")), {}),
            (replace(OPTIONS, most_neighbours=3), {}),
        ]
        for earlier in before:
            graphs_of(tmp_path, earlier[0], **earlier[1])
        if "half_life_days" in options:
            graphs_of(tmp_path, OPTIONS, **asked)
        alone = graphs_of(None, chosen, **asked)
        for _ in range(2):
            assert graphs_of(tmp_path, chosen, **asked) == alone

    def test_relations_that_others_have_are_not_made_again(self, tmp_path):
        class Once(Digested):
            read = 0

            def of_products(self, products: Products) -> np.ndarray:
                Once.read += len(products)
                return super().of_products(products)

        graphs_of(tmp_path, OPTIONS, features=Once())
        made = set(tmp_path.iterdir())
        graphs_of(tmp_path, replace(OPTIONS, relations=("click",)), features=Once())
        assert Once.read == 60
        assert set(tmp_path.iterdir()) == made
        graphs_of(tmp_path, replace(OPTIONS, relations=("click", "purchase")), features=Once())
        assert Once.read == 60
        # One relation of each locale, with its lock.
        assert len(set(tmp_path.iterdir()) - made) == 4

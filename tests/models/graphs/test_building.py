"""Graphs from what surrounds the pairs, against dictionaries filled row by row."""

import tracemalloc
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ConfigError, ReleaseError
from models.graphs import building
from models.graphs.building import FeaturedGraph, build_graphs, hidden_queries
from models.graphs.keys import product_node_keys, query_node_keys
from models.graphs.options import GraphOptions, relation_names
from models.locales import LOCALES
from models.pairs import Products, Queries
from models.surroundings import Surroundings
from models.text import fold
from tests.models.graphs.made import Digested, neighbours, some_products, surroundings

LOCALES_USED = ("us", "es")
IDS = [f"P{row}" for row in range(5)]
# Two of them are one query, spelt in three ways.
TEXTS = ["Red Shoe", "red  shoe", "ＲＥＤ shoe", "blue hat", "hat"]

NamedEdges = dict[tuple[str, str], float]


def products() -> list[dict[str, str]]:
    """The same ids in two locales, in turn."""
    return [
        {"locale": locale, "product_id": name, "title": f"{locale} {name}"}
        for name in IDS
        for locale in LOCALES_USED
    ]


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, list[tuple]]:
    """Rows of behaviours, links and lists; the first of each see to it that all relations exist."""
    text, locale, name = (st.sampled_from(choices) for choices in (TEXTS, LOCALES_USED, IDS))
    weight = st.integers(0, 40).map(lambda eighths: eighths / 8)
    relation, day = st.sampled_from(["click", "purchase"]), st.none() | st.integers(0, 30)
    done = st.tuples(text, locale, name, relation, weight, day)
    linked = st.tuples(name, name, locale, st.just("co_buy"), weight)
    firsts = [("hat", "us", "P0", "click", 1.0, 0), ("hat", "es", "P0", "purchase", 1.0, None)]
    return {
        "done": [*firsts, *draw(st.lists(done, max_size=25))],
        "linked": [("P0", "P1", "us", "co_buy", 1.0), *draw(st.lists(linked, max_size=12))],
        "lists": [("hat", "us", "P2"), *draw(st.lists(st.tuples(text, locale, name), max_size=12))],
    }


RELATIONS = ("click", "purchase", "co_buy", "listed")


def plain(
    world: dict[str, list[tuple]], locale: str, relation: str, hidden: set[str],
    half_life: float | None = None,
) -> NamedEdges:  # fmt: skip
    """The edges of a relation by the names of their ends, row by row."""
    last = max((row[5] for row in world["done"] if row[5] is not None), default=0)
    found: NamedEdges = defaultdict(float)

    def add(one: str, other: str, weight: float) -> None:
        if weight and one != other:
            found[one, other] += weight
            found[other, one] += weight

    for query, where, product, name, weight, day in world["done"]:
        if (where, name) == (locale, relation) and fold(query) not in hidden:
            age = 0 if day is None else last - day
            left = 1.0 if half_life is None else 0.5 ** (age / half_life)
            add(f"query {fold(query)}", product, weight * left)
    for one, other, where, name, weight in world["linked"]:
        if (where, name) == (locale, relation):
            add(one, other, weight)
    if relation == "listed":
        for query, where, product in world["lists"]:
            if where == locale and fold(query) not in hidden:
                add(f"query {fold(query)}", product, 1.0)
    return found


def named(graph: FeaturedGraph, relation: str) -> NamedEdges:
    """The edges of a relation by the names of their ends."""
    names = [
        f"query {fold(name)}" if row >= graph.graph.products else name
        for row, name in enumerate(graph.names)
    ]
    return {
        (names[row], names[other]): weight
        for row, mine in enumerate(neighbours(graph.graph.relations[relation]))
        for other, weight in mine.items()
    }


def built(
    world: dict[str, list[tuple]], hidden: frozenset[str] = frozenset(), **options: object
) -> dict[str, FeaturedGraph]:
    chosen = GraphOptions(**{"relations": RELATIONS, **options})
    return build_graphs(surroundings(products(), **world), chosen, Digested(), hidden)


def keys_of(texts: list[str], locale: str) -> np.ndarray:
    return query_node_keys(Queries.of(texts, [locale] * len(texts)))


hidings = st.sets(st.sampled_from(sorted({fold(text) for text in TEXTS})), max_size=2)


@given(world=worlds(), hidden=hidings)
def test_edges_are_what_the_rows_say(world, hidden):
    graphs = built(world, frozenset(hidden))
    assert [*graphs] == [*LOCALES_USED]
    for locale, graph in graphs.items():
        assert [*graph.graph.relations] == [*RELATIONS]
        for relation in RELATIONS:
            assert named(graph, relation) == plain(world, locale, relation, hidden)


@given(world=worlds(), half_life=st.sampled_from([0.5, 7.0, 365.0]))
def test_a_behaviour_counts_half_after_its_half_life_and_one_without_a_date_whole(world, half_life):
    for locale, graph in built(world, half_life_days=half_life).items():
        for relation in RELATIONS:
            found, expected = (
                named(graph, relation),
                plain(world, locale, relation, set(), half_life),
            )
            assert found.keys() == expected.keys()
            assert found == pytest.approx(expected, rel=1e-6)


@given(world=worlds(), data=st.data())
def test_the_order_of_rows_changes_nothing(world, data):
    shuffled = {name: data.draw(st.permutations(rows)) for name, rows in world.items()}
    before, after = built(world), built(shuffled)
    assert before.keys() == after.keys()
    for locale, graph in before.items():
        again = after[locale]
        assert again.names == graph.names
        np.testing.assert_array_equal(again.features, graph.features)
        np.testing.assert_array_equal(again.graph.keys, graph.graph.keys)
        for relation, edges in graph.graph.relations.items():
            for part in ("indptr", "indices", "weights"):
                np.testing.assert_array_equal(
                    getattr(again.graph.relations[relation], part), getattr(edges, part)
                )


@given(world=worlds(), hidden=hidings)
def test_a_hidden_query_has_neither_node_nor_edge_in_any_locale_or_spelling(world, hidden):
    for locale, graph in built(world, frozenset(hidden)).items():
        is_there = graph.graph.rows_of(keys_of(TEXTS, locale)) >= 0
        asked = {
            fold(row[0]) for rows in ("done", "lists") for row in world[rows] if row[1] == locale
        }
        assert is_there.tolist() == [fold(text) in asked - hidden for text in TEXTS]
        spelt = [fold(name) for name in [*graph.names][graph.graph.products :]]
        assert not hidden & set(spelt)
        assert len(spelt) == len(set(spelt)) == len(graph.graph) - graph.graph.products


@given(world=worlds())
def test_a_locale_is_a_graph_of_its_own(world):
    for locale, graph in built(world).items():
        alone = {
            "done": [row for row in world["done"] if row[1] == locale],
            "linked": [row for row in world["linked"] if row[2] == locale],
            "lists": [row for row in world["lists"] if row[1] == locale],
        }
        # What is said of one locale changes nothing in another.
        relations = (*relation_names(("all",), surroundings(products(), **alone)), "listed")
        again = built(alone, relations=relations)[locale]
        np.testing.assert_array_equal(again.graph.keys, graph.graph.keys)
        for relation in relations:
            assert named(again, relation) == named(graph, relation)


@given(world=worlds())
def test_nodes_are_the_products_of_the_catalogue_in_its_order_and_then_queries(world):
    rows, source = products(), Digested()
    for locale, graph in built(world).items():
        mine = Products.of([row for row in rows if row["locale"] == locale])
        count = len(mine)
        assert graph.graph.products == count
        np.testing.assert_array_equal(graph.graph.keys[:count], product_node_keys(mine))
        assert [*graph.names][:count] == IDS
        asked = Queries.of([*graph.names][count:], [locale] * (len(graph.graph) - count))
        np.testing.assert_array_equal(graph.graph.keys[count:], query_node_keys(asked))
        expected = np.concatenate([source.of_products(mine), source.of_queries(asked)])
        assert graph.features.dtype == np.float16
        np.testing.assert_array_equal(graph.features, expected.astype(np.float16))


def test_features_of_a_large_catalogue_are_asked_for_in_parts(monkeypatch):
    world = {"done": [("hat", "us", "P0", "click", 1.0, None)]}
    expected = built(world, relations=("click",))["us"].features
    asked = []

    class Counted(Digested):
        def of_products(self, products: Products) -> np.ndarray:
            asked.append(len(products))
            return super().of_products(products)

    monkeypatch.setattr(building, "_BLOCK", 2)
    around = surroundings(products(), **world)
    found = build_graphs(around, GraphOptions(relations=("click",)), Counted(), frozenset())
    np.testing.assert_array_equal(found["us"].features, expected)
    assert asked == [2, 2, 1] * len(LOCALES_USED)


def test_a_locale_without_products_has_no_graph():
    around = surroundings(some_products(3, "jp"))
    assert [*build_graphs(around, GraphOptions(), Digested(), frozenset())] == ["jp"]
    assert build_graphs(surroundings([]), GraphOptions(), Digested(), frozenset()) == {}


def test_a_node_hears_no_more_than_it_may():
    done = [(f"q{row}", "us", "P0", "click", 1.0 + row, None) for row in range(9)]
    whole, capped = (
        named(built({"done": done}, relations=("click",), most_neighbours=most)["us"], "click")
        for most in (256, 3)
    )
    assert len(whole) == 18
    assert {pair: whole[pair] for pair in capped} == capped
    assert {other for one, other in capped if one == "P0"} == {"query q6", "query q7", "query q8"}
    assert all((f"query q{row}", "P0") in capped for row in range(9))


class TestRelations:
    def test_all_are_those_of_the_behaviours_and_without_any_those_made_of_the_data(self):
        done = [("hat", "us", "P0", "add", 1.0, None), ("hat", "us", "P0", "click", 1.0, None)]
        linked = [("P0", "P1", "us", "co_buy", 1.0)]
        with_them = surroundings(products(), done, linked)
        assert relation_names(("all",), with_them) == ("add", "click")
        assert relation_names(("all", "co_buy", "add"), with_them) == ("add", "click", "co_buy")
        without = surroundings(products(), linked=linked)
        assert relation_names(("all",), without) == ("listed", "same_brand", "similar")
        graphs = build_graphs(without, GraphOptions(), Digested(), frozenset())
        assert [*graphs["us"].graph.relations] == ["listed", "same_brand", "similar"]

    def test_a_name_that_no_row_has_is_none(self):
        around = surroundings(products(), [("hat", "us", "P0", "click", 1.0, None)])
        named_too = replace(around.behaviours, relation_names=("click", "consume"))
        assert relation_names(("all",), replace(around, behaviours=named_too)) == ("click",)

    def test_an_unknown_one_is_told_which_there_are(self):
        around = surroundings(
            products(),
            [("hat", "us", "P0", "click", 1.0, None)],
            [("P0", "P1", "us", "co_buy", 1.0)],
        )
        told = r"'purchase' .*behaviours are click and links co_buy.*listed, same_brand, similar"
        with pytest.raises(ConfigError, match=told):
            build_graphs(around, GraphOptions(relations=("purchase",)), Digested(), frozenset())
        with pytest.raises(ConfigError, match="behaviours are none and links none"):
            relation_names(("click",), surroundings(products()))

    def test_one_of_behaviours_and_of_links_is_both(self):
        world = {
            "done": [("hat", "us", "P0", "seen", 1.0, None)],
            "linked": [("P0", "P1", "us", "seen", 2.0)],
        }
        found = named(built(world, relations=("seen",))["us"], "seen")
        assert found == plain(world, "us", "seen", set())
        assert len(found) == 4

    @pytest.mark.parametrize("name", ["listed", "same_brand", "similar"])
    def test_what_the_data_calls_so_is_not_made_up(self, name):
        world = {
            "linked": [("P0", "P1", "us", name, 2.0)],
            "lists": [("hat", "us", "P3")],
        }
        found = named(built(world, relations=(name,))["us"], name)
        assert found == {("P0", "P1"): 2.0, ("P1", "P0"): 2.0}

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [({"relations": ()}, "at least one"), ({"relations": ("a", "a")}, "each once"),
         ({"half_life_days": 0.0}, "above 0"), ({"half_life_days": float("nan")}, "above 0"),
         ({"most_neighbours": 0}, "at least 1"), ({"derived_neighbours": 0}, "at least 1")],
    )  # fmt: skip
    def test_options_that_cannot_be_meant_are_refused(self, wrong, told):
        with pytest.raises(ConfigError, match=told):
            GraphOptions(**wrong)


class TestDerived:
    @given(
        brands=st.lists(st.sampled_from(["Acme", "ACME ", "Bolt", "bolt", "", " "]), max_size=14),
        most=st.integers(1, 5),
        data=st.data(),
    )
    def test_same_brand_is_a_row_drawn_by_lot_within_each_brand(self, brands, most, data):
        rows = [
            row | {"brand": brand} for row, brand in zip(some_products(14), brands, strict=False)
        ]
        brand_of = {row["product_id"]: fold(row["brand"]) for row in rows}
        options = GraphOptions(relations=("same_brand",), derived_neighbours=most)

        def edges(rows: list[dict[str, str]]) -> NamedEdges:
            graphs = build_graphs(surroundings(rows), options, Digested(), frozenset())
            return named(graphs["us"], "same_brand") if rows else {}

        found, reach = edges(rows), -(-most // 2)
        for brand in set(brand_of.values()):
            mine = [name for name, its in brand_of.items() if its == brand]
            pairs = {pair for pair in combinations(mine, 2) if pair in found}
            # In a row each is next to as many on either side as there are, up to the reach.
            size = len(mine)
            expected = sum(min(reach, size - 1 - place) for place in range(size)) if brand else 0
            assert len(pairs) == expected
        assert all(brand_of[one] == brand_of[other] for one, other in found)
        assert set(found.values()) <= {1.0}
        assert edges(data.draw(st.permutations(rows))) == found

    def test_one_long_brand_costs_its_own_length(self):
        rows = [row | {"brand": "short"} for row in some_products(1000)]
        rows[0]["brand"] = "x" * 100_000
        around = surroundings(rows)
        tracemalloc.start()
        build_graphs(around, GraphOptions(relations=("same_brand",)), Digested(), frozenset())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6  # as wide as the longest, a thousand brands would take 400 MB

    def nearest(self, graph: FeaturedGraph, most: int) -> NamedEdges:
        """Product by product, with all others looked at."""
        vectors = graph.features.astype(np.float32)
        found: NamedEdges = defaultdict(float)
        for row in range(len(vectors)):
            cosines = vectors @ vectors[row]
            cosines[row] = -1
            for other in np.argsort(-cosines)[:most]:
                if cosines[other] > 0:
                    pair = IDS_OF_MANY[row], IDS_OF_MANY[other]
                    found[pair] += float(cosines[other])
                    found[pair[::-1]] += float(cosines[other])
        return found

    def similar(self, count: int, most: int) -> tuple[NamedEdges, NamedEdges]:
        options = GraphOptions(relations=("similar",), derived_neighbours=most)
        around = surroundings(some_products(count))
        graph = build_graphs(around, options, Digested(), frozenset())["us"]
        return named(graph, "similar"), self.nearest(graph, most)

    @pytest.mark.parametrize("count", [1, 2, 3, 40])
    @pytest.mark.parametrize("most", [1, 4])
    def test_similar_are_the_nearest_by_features(self, count, most):
        found, expected = self.similar(count, most)
        assert found == pytest.approx(expected, rel=1e-4)
        assert bool(found) == (count > 1)

    def test_among_many_they_are_looked_for_in_clusters_and_mostly_found(self, monkeypatch):
        monkeypatch.setattr(building, "_MOST_EXACT", 399)
        for probes, least in ((1, 0.3), (16, 0.9)):
            monkeypatch.setattr(building, "_CLUSTERS_LOOKED_AT", probes)
            found, expected = self.similar(400, 4)
            share = len(found.keys() & expected.keys()) / len(expected)
            assert least < share < 1  # not all: they were looked for in some clusters alone


IDS_OF_MANY = [row["product_id"] for row in some_products(400)]


class TestHidden:
    def around(self) -> Surroundings:
        lists = [(text, "us", "P0") for text in TEXTS] + [("sun hat", "es", "P1")]
        return surroundings(products(), lists=lists, held_out=["blue hat"])

    def test_are_queries_that_judge_and_those_that_are_held_out(self):
        around = self.around()
        judging = around.lists.take(np.array([1, 5]))
        assert hidden_queries(around, GraphOptions(), judging) == {
            "blue hat",
            "red shoe",
            "sun hat",
        }
        # Of the table of queries, those alone that pairs name.
        assert hidden_queries(around, GraphOptions(), judging.take(np.array([1]))) == {
            "blue hat",
            "sun hat",
        }

    def test_transductively_none_are(self):
        around = self.around()
        options = GraphOptions(transductive=True)
        assert hidden_queries(around, options, around.lists) == frozenset()


class TestSaving:
    def graph(self) -> FeaturedGraph:
        return built({"done": [("hat", "us", "P0", "click", 1.0, 0)]}, relations=("click",))["us"]

    def test_what_was_saved_is_opened_and_mapped(self, tmp_path):
        graph = self.graph()
        graph.save(tmp_path)
        again = FeaturedGraph.open(tmp_path)
        np.testing.assert_array_equal(again.features, graph.features)
        assert again.features.dtype == np.float16
        assert isinstance(again.features.base, np.memmap)
        assert again.names == graph.names
        assert named(again, "click") == named(graph, "click")

    @pytest.mark.parametrize("name", ["features.npy", "names.data.npy", "names.offsets.npy"])
    def test_features_and_names_of_another_shape_are_refused(self, name, tmp_path):
        self.graph().save(tmp_path)
        path = tmp_path / name
        content, array = path.read_bytes(), np.load(path)
        for other in (array[:-1], array[None], array.astype(np.float64), array[:0]):
            np.save(path, other)
            with pytest.raises(ReleaseError, match=str(tmp_path)):
                FeaturedGraph.open(tmp_path)
        for damaged in (content[: len(content) // 2], b"", b"text"):
            path.write_bytes(damaged)
            with pytest.raises(ReleaseError, match=str(tmp_path)):
                FeaturedGraph.open(tmp_path)
        path.unlink()
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            FeaturedGraph.open(tmp_path)


class TestKeys:
    @given(one=st.text(), other=st.text(), locales=st.tuples(*[st.sampled_from(LOCALES)] * 2))
    @settings(max_examples=200)
    def test_queries_are_one_node_if_their_folded_texts_and_locales_are_one(
        self, one, other, locales
    ):
        a, b = query_node_keys(Queries.of([one, other], locales)).tolist()
        assert (a == b) == (fold(one) == fold(other) and locales[0] == locales[1])

    def test_products_are_one_node_by_id_and_locale_whatever_is_said_of_them(self):
        rows = [("us", "P1", "a"), ("us", "P1", "b"), ("es", "P1", "a"), ("us", "P2", "a")]
        made = Products.of(
            [dict(zip(("locale", "product_id", "title"), row, strict=True)) for row in rows]
        )
        keys = product_node_keys(made).tolist()
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3

    def test_a_query_that_is_called_like_a_product_is_another_node(self):
        made = Products.of([{"locale": "us", "product_id": "p1"}])
        assert product_node_keys(made)[0] != query_node_keys(Queries.of(["p1"], ["us"]))[0]

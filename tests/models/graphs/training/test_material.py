"""What pairs start from is what their texts say, though those of the graph are not read again."""

import numpy as np

from models.graphs.building import build_graphs
from models.graphs.keys import product_node_keys, query_node_keys
from models.graphs.options import GraphOptions
from models.graphs.serving.served import rounded
from models.graphs.training.material import Material
from models.members.gnn import GnnOptions, neighbourhoods
from models.pairs import Pairs, Products, Queries
from tests.models.graphs.made import Digested, some_products, surroundings

IN_US = some_products(6)
IN_ES = [{**product, "title": f"{product['title']} es"} for product in some_products(6, "es")]
KNOWN = [product for both in zip(IN_US, IN_ES, strict=True) for product in both]
CLICKS = [("Red lamp", "us", "P0", "click", 1.0, None), ("desk", "es", "P1", "click", 2.0, None)]


class Reading(Digested):
    """A FeatureSource that knows what it was asked for, and minds how queries are written."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.products: list[str] = []

    def of_queries(self, queries: Queries) -> np.ndarray:
        self.queries += queries.texts
        return self._of(f"query {text}" for text in queries.texts)

    def of_products(self, products: Products) -> np.ndarray:
        self.products += products.title
        return self._of(
            f"{title} by {brand}"
            for title, brand in zip(products.title, products.brand, strict=True)
        )


def material(products: list[dict[str, str]], queries: list[tuple[str, str]]):
    """The material of every query with every product of its locale, and what was read for it."""
    world, features = surroundings(KNOWN, CLICKS), Reading()
    graphs = build_graphs(world, GraphOptions(), features, frozenset())
    around = neighbourhoods(GnnOptions(), ("click",), graphs)
    rows = [
        (at, row)
        for at, (_, locale) in enumerate(queries)
        for row, product in enumerate(products)
        if product["locale"] == locale
    ]
    asked = Queries.of(*(list(column) for column in zip(*queries, strict=True)))
    query_rows, product_rows = np.array(rows, np.int32).T
    pairs = Pairs(asked, Products.of(products), query_rows, product_rows)
    features.queries, features.products = [], []
    found = Material.of(pairs, features, around, world.products)
    read = sorted(features.queries), sorted(features.products)
    named = pairs.compact().read_in_product_locales()
    # Whatever was read, it is what the texts say.
    for ends, vectors in (
        (found.queries, features.of_queries(named.queries)),
        (found.products, features.of_products(named.products)),
    ):
        np.testing.assert_array_equal(ends.features, rounded(vectors))
    for ends, keys, locales in (
        (found.queries, query_node_keys(named.queries), named.queries.locales),
        (found.products, product_node_keys(named.products), named.products.locales),
    ):
        for row, key, code in zip(ends.rows, keys, locales, strict=True):
            graph = around[("us", "es", "jp")[code]].featured.graph if code < 2 else None
            expected = graph.rows_of(np.array([key]))[0] if graph else -1
            assert row == expected
    return found, read


def test_what_the_graph_has_is_not_read_again():
    found, read = material(KNOWN, [("Red lamp", "us"), ("desk", "es")])
    assert read == ([], [])
    assert (found.products.rows >= 0).all()
    assert (found.queries.rows >= 0).all()


def test_another_text_of_what_it_has_is_read_and_stays_the_same_node():
    products = [dict(product) for product in KNOWN]
    products[4]["brand"] = "acme"
    products[9]["title"] = "thing of another kind"
    found, read = material(products, [("red  LAMP", "us"), ("desk", "es")])
    assert read == (["red  LAMP"], ["thing c2", "thing of another kind"])
    assert (found.products.rows >= 0).all()
    assert (found.queries.rows >= 0).all()


def test_who_is_new_is_read_and_has_no_row():
    new = [{"locale": "us", "product_id": "P77", "title": "new"},
           {"locale": "jp", "product_id": "P1", "title": "thing b1"}]  # fmt: skip
    found, read = material([*KNOWN[3:8], *new], [("Red lamp", "us"), ("desk", "us"), ("x", "jp")])
    assert read == (["desk", "x"], ["new", "thing b1"])
    assert (found.products.rows < 0).sum() == 2
    assert (found.queries.rows < 0).sum() == 2

"""Random graphs, small enough to be looked at whole, and surroundings from plain rows."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from models.graphs.adjacency import Adjacency
from models.graphs.graph import Graph
from models.graphs.keys import mixed
from models.locales import LOCALES
from models.pairs import Pairs, Products, Queries
from models.surroundings import NO_DAY, Behaviours, Links, Surroundings
from models.text import fold

RELATIONS = ("click", "purchase", "co_buy")

Edge = tuple[int, int, float]
Edges = list[Edge]


def adjacency(rng: np.random.Generator, nodes: int, edges: int) -> Adjacency:
    ends, others = rng.integers(0, nodes, (2, edges))
    return Adjacency.of_edges(ends, others, rng.random(edges) + 0.1, nodes)


def graph(seed: int = 0, products: int = 30, queries: int = 12, edges: int = 120) -> Graph:
    rng = np.random.default_rng(seed)
    nodes = products + queries
    relations = {name: adjacency(rng, nodes, edges) for name in RELATIONS}
    return Graph("us", keys_of(nodes), products, relations)


def keys_of(nodes: int) -> np.ndarray:
    """A key per node, as well mixed as digests are."""
    return mixed(np.arange(nodes, dtype=np.uint64))


def of_rows(edges: Sequence[Edge], nodes: int, most: int | None = None) -> Adjacency:
    """The adjacency of edges given one by one."""
    columns = [np.array(column) for column in zip(*edges, strict=True)] if edges else [[], [], []]
    ends, others = (np.array(column, np.int64) for column in columns[:2])
    return Adjacency.of_edges(ends, others, np.array(columns[2], np.float32), nodes, most)


@st.composite
def edges(draw: st.DrawFn, max_nodes: int = 12, max_edges: int = 60) -> tuple[int, Edges]:
    """Nodes and edges between them: some to themselves, some several times, some without weight.

    Weights are eighths, which add up to the same in any order; some are below zero.
    """
    nodes = draw(st.integers(1, max_nodes))
    row = st.integers(0, nodes - 1)
    weight = st.integers(-4, 40).map(lambda eighths: eighths / 8)
    # Left to itself, hardly ever is anybody crowded.
    least = draw(st.sampled_from([0, max_edges // 2]))
    return nodes, draw(st.lists(st.tuples(row, row, weight), min_size=least, max_size=max_edges))


@st.composite
def adjacencies(draw: st.DrawFn, max_nodes: int = 12, max_edges: int = 60) -> Adjacency:
    nodes, rows = draw(edges(max_nodes, max_edges))
    return of_rows(rows, nodes)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of one to three relations."""
    nodes = draw(st.integers(1, 12))
    row = st.integers(0, nodes - 1)
    rows = st.lists(st.tuples(row, row, st.integers(1, 40).map(lambda n: n / 8)), max_size=40)
    names = RELATIONS[: draw(st.integers(1, len(RELATIONS)))]
    relations = {name: of_rows(draw(rows), nodes) for name in names}
    return Graph("us", keys_of(nodes), draw(st.integers(0, nodes)), relations)


def neighbours(of: Adjacency) -> list[dict[int, float]]:
    """Who is next to each node, and how much: of an adjacency, node by node."""
    found = []
    for node in range(of.nodes):
        here = slice(int(of.indptr[node]), int(of.indptr[node + 1]))
        found.append(dict(zip(of.indices[here].tolist(), of.weights[here].tolist(), strict=True)))
    return found


class Digested:
    """A FeatureSource without meaning: every text has a direction of its own."""

    width = 8
    identity = "digested"

    def of_queries(self, queries: Queries) -> np.ndarray:
        return self._of(f"query {fold(text)}" for text in queries.texts)

    def of_products(self, products: Products) -> np.ndarray:
        return self._of(f"product {title}" for title in products.title)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def _of(self, texts: Iterable[str]) -> np.ndarray:
        digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
        numbers = (
            np.frombuffer(digests, np.uint8).reshape(-1, self.width).astype(np.float32) - 127.5
        )
        return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)


def surroundings(
    products: Sequence[dict[str, str]],
    done: Sequence[tuple[Any, ...]] = (),
    linked: Sequence[tuple[Any, ...]] = (),
    lists: Sequence[tuple[str, str, str]] = (),
    held_out: Sequence[str] = (),
) -> Surroundings:
    """Surroundings from rows that name their ends.

    `done` are (query, locale, product id, relation, weight, day or None), `linked` are (product id,
    product id, locale, relation, weight), and `lists` (query, locale, product id).
    """
    catalogue = Products.of(products)
    row_of = {(p["locale"], p["product_id"]): row for row, p in enumerate(products)}
    queries = list(dict.fromkeys((query, locale) for query, locale, *_ in done))
    names, link_names = (tuple(dict.fromkeys(row[3] for row in rows)) for rows in (done, linked))
    days = [NO_DAY if day is None else day for *_, day in done]
    behaviours = Behaviours(
        queries=Queries.of([text for text, _ in queries], [locale for _, locale in queries]),
        query_rows=np.array([queries.index(row[:2]) for row in done], np.int32),
        product_rows=np.array([row_of[row[1], row[2]] for row in done], np.int32),
        relations=np.array([names.index(row[3]) for row in done], np.int16),
        relation_names=names,
        weights=np.array([row[4] for row in done], np.float32),
        days=np.array(days, np.int32),
        dropped=0,
        present=bool(done),
    )
    links = Links(
        product_rows_a=np.array([row_of[row[2], row[0]] for row in linked], np.int32),
        product_rows_b=np.array([row_of[row[2], row[1]] for row in linked], np.int32),
        relations=np.array([link_names.index(row[3]) for row in linked], np.int16),
        relation_names=link_names,
        weights=np.array([row[4] for row in linked], np.float32),
        dropped=0,
        present=bool(linked),
    )
    judged = list(dict.fromkeys(row[:2] for row in lists))
    pairs = Pairs(
        Queries.of([text for text, _ in judged], [locale for _, locale in judged]),
        catalogue,
        np.array([judged.index(row[:2]) for row in lists], np.int32),
        np.array([row_of[row[1], row[2]] for row in lists], np.int32),
    )
    return Surroundings(catalogue, behaviours, links, pairs, frozenset(held_out))


def some_products(count: int, locale: str = LOCALES[0]) -> list[dict[str, str]]:
    """Products that tell themselves apart by their titles."""
    return [
        {"locale": locale, "product_id": f"P{row}", "title": f"thing {chr(97 + row % 26)}{row}"}
        for row in range(count)
    ]

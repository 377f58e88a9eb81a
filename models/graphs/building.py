"""Graphs from what surrounds the pairs: nodes, edges and the features of every node, by locale."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import ReleaseError
from models.graphs.adjacency import Adjacency
from models.graphs.arrays import mapped, save_array
from models.graphs.features.source import FeatureSource
from models.graphs.graph import Graph
from models.graphs.keys import NodeKeys, mixed, product_node_keys, query_node_keys
from models.graphs.options import DERIVED, SAME_BRAND, SIMILAR, GraphOptions, relation_names
from models.graphs.sharing import Arrays, Sharing
from models.locales import LOCALES, Locale
from models.pairs import Pairs, Products, Queries
from models.surroundings import NO_DAY, Behaviours, Links, Surroundings
from models.text import fold
from models.texts import Texts
from models.typed import plain

_ARRAYS: Final = ("features.npy", "names.data.npy", "names.offsets.npy")
_KINDS: Final = ("<f2", "|u1", "<i8")
# Beyond, neighbours are looked for among clusters: exact search costs the square of the products.
_MOST_EXACT: Final = 200_000
_CLUSTERS_LOOKED_AT: Final = 16
_BLOCK: Final = 1 << 16  # nodes whose features are float32 together


_Edges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Both ends of each edge, as rows of the graph, and its weight."""


@dataclass(frozen=True, eq=False)
class FeaturedGraph:
    """A graph with what each node starts from."""

    graph: Graph
    features: NDArray[np.float16]  # (nodes, width), mapped where it was opened
    names: Texts  # product ids, then queries: what a person calls each node

    def save(self, folder: Path) -> None:
        """Write the graph's folder, with features and names in it."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: tuple[NDArray[Any], ...] = (self.features, self.names.data, self.names.offsets)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            save_array(folder / name, array)
        self.graph.save(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """What `save` wrote, mapped; whoever opens it has checked the digests of its files."""
        graph = Graph.open(folder, verified=True)
        try:
            features, data, offsets = (
                mapped(folder / name, kind, dimensions)
                for name, kind, dimensions in zip(_ARRAYS, _KINDS, (2, 1, 1), strict=True)
            )
        except (OSError, ValueError) as error:
            raise ReleaseError(f"{folder} holds no features or no names: {error}") from error
        if len(features) != len(graph):
            raise ReleaseError(
                f"{folder} holds features of {len(features)} nodes; expected {len(graph)}"
            )
        if offsets.shape != (len(graph) + 1,) or offsets[-1] != len(data):
            raise ReleaseError(f"{folder} holds names of other nodes than {len(graph)}")
        return cls(graph, features, Texts(data, offsets))


def hidden_queries(
    surroundings: Surroundings, options: GraphOptions, judging: Pairs
) -> frozenset[str]:
    """Folded texts of the queries that the graph is to be without.

    Those a member is judged by, and those it chooses by (`judging`); none of them transductively.
    """
    if options.transductive:
        return frozenset()
    asked = judging.queries.texts.take(np.unique(judging.query_rows))
    return surroundings.held_out | {fold(text) for text in asked}


def build_graphs(
    surroundings: Surroundings,
    options: GraphOptions,
    features: FeatureSource,
    hidden: Collection[str],
    relations: Sequence[str] | None = None,
    sharing: Sharing | None = None,
) -> dict[Locale, FeaturedGraph]:
    """A graph of each locale that has products; no edge leads to a hidden query.

    Without `relations` the options say which, and one that the data lacks is an error; given, one
    without a row is empty. By `sharing`, of the same surroundings, what others have made is taken.
    """
    if relations is None:
        relations = relation_names(options.relations, surroundings)
    sharing = sharing or Sharing(surroundings)
    queries = _Asked.of(surroundings, hidden)
    found = {}
    for code, locale in enumerate(LOCALES):
        product_rows = np.flatnonzero(surroundings.products.locales == code)
        if len(product_rows):
            # What decides nodes, their rows and what they start from, besides the surroundings.
            decides = (locale, sorted(hidden), features.identity)
            products, asked = surroundings.products.take(product_rows), queries.within(code)
            vectors = sharing.arrays(
                partial(_vectors, features, products, asked.queries), "features", *decides
            )
            nodes = _Nodes.of(
                len(surroundings.products), product_rows, products, asked, vectors["features"]
            )
            found[locale] = nodes.graph(locale, relations, options, sharing, decides)
    return found


@dataclass(frozen=True, eq=False)
class _Asked:
    """The distinct queries of behaviours and lists that are not hidden, by their keys."""

    queries: Queries
    keys: NodeKeys
    of_behaviours: NodeKeys  # of each query of the behaviours, hidden or not
    of_lists: NodeKeys

    @classmethod
    def of(cls, surroundings: Surroundings, hidden: Collection[str]) -> Self:
        both = (surroundings.behaviours.queries, surroundings.lists.queries)
        keys = [query_node_keys(queries) for queries in both]
        texts = Texts.of([*both[0].texts, *both[1].texts])
        rows = _one_each(np.concatenate(keys), texts)
        queries = Queries(texts, np.concatenate([each.locales for each in both])).take(rows)
        of_queries = np.concatenate(keys)[rows]
        banned = [query_node_keys(Queries.of(hidden, [one] * len(hidden))) for one in LOCALES]
        kept = np.flatnonzero(~np.isin(of_queries, np.concatenate(banned)))
        return cls(queries.take(kept), of_queries[kept], *keys)

    def within(self, locale: int) -> Self:
        """Those of one locale."""
        rows = np.flatnonzero(self.queries.locales == locale)
        return replace(self, queries=self.queries.take(rows), keys=self.keys[rows])

    def places(self, keys: NodeKeys) -> NDArray[np.int64]:
        """Where each of `keys` is among these queries; -1 where it is not."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The nodes of one locale, and where the products and queries of the surroundings are."""

    keys: NodeKeys
    products: Products
    names: Texts
    features: NDArray[np.float16]  # (nodes, width)
    at_product: NDArray[np.int64]  # (products of the surroundings,), -1 elsewhere
    at_behaviour_query: NDArray[np.int64]
    at_listed_query: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        catalogue: int,
        product_rows: NDArray[np.int64],
        products: Products,
        asked: _Asked,
        features: NDArray[np.float16],
    ) -> Self:
        at_product = np.full(catalogue, -1, np.int64)
        at_product[product_rows] = np.arange(len(products))
        of_behaviours, of_lists = asked.places(asked.of_behaviours), asked.places(asked.of_lists)
        return cls(
            keys=np.concatenate([product_node_keys(products), asked.keys]),
            products=products,
            names=Texts.of([*products.ids, *asked.queries.texts]),
            features=features,
            at_product=at_product,
            at_behaviour_query=np.where(of_behaviours < 0, -1, of_behaviours + len(products)),
            at_listed_query=np.where(of_lists < 0, -1, of_lists + len(products)),
        )

    def graph(
        self,
        locale: Locale,
        relations: Sequence[str],
        options: GraphOptions,
        sharing: Sharing,
        decides: Sequence[object],
    ) -> FeaturedGraph:
        counted = {key: value for key, value in plain(options).items() if key != "relations"}

        def edges(name: str) -> Arrays:
            found = self._edges(name, sharing.surroundings, options)
            return Adjacency.of_edges(*found, len(self.keys), options.most_neighbours).arrays()

        built = {
            name: Adjacency(
                **sharing.arrays(partial(edges, name), "edges", name, counted, *decides)
            )
            for name in relations
        }
        graph = Graph(locale, self.keys, len(self.products), built)
        return FeaturedGraph(graph, self.features, self.names)

    def _edges(self, name: str, surroundings: Surroundings, options: GraphOptions) -> _Edges:
        """The edges of a relation: those of that name in the data, or else made of the data."""
        behaviours, links = surroundings.behaviours, surroundings.links
        done, linked = _rows_of(behaviours, name), _rows_of(links, name)
        if name in DERIVED and not len(done) and not len(linked):
            return self._derived(name, surroundings.lists, options.derived_neighbours)
        weights = behaviours.weights[done].astype(np.float64)
        if options.half_life_days is not None:
            weights *= _aged(behaviours.days[done], behaviours.days, options.half_life_days)
        asked = self.at_behaviour_query[behaviours.query_rows[done]]
        one, other = links.product_rows_a[linked], links.product_rows_b[linked]
        return _known(
            np.concatenate([asked, self.at_product[one]]),
            self.at_product[np.concatenate([behaviours.product_rows[done], other])],
            np.concatenate([weights, links.weights[linked]]),
        )

    def _derived(self, name: str, lists: Pairs, neighbours: int) -> _Edges:
        if name == SAME_BRAND:
            return self._same_brand(neighbours)
        if name == SIMILAR:
            return self._similar(neighbours)
        ends = self.at_listed_query[lists.query_rows]
        return _known(ends, self.at_product[lists.product_rows], np.ones(len(lists)))

    def _same_brand(self, neighbours: int) -> _Edges:
        """Each product with those that follow it in a row of its brand, drawn by lot."""
        folded = {brand: fold(brand) for brand in set(self.products.brand)}
        code_of = {brand: code for code, brand in enumerate(dict.fromkeys(folded.values()))}
        brands = [folded[brand] for brand in self.products.brand]
        codes = np.array([code_of[brand] for brand in brands], np.int64)
        branded = np.flatnonzero([bool(brand) for brand in brands])
        lots = mixed(self.keys[: len(self.products)])
        order = branded[np.lexsort((lots[branded], codes[branded]))]
        steps = range(1, -(-neighbours // 2) + 1)
        parts = [
            np.stack([order[:-step], order[step:]])[:, codes[order[:-step]] == codes[order[step:]]]
            for step in steps
            if step < len(order)
        ]
        ends, others = np.concatenate([np.empty((2, 0), np.int64), *parts], axis=1)
        return ends, others, np.ones(len(ends), np.float32)

    def _similar(self, neighbours: int) -> _Edges:
        """Each product with those of the most similar features."""
        import faiss

        count = len(self.products)
        vectors = self.features[:count].astype(np.float32)
        if count < 2:
            return (nothing := np.empty(0, np.int64)), nothing, np.empty(0, np.float32)
        index: Any = faiss.IndexFlatIP(vectors.shape[1])
        if count > _MOST_EXACT:
            clusters = int(4 * count**0.5)
            index = faiss.IndexIVFFlat(index, vectors.shape[1], clusters,
                                       faiss.METRIC_INNER_PRODUCT)  # fmt: skip
            index.train(vectors)
            index.nprobe = _CLUSTERS_LOOKED_AT
        index.add(vectors)
        cosines, found = index.search(vectors, min(neighbours + 1, count))
        ends = np.repeat(np.arange(count), found.shape[1])
        # Where fewer are found faiss says -1; of equal products one may be found for itself.
        chosen = (found.ravel() >= 0) & (cosines.ravel() > 0)
        return ends[chosen], found.ravel()[chosen], cosines.ravel()[chosen]


def _vectors(features: FeatureSource, products: Products, queries: Queries) -> Arrays:
    """What each node starts from: products, then queries."""
    count = len(products)
    vectors = np.empty((count + len(queries), features.width), np.float16)
    for part in _blocks(count):
        vectors[part] = features.of_products(products.take(part))
    for part in _blocks(len(queries)):
        vectors[count + part] = features.of_queries(queries.take(part))
    return {"features": vectors}


def _one_each(keys: NodeKeys, texts: Texts) -> NDArray[np.int64]:
    """A row of each key, ascending by key; of several texts of one key, that of the first text.

    So the order in which rows came is forgotten.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    ends = np.append(starts[1:], len(keys))
    rows = order[starts]
    for at in np.flatnonzero(ends - starts > 1).tolist():
        rows[at] = min(order[starts[at] : ends[at]].tolist(), key=texts.__getitem__)
    return rows


def _rows_of(table: Behaviours | Links, name: str) -> NDArray[np.int64]:
    if name not in table.relation_names:
        return np.empty(0, np.int64)
    return np.flatnonzero(table.relations == table.relation_names.index(name))


def _blocks(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(at, min(at + _BLOCK, count)) for at in range(0, count, _BLOCK)]


def _known(ends: NDArray[np.int64], others: NDArray[np.int64], weights: NDArray[Any]) -> _Edges:
    chosen = (ends >= 0) & (others >= 0)
    return ends[chosen], others[chosen], weights[chosen].astype(np.float32)


def _aged(
    days: NDArray[np.int32], all_days: NDArray[np.int32], half_life: float
) -> NDArray[np.float64]:
    """What is left of the weight of each day, counted back from the last; all of no day's."""
    dated = all_days[all_days != NO_DAY]
    if not len(dated):
        return np.ones(len(days))
    ages = np.where(days == NO_DAY, 0, int(dated.max()) - days.astype(np.int64))
    return np.asarray(0.5 ** (ages / half_life), np.float64)

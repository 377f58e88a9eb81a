"""The graph that behaviours and links make: who is connected, how well, and who is not at all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from models.locales import LOCALES
from pipelines.dataset.stats.stream import Codes, Keys, among, distinct
from pipelines.dataset.stats.summary import Catalogue, Graph, Spread

Edge = tuple[Keys, Keys]


class Edges:
    """Both ends of every behaviour and link, kept while the files stream by: sixteen bytes each."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, str, bool], list[Edge]] = {}

    def add(
        self, names: Sequence[str], relations: Codes, locales: Codes, edge: Edge, *, links: bool
    ) -> None:
        """Add rows; `names` are those of the relations, and what links is a product at both ends.

        Of other rows the first end is a query.
        """
        ends, others = edge
        for code in np.flatnonzero(np.bincount(relations)).tolist():
            for locale in np.flatnonzero(np.bincount(locales[relations == code])).tolist():
                chosen = (relations == code) & (locales == locale)
                key = (locale, names[code], links)
                self._parts.setdefault(key, []).append((ends[chosen], others[chosen]))

    def graphs(self, catalogues: Sequence[Catalogue], products: Keys) -> list[Graph]:
        """The graph of each locale that has any edge; `products` are the keys of the catalogue."""
        sizes = {catalogue.locale: catalogue.products for catalogue in catalogues}
        found = [
            self._graph(code, locale, sizes.get(locale, 0), products)
            for code, locale in enumerate(LOCALES)
        ]
        return [graph for graph in found if graph.edges]

    def _graph(self, code: int, locale: str, catalogue: int, products: Keys) -> Graph:
        edges: dict[str, int] = {}
        ends, others = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for (of, name, links), parts in sorted(self._parts.items(), key=lambda part: part[0]):
            if of == code:
                a, b = (np.concatenate(side) for side in zip(*parts, strict=True))
                # Products that the catalogue lacks are no nodes.
                known = among(b, products) & (among(a, products) if links else True)
                pairs = _distinct(a[known], b[known])
                if len(pairs[0]):
                    edges[name] = len(pairs[0])
                ends.append(pairs[0])
                others.append(pairs[1])
        a, b = _distinct(np.concatenate(ends), np.concatenate(others))
        nodes = distinct(np.concatenate([a, b]))
        is_product = among(nodes, products)
        rows = [np.searchsorted(nodes, side) for side in (a, b)]
        degrees = np.bincount(np.concatenate(rows), minlength=len(nodes)).astype(np.int64)
        matrix = coo_array((np.ones(len(a), np.int8), tuple(rows)), shape=(len(nodes),) * 2)
        components, owner = connected_components(matrix, directed=False)
        return Graph(
            locale=locale,
            edges=edges,
            queries=int((~is_product).sum()),
            products=int(is_product.sum()),
            cold_products=max(catalogue - int(is_product.sum()), 0),
            product_degree=_spread(degrees, is_product),
            query_degree=_spread(degrees, ~is_product),
            components=int(components),
            largest=int(np.bincount(owner).max(initial=0)),
        )


def _distinct(ends: Keys, others: Keys) -> Edge:
    """Each pair of keys once, however often and in whichever direction it comes."""
    low, high = np.minimum(ends, others), np.maximum(ends, others)
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    first = np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))[: len(low)]
    return low[first], high[first]


def _spread(degrees: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Spread:
    return Spread.of_counts(np.bincount(degrees[chosen]))

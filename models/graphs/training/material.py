"""The pairs of a training over queries and products that each start from something."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.graphs.adjacency import NodeRows
from models.graphs.building import FeaturedGraph
from models.graphs.features.source import FeatureSource
from models.graphs.keys import NodeKeys, product_node_keys, query_node_keys
from models.graphs.sampling.neighbourhoods import Neighbourhoods
from models.graphs.serving.served import rounded
from models.locales import LOCALES, Locale, LocaleCodes
from models.pairs import PRODUCT_FIELDS, Pairs, Products
from models.texts import Rows
from models.vectors.packing import Vectors

_COMPARED: Final = 1 << 16  # ends whose texts are held together


@dataclass(frozen=True, eq=False)
class Ends:
    """Queries or products of the pairs: what each starts from, and its row in its graph."""

    features: Vectors
    rows: NodeRows  # -1 of what is in no graph

    @classmethod
    def of(
        cls,
        locales: LocaleCodes,
        keys: NodeKeys,
        around: Mapping[Locale, Neighbourhoods],
        is_same: Callable[[FeaturedGraph, Rows, NodeRows], NDArray[np.bool_]],
        read: Callable[[Rows], Vectors],
    ) -> Self:
        """Ends by their keys, of which those are read that no graph has with the same texts.

        `is_same` says so of some ends and the rows that their keys have in a graph.
        """
        rows, is_known = np.full(len(keys), -1, np.int64), np.zeros(len(keys), bool)
        for locale, nearby in around.items():
            mine = np.flatnonzero(locales == LOCALES.index(locale))
            rows[mine] = nearby.featured.graph.rows_of(keys[mine])
            found = mine[rows[mine] >= 0]
            for start in range(0, len(found), _COMPARED):
                part = found[start : start + _COMPARED]
                is_known[part] = is_same(nearby.featured, part, rows[part])
        unknown = rounded(read(np.flatnonzero(~is_known)))
        vectors = np.empty((len(keys), unknown.shape[1]), np.float32)
        vectors[~is_known] = unknown
        for locale, nearby in around.items():
            mine = np.flatnonzero(is_known & (locales == LOCALES.index(locale)))
            vectors[mine] = nearby.featured.features[rows[mine]]
        return cls(vectors, rows)


@dataclass(frozen=True, eq=False)
class Material:
    """Pairs over the ends that they name, everything that takes text read once."""

    queries: Ends
    products: Ends
    query_rows: NDArray[np.int64]  # (pairs,)
    product_rows: NDArray[np.int64]  # (pairs,)
    locales: NDArray[np.int8]  # (pairs,)

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        features: FeatureSource,
        around: Mapping[Locale, Neighbourhoods],
        catalogue: Products,
    ) -> Self:
        """The material of `pairs`; only those of locales that have a graph can be taught.

        `catalogue` are the products that the graphs were made of: their texts were read for those.
        """
        named = pairs.compact().read_in_product_locales()
        queries, products = named.queries, named.products

        def is_same_query(featured: FeaturedGraph, ends: Rows, rows: NodeRows) -> NDArray[np.bool_]:
            return queries.texts.take(ends).same(featured.names.take(rows))

        def is_same_product(
            featured: FeaturedGraph, ends: Rows, rows: NodeRows
        ) -> NDArray[np.bool_]:
            # Products come first in a graph, in the order of the catalogue.
            of_locale = catalogue.locales == LOCALES.index(featured.graph.locale)
            there = np.flatnonzero(of_locale)[rows]
            fields = [(products.field(name), catalogue.field(name)) for name in PRODUCT_FIELDS]
            same = [one.take(ends).same(other.take(there)) for one, other in fields]
            return np.asarray(np.all(same, axis=0), bool)

        return cls(
            Ends.of(
                queries.locales,
                query_node_keys(queries),
                around,
                is_same_query,
                lambda rows: features.of_queries(queries.take(rows)),
            ),
            Ends.of(
                products.locales,
                product_node_keys(products),
                around,
                is_same_product,
                lambda rows: features.of_products(products.take(rows)),
            ),
            named.query_rows.astype(np.int64),
            named.product_rows.astype(np.int64),
            named.locales(),
        )

"""What a trained graph member answers with: features, graphs, network and head, in numpy alone.

A product's state depends on its own texts and on what it hears in the graph, a query's on its text;
transductively also on what it hears. Neither depends on who else is asked about.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.graphs.adjacency import NodeRows
from models.graphs.features.source import FeatureSource
from models.graphs.keys import NodeKeys, product_node_keys, query_node_keys
from models.graphs.sampling.blocks import Blocks
from models.graphs.sampling.neighbourhoods import Hearing, Neighbourhoods
from models.graphs.serving.convolutions import ServedNetwork
from models.graphs.serving.digests import digests
from models.locales import LOCALES, Locale
from models.member import Logits
from models.pairs import Pairs, Products, Queries
from models.states.protocol import Digests
from models.vectors.head import PairHead
from models.vectors.packing import Packed, Packing, Vectors
from models.vectors.source import Found, VectorSource, product_keys
from models.vectors.tally import Tally

Cold = Literal["text", "nan"]

_BLOCK_NODES: Final = 1 << 13  # asked together: what they hear takes tens of times as much room


@dataclass(frozen=True, eq=False)
class ServedGraphs:
    """The member as it is served."""

    features: FeatureSource
    network: ServedNetwork
    head: PairHead
    hearing: Hearing
    neighbourhoods: Mapping[Locale, Neighbourhoods]
    transductive: bool
    cold: Cold
    source: VectorSource | None = None  # of product states
    tally: Tally = field(default_factory=Tally)

    @property
    def packing(self) -> Packing:
        """How a state is stored."""
        return Packing("fp16", self.network.width)

    @cached_property
    def identity(self) -> str:
        """A digest of what decides a state, besides what the graph holds."""
        digest = sha256()
        how, draw = self.hearing, self.hearing.draw
        heard = [how.relations, how.merging, how.fan_outs, draw.number, draw.by]
        said = [self.network.convolution, self.features.identity, self.cold, heard]
        digest.update(json.dumps(said).encode())
        for name, array in sorted(self.network.weights.items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    @cached_property
    def _silence(self) -> Neighbourhoods:
        return self.hearing.silence(self.features.width)

    def within(self, locale: Locale) -> Neighbourhoods:
        """The graph of a locale; where there is none, one in which nobody hears anybody."""
        return self.neighbourhoods.get(locale) or self._silence

    def logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; NaN where the product hears nobody and the rule is so."""
        named = pairs.compact().read_in_product_locales()
        packed = self.product_states(named.products)
        queries = self.query_states(named.queries)
        return self.compared(queries, packed, named.query_rows, named.product_rows)

    def compared(
        self,
        queries: Vectors,
        packed: Packed,
        query_rows: NDArray[np.integer],
        product_rows: NDArray[np.integer],
    ) -> Logits:
        """Four logits per pair of a query's state and a packed one; NaN where that says nothing."""
        products = self.packing.unpack(packed)
        logits = self.head.logits(queries, products, query_rows, product_rows)
        if self.cold == "nan":
            says = np.asarray(products.any(axis=1))
            logits[~says[product_rows]] = np.nan
        return logits

    def query_states(self, queries: Queries) -> Vectors:
        """The state of each query, (queries, width)."""
        states = np.empty((len(queries), self.network.width), np.float32)
        own = rounded(self.features.of_queries(queries))
        keys = query_node_keys(queries) if self.transductive else None
        for part in self._parts(own, keys, queries.locales, is_query=True):
            states[part.rows] = part.states(self.network)
        return states

    def product_states(self, products: Products) -> Packed:
        """The packed state of each product, from the source where it is known there."""
        known, stored = self.looked_up(products)
        if not len(stored):
            return self.computed_states(products)
        packed = np.empty((len(products), self.packing.stride), np.uint8)
        packed[known] = stored
        packed[~known] = self.computed_states(products.take(np.flatnonzero(~known)))
        return packed

    def looked_up(self, products: Products) -> Found:
        """The states that the source knows, none without a source; they and the others count."""
        if self.source is None:
            found = Found(
                np.zeros(len(products), bool), np.empty((0, self.packing.stride), np.uint8)
            )
        else:
            found = self.source.get_many(product_keys(products))
        stored = len(found.packed)
        self.tally.add(stored=stored, encoded=len(products) - stored)
        return found

    def computed_states(self, products: Products) -> Packed:
        """The packed state of each product, computed now; zeros for one that nothing is said of."""
        return self._packed(len(products), self._product_parts(products))

    def catalogue_states(self, products: Products, rows: NDArray[np.int64]) -> Packed:
        """As `computed_states`, of `rows` of the very products that the graphs were made of.

        Their features are in the graphs, so no text is read again.
        """
        return self._packed(len(rows), self._catalogue_parts(products, rows))

    def catalogue_digests(self, products: Products, rows: NDArray[np.int64]) -> Digests:
        """What those states depend on, besides `identity`."""
        found = np.empty(len(rows), np.uint64)
        for part in self._catalogue_parts(products, rows):
            found[part.rows] = digests(part.features, part.is_query, part.blocks)
        return found

    def _packed(self, count: int, parts: Iterator["_Part"]) -> Packed:
        packed = np.empty((count, self.packing.stride), np.uint8)
        for part in parts:
            packed[part.rows] = self.packed(part.states(self.network), part.blocks.hears())
        return packed

    def packed(self, states: Vectors, hears: NDArray[np.bool_]) -> Packed:
        """Products' states as they are stored; zeros for one that nothing is said of."""
        if self.cold == "nan":
            states = np.where(hears[:, None], states, np.float32(0))
        return self.packing.pack(states)

    def _product_parts(self, products: Products) -> Iterator["_Part"]:
        keys = product_node_keys(products)
        own = rounded(self.features.of_products(products))
        yield from self._parts(own, keys, products.locales, is_query=False)

    def _catalogue_parts(self, products: Products, rows: NDArray[np.int64]) -> Iterator["_Part"]:
        named = products.locales[rows]
        for code, locale in enumerate(LOCALES):
            mine = np.flatnonzero(named == code)
            if not len(mine):
                continue
            around = self.neighbourhoods[locale]
            # Products come first in a graph, in the order of the catalogue.
            places = np.searchsorted(np.flatnonzero(products.locales == code), rows[mine])
            for start in range(0, len(mine), _BLOCK_NODES):
                part = slice(start, start + _BLOCK_NODES)
                own = np.asarray(around.featured.features[places[part]], np.float32)
                yield _Part.of(mine[part], around, places[part], own, is_query=False)

    def _parts(
        self, own: Vectors, keys: NodeKeys | None, locales: NDArray[np.int8], *, is_query: bool
    ) -> Iterator["_Part"]:
        """The nodes of each locale, some at a time, with what they hear."""
        for code, locale in enumerate(LOCALES):
            mine = np.flatnonzero(locales == code)
            around = self.within(locale)
            for start in range(0, len(mine), _BLOCK_NODES):
                part = mine[start : start + _BLOCK_NODES]
                asked = np.full(len(part), -1, np.int64)
                if keys is not None:
                    asked = around.featured.graph.rows_of(keys[part])
                yield _Part.of(part, around, asked, own[part], is_query=is_query)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the nodes that are asked for, with all that they hear."""

    rows: NDArray[np.int64]  # among the asked
    blocks: Blocks
    features: Vectors
    is_query: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        around: Neighbourhoods,
        asked: NodeRows,
        own: Vectors,
        *,
        is_query: bool,
    ) -> Self:
        blocks = around.around(asked)
        return cls(rows, blocks, *around.inputs(blocks, own, np.full(len(rows), is_query)))

    def states(self, network: ServedNetwork) -> Vectors:
        """The state of each node."""
        return network.states(self.features, self.is_query, self.blocks)


def rounded(features: Vectors) -> Vectors:
    """Features as graphs keep them: a node starts from the same numbers wherever they come from."""
    return features.astype(np.float16).astype(np.float32)

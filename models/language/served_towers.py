"""Served towers: queries to vectors, products to packed vectors, whether stored or made anew."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import numpy as np

from models.language.reading.reader import Reader
from models.language.reading.sequences import Sequences
from models.language.serving.form import Form
from models.language.serving.options import EXACT, Variant
from models.member import Logits
from models.pairs import Pairs, Products, Queries
from models.vectors.head import PairHead
from models.vectors.packing import Packed, Packing, Vectors
from models.vectors.source import VectorSource, product_keys
from models.vectors.tally import Tally

# Read, tokenised and encoded at a time, so that a catalogue takes no more memory than this many.
_BLOCK_PRODUCTS: Final = 1 << 13
_BLOCK_PAIRS: Final = 1 << 16


@dataclass(frozen=True, eq=False)
class ServedTowers:
    """The towers as they are served, with the head that compares what they give.

    A vector is made by one variant of its tower, to the bit the same whatever other texts are
    there, and a product's is packed and unpacked even when it is not stored: what was stored and
    what is made on the fly agree.
    """

    reader: Reader
    query_form: Form
    product_form: Form
    packing: Packing
    head: PairHead
    reader_digest: str  # of the files of the reader
    query_variant: str | None = None  # that makes query vectors; None: the one measured fastest
    product_variant: Variant = EXACT  # that makes product vectors; fp32 where it was left out
    source: VectorSource | None = None
    tally: Tally = field(default_factory=Tally)  # of the products that are asked for

    @property
    def identity(self) -> str:
        """What stored product vectors must have been made by to mean anything here.

        It names the variant that really runs, so vectors made in float32 by an engine that runs
        nothing else are not those of int8. float32 is one whatever the engine, as to the gate of
        the export: vectors made on a GPU serve on a CPU.
        """
        decides = [
            self.reader_digest,
            *self.product_form.report.variants[self._product_variant()].digests.values(),
            self.packing.precision,
            self.packing.width,
        ]
        return sha256(json.dumps(decides).encode()).hexdigest()

    def open_quickest(self) -> None:
        """Open what makes vectors once `query_variant` is None, so that no request waits for it."""
        self.query_form.open(self.query_form.variant_for(1))
        self.product_form.open(self._product_variant())

    def query_vectors(self, queries: Queries) -> Vectors:
        """A unit vector per query, (queries, width)."""
        texts = self.reader.alone(self.reader.read_queries(queries.texts))
        # A request asks with one query.
        variant = self.query_variant or self.query_form.variant_for(1)
        return self._run(self.query_form, texts, variant)

    def product_vectors(self, products: Products) -> Packed:
        """The packed unit vector of each product, from the source where it is known there."""
        if self.source is None:
            self.tally.add(stored=0, encoded=len(products))
            return self.encoded_products(products)
        known, stored = self.source.get_many(product_keys(products))
        self.tally.add(stored=len(stored), encoded=len(products) - len(stored))
        packed = np.empty((len(products), self.packing.stride), np.uint8)
        packed[known] = stored
        packed[~known] = self.encoded_products(products.take(np.flatnonzero(~known)))
        return packed

    def encoded_products(self, products: Products) -> Packed:
        """The packed unit vector of each product, made now."""
        packed = np.empty((len(products), self.packing.stride), np.uint8)
        variant = self._product_variant()
        for start in range(0, len(products), _BLOCK_PRODUCTS):
            rows = np.arange(start, min(start + _BLOCK_PRODUCTS, len(products)))
            texts = self.reader.alone(self.reader.read_products(products.take(rows)))
            packed[rows] = self.packing.pack(self._run(self.product_form, texts, variant))
        return packed

    def _product_variant(self) -> str:
        """A choice of the options, of what was exported and of what the engine runs; of no clock.

        All engines run float32, so there the engine has no say.
        """
        return self.product_form.known(self.product_variant)

    def _run(self, form: Form, texts: Sequences, variant: str) -> Vectors:
        return form.run(texts, variant, alike_up_to=self.reader.layout.options.max_tokens)

    def logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; every query and product is encoded once."""
        named = pairs.compact()
        queries, packed = self.query_vectors(named.queries), self.product_vectors(named.products)
        logits = np.empty((len(pairs), self.head.second_bias.shape[0]), np.float32)
        for start in range(0, len(pairs), _BLOCK_PAIRS):
            block = slice(start, start + _BLOCK_PAIRS)
            used, at_product = np.unique(named.product_rows[block], return_inverse=True)
            products = self.packing.unpack(packed[used])
            logits[block] = self.head.logits(queries, products, named.query_rows[block], at_product)
        return logits

    def similarities(self, pairs: Pairs) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The cosine of query and product of each pair."""
        named = pairs.compact()
        queries, packed = self.query_vectors(named.queries), self.product_vectors(named.products)
        cosines = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), _BLOCK_PAIRS):
            block = slice(start, start + _BLOCK_PAIRS)
            products = self.packing.unpack(packed[named.product_rows[block]])
            cosines[block] = np.einsum("pw,pw->p", queries[named.query_rows[block]], products)
        return cosines

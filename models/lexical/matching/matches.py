"""Where the words of each pair's query are found in its product: one row per pair and term."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching import products as p
from models.lexical.matching.products import ProductFeatures
from models.lexical.matching.queries import QueryFeatures
from models.lexical.matching.ragged import Indptr, expand, owners, sums
from models.lexical.matching.statistics import Statistics
from models.lexical.reading import tokens as t

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PAIRS_AT_ONCE: Final = 8192  # what a chunk expands to stays in the cache


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs expanded to the terms, phrases, claims and denials of their queries.

    Arrays named for pairs have one element per pair; `term`, `pair` and what follows from them
    have one per pair and query term.
    """

    queries: QueryFeatures
    products: ProductFeatures
    statistics: Statistics
    query_of: NDArray[np.int64]  # (pairs,)
    product_of: NDArray[np.int64]  # (pairs,)
    bounds: Indptr  # (pairs + 1,)
    term: NDArray[np.int64]
    pair: NDArray[np.int64]
    found: NDArray[np.uint32]  # payload of the term in the product
    soft_title: Values  # share of the term's n-grams in the title
    soft_anywhere: Values
    in_title: Mask
    anywhere: Mask
    phrase: NDArray[np.int64]
    phrase_pair: NDArray[np.int64]
    phrase_found: Mask

    def __len__(self) -> int:
        return len(self.query_of)

    def total(self, values: NDArray[Any]) -> Values:
        """The sum over each pair's terms."""
        return sums(values, self.pair, len(self))

    def of_term(self, column: NDArray[Any]) -> NDArray[Any]:
        """A column of the query's terms, per pair and term."""
        return column[self.term]

    def of_query(self, column: NDArray[Any]) -> NDArray[Any]:
        """A column of the queries, per pair."""
        return column[self.query_of]

    def of_product(self, column: NDArray[Any]) -> NDArray[Any]:
        """A column of the products, per pair."""
        return column[self.product_of]

    def is_at(self, bits: int) -> Mask:
        """Whether the term as such stands in any of these fields."""
        return np.asarray((self.found & bits) != 0)

    @cached_property
    def weight(self) -> Values:
        """The weight of each term."""
        return self.of_term(self.queries.weight)

    @cached_property
    def weights(self) -> Values:
        """The weight of each pair's query; never zero."""
        return np.maximum(self.total(self.weight), 1e-9)

    @cached_property
    def terms(self) -> Values:
        """The terms of each pair's query; never zero."""
        return np.maximum(np.diff(self.bounds), 1).astype(np.float64)

    @cached_property
    def head(self) -> NDArray[np.int64]:
        """Where the head of each pair's query stands among `term`; -1 for a query without terms."""
        head = self.of_query(self.queries.head)
        first = self.queries.terms[self.query_of]
        return np.where(head >= 0, self.bounds[:-1] + head - first, -1)

    def at_head(self, values: NDArray[Any]) -> Values:
        """The value at the head of each pair's query, zero for a query without terms."""
        padded = np.append(values, 0).astype(np.float64)
        return padded[self.head]


def matched(
    queries: QueryFeatures,
    products: ProductFeatures,
    statistics: Statistics,
    query_of: NDArray[Any],
    product_of: NDArray[Any],
) -> Iterator[Matches]:
    """The matches of all pairs in order, a chunk at a time; one empty chunk for no pairs."""
    for start in range(0, max(len(query_of), 1), _PAIRS_AT_ONCE):
        rows = slice(start, start + _PAIRS_AT_ONCE)
        yield match(queries, products, statistics, query_of[rows], product_of[rows])


def match(
    queries: QueryFeatures,
    products: ProductFeatures,
    statistics: Statistics,
    query_of: NDArray[Any],
    product_of: NDArray[Any],
) -> Matches:
    """Look every term and phrase of each pair's query up in its product."""
    bounds, term = expand(queries.terms, query_of)
    pair = owners(bounds)
    product = product_of[pair]
    found = products.terms.find(product, queries.hash[term])
    soft_title, soft_anywhere = _soft(queries, products, term, product)

    japanese = (queries.flags[term] & t.JAPANESE) != 0
    # "lawnmower" in "lawn mower", and "64gb" in "64 GB".
    glued = products.phrases.find(product, queries.hash[term]) != 0
    claim = queries.claim[term]
    claimed = np.where(claim != 0, products.claims.find(product, claim), 0)
    in_title = (found & p.TITLE) != 0
    in_title |= glued | ((claimed & p.TITLE) != 0) | (japanese & (soft_title == 1))
    anywhere = in_title | ((found & p.ANYWHERE) != 0)
    anywhere |= (claimed != 0) | (japanese & (soft_anywhere == 1))

    # "lawn mower" in "lawnmower".
    phrase_bounds, phrase = expand(queries.phrases, query_of)
    phrase_pair = owners(phrase_bounds)
    phrase_product = product_of[phrase_pair]
    written = queries.phrase[phrase]
    as_word = (products.terms.find(phrase_product, written) & p.TITLE) != 0
    as_phrase = products.phrases.find(phrase_product, written) != 0
    offset = bounds[:-1][phrase_pair] - queries.terms[query_of[phrase_pair]]
    for ends in (queries.phrase_first, queries.phrase_second):
        hit = (offset + ends[phrase])[as_word]
        in_title[hit] = anywhere[hit] = True
    return Matches(
        queries=queries,
        products=products,
        statistics=statistics,
        query_of=np.asarray(query_of, np.int64),
        product_of=np.asarray(product_of, np.int64),
        bounds=bounds,
        term=term,
        pair=pair,
        found=found,
        soft_title=np.where(in_title, 1.0, soft_title),
        soft_anywhere=np.where(anywhere, 1.0, np.maximum(soft_anywhere, soft_title)),
        in_title=in_title,
        anywhere=anywhere,
        phrase=phrase,
        phrase_pair=phrase_pair,
        phrase_found=as_phrase | as_word,
    )


def _soft(
    queries: QueryFeatures,
    products: ProductFeatures,
    term: NDArray[np.int64],
    product: NDArray[np.int64],
) -> tuple[Values, Values]:
    """The share of each term's n-grams that stand in the title, and in any field."""
    bounds, gram = expand(queries.gram_bounds, term)
    owner = owners(bounds)
    found = products.grams.find(product[owner], queries.grams[gram])
    count = np.maximum(np.diff(bounds), 1)
    return (
        sums((found & p.TITLE) != 0, owner, len(term)) / count,
        sums(found != 0, owner, len(term)) / count,
    )

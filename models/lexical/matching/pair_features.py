"""What a query and a product have in common, as named numbers; one function per family.

A feature is a sum, a share or a flag over one pair's terms: no pair's features depend on another's.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching import products as p
from models.lexical.matching.matches import Mask, Matches, Values, match
from models.lexical.matching.products import prepare_products
from models.lexical.matching.queries import prepare_queries
from models.lexical.matching.ragged import expand, firsts, lasts, owners, sums
from models.lexical.matching.statistics import count_words
from models.lexical.reading import tokens as t
from models.locales import encode_locales
from models.pairs import Products
from models.texts import Texts

Features = NDArray[np.float32]
"""Shape (pairs, features), columns in the order of `feature_names`."""

Columns = Mapping[str, NDArray[Any]]

BM25_K, BM25_B = 1.2, 0.75


def coverage(m: Matches) -> Columns:
    """How much of the query is found, in the title and anywhere."""
    weight, weights, terms = m.weight, m.weights, m.terms
    lost = ~m.in_title
    title = m.total(m.in_title)
    anywhere = m.total(m.anywhere)
    missing = _largest(np.where(lost, weight, 0), m)
    return {
        "title_share": title / terms,
        "anywhere_share": anywhere / terms,
        "title_weight": m.total(m.in_title * weight) / weights,
        "anywhere_weight": m.total(m.anywhere * weight) / weights,
        "body_only_weight": m.total((m.anywhere & lost) * weight) / weights,
        "all_in_title": title == np.diff(m.bounds),
        "all_anywhere": anywhere == np.diff(m.bounds),
        "missing_title": terms - title,
        "missing_anywhere": terms - anywhere,
        "rarest_missing": missing,
        "rarest_missing_anywhere": _largest(np.where(m.anywhere, 0, weight), m),
        "rarest_found": _largest(np.where(lost, 0, weight), m),
        "title_words_found": title / np.maximum(m.of_product(m.products.title_words), 1),
    }


def spelling(m: Matches) -> Columns:
    """Matches that forgive a misspelling, and matches to the letter."""
    lost = ~m.in_title
    surface = m.products.terms.find(m.product_of[m.pair], m.of_term(m.queries.surface)) & p.TITLE
    grams = np.diff(m.queries.gram_bounds)[m.term]
    return {
        "soft_title": m.total(m.soft_title * m.weight) / m.weights,
        "soft_anywhere": m.total(m.soft_anywhere * m.weight) / m.weights,
        "soft_of_missing": m.total(m.soft_title * lost) / np.maximum(m.total(lost), 1),
        "near_misses": m.total(lost & (m.soft_title >= 0.6)),
        "to_the_letter": m.total((surface != 0) * m.weight) / m.weights,
        "grams_of_title": m.total(m.soft_title * grams)
        / np.maximum(m.of_product(m.products.title_grams) + m.total(grams), 1),
    }


def bm25(m: Matches) -> Columns:
    """BM25 of the query against the title and against all fields, and its share of the best."""
    locales = m.of_product(m.products.locales)
    idf = m.of_term(m.queries.idf)
    most = np.maximum(m.total(idf), 1e-9)
    title = _bm25(
        m,
        (m.found >> p.TITLE_COUNT_SHIFT) & p.MOST_COUNTED,
        m.in_title,
        m.of_product(m.products.title_words) / m.statistics.title_words[locales],
    )
    anywhere = _bm25(
        m,
        (m.found >> p.COUNT_SHIFT) & p.MOST_COUNTED,
        m.anywhere,
        m.of_product(m.products.all_words) / m.statistics.all_words[locales],
    )
    return {
        "bm25_title": title,
        "bm25_anywhere": anywhere,
        "bm25_title_share": title / most,
        "bm25_anywhere_share": anywhere / most,
    }


def _bm25(m: Matches, counts: NDArray[Any], hit: Mask, relative_length: Values) -> Values:
    """Σ idf · tf (k + 1) / (tf + k (1 - b + b · length / mean length)), Robertson and others."""
    tf = np.maximum(counts, hit).astype(np.float64)
    norm = BM25_K * (1 - BM25_B + BM25_B * relative_length)
    score = m.of_term(m.queries.idf) * tf * (BM25_K + 1) / (tf + norm[m.pair])
    return m.total(score)


def order(m: Matches) -> Columns:
    """Whether words found stand together, in the query's order, and early."""
    phrases = np.maximum(np.bincount(m.phrase_pair, minlength=len(m)), 1)
    place = ((m.found >> p.PLACE_SHIFT) & 0xFF).astype(np.int64)
    placed = m.is_at(p.TITLE)
    step = np.zeros(len(m.term))
    both = placed[1:] & placed[:-1] & (m.pair[1:] == m.pair[:-1])
    step[1:] = both & (place[1:] > place[:-1])
    count = m.total(placed)
    first = firsts(np.where(placed, place, p.LAST_PLACE), m.bounds, p.LAST_PLACE)
    last = lasts(np.where(placed, place, -1), m.bounds, -1)
    return {
        "phrases_found": sums(m.phrase_found, m.phrase_pair, len(m)) / phrases,
        "in_order": m.total(step) / np.maximum(count - 1, 1),
        "spread": np.where(count > 1, (last - first + 1) / np.maximum(count, 1), 0),
        "first_place": np.where(count > 0, np.minimum(first, 40), 40),
        "starts_title": first == 0,
    }


def head(m: Matches) -> Columns:
    """Whether what the query names is what the title names."""
    term_hash = np.append(m.of_term(m.queries.hash), np.uint32(0))
    title_head = m.of_product(m.products.title_head)
    place = ((m.found >> p.PLACE_SHIFT) & 0xFF).astype(np.int64)
    is_head_of_title = (m.of_term(m.queries.hash) == title_head[m.pair]) & (title_head[m.pair] != 0)
    words = np.maximum(m.of_product(m.products.title_words), 1)
    return {
        "head_in_title": m.at_head(m.in_title),
        "head_anywhere": m.at_head(m.anywhere),
        "head_soft": m.at_head(m.soft_title),
        "head_weight": m.at_head(m.weight),
        "head_plain": m.at_head(m.is_at(p.TITLE_PLAIN)),
        "head_served_only": m.at_head(m.is_at(p.TITLE_SERVED) & ~m.is_at(p.TITLE_PLAIN)),
        "head_place": np.where(
            m.at_head(m.is_at(p.TITLE)) > 0, np.minimum(m.at_head(place) / words, 1), 1
        ),
        "heads_agree": (term_hash[m.head] == title_head) & (title_head != 0),
        "title_head_asked": m.total(is_head_of_title),
    }


def brand(m: Matches) -> Columns:
    """Whether the query names a brand, this product's or another's."""
    named = m.of_term(m.queries.brandness)
    is_brand = m.is_at(p.BRAND)
    words = m.of_product(m.products.brand_words)
    asked = _largest(named, m)
    return {
        "brand_words_found": m.total(is_brand) / np.maximum(words, 1),
        "brand_weight": m.total(is_brand * m.weight) / m.weights,
        "brand_asked": asked,
        "brand_missing": _largest(np.where(m.anywhere, 0, named), m),
        "brand_agrees": m.total(is_brand * named) > 0,
        "only_brand_found": (m.total(is_brand & m.in_title) > 0)
        & (m.total(m.in_title & ~is_brand) == 0)
        & (m.terms > 1),
    }


def claims(m: Matches) -> Columns:
    """Colours, audiences, sizes, materials and measures: agreed, contradicted, left open."""
    bounds, claim = expand(m.queries.claims, m.query_of)
    pair = owners(bounds)
    product = m.product_of[pair]
    value = m.products.claims.find(product, m.queries.claim_value[claim])
    group = m.products.claims.find(product, m.queries.claim_group[claim])
    agreed = ((value & p.TITLE) != 0).astype(np.float64)
    contradicted = (value == 0) & ((group & p.TITLE) != 0)
    kind = m.queries.claim_kind[claim]
    found: dict[str, NDArray[Any]] = {}
    for flag, name in (
        (t.COLOUR, "colour"),
        (t.AUDIENCE, "audience"),
        (t.SIZE, "size"),
        (t.MATERIAL, "material"),
        (t.MEASURE, "measure"),
    ):
        mine = kind == flag
        found[f"{name}_asked"] = sums(mine, pair, len(m)) > 0
        found[f"{name}_agrees"] = sums(mine * agreed, pair, len(m))
        found[f"{name}_contradicted"] = sums(mine & contradicted, pair, len(m))
        found[f"{name}_in_body"] = sums(mine & ((value & p.BODY) != 0), pair, len(m)) > 0
    return found


def numbers(m: Matches) -> Columns:
    """Bare numbers and model numbers of the query, found and not."""
    flags = m.of_term(m.queries.flags)
    number, model = (flags & t.NUMBER) != 0, (flags & t.MODEL) != 0
    return {
        "numbers_found": m.total(number & m.in_title),
        "numbers_missing": m.total(number & ~m.anywhere),
        "models_found": m.total(model & m.in_title),
        "models_missing": m.total(model & ~m.anywhere),
        "models_soft": m.total(model * m.soft_title),
    }


def negation(m: Matches) -> Columns:
    """Whether the product has what the query denies, or says that it has not."""
    bounds, denial = expand(m.queries.denials, m.query_of)
    pair = owners(bounds)
    product = m.product_of[pair]
    has = m.products.terms.find(product, m.queries.denied[denial])
    says = m.products.claims.find(product, m.queries.denial[denial]) != 0

    def count(values: Mask) -> Values:
        return sums(values, pair, len(m))

    return {
        "denies": np.diff(bounds) > 0,
        "denied_in_title": count(((has & p.TITLE) != 0) & ~says),
        "denied_in_body": count(((has & p.BODY) != 0) & ~says),
        "denial_confirmed": count(says),
    }


def service(m: Matches) -> Columns:
    """Whether the product serves what the query names instead of being it."""
    flags = m.of_term(m.queries.flags)
    accessory = (flags & t.ACCESSORY) != 0
    asked = m.total(accessory)
    served_only = m.is_at(p.TITLE_SERVED) & ~m.is_at(p.TITLE_PLAIN)
    offered = m.of_product(m.products.accessories)
    head_is_accessory = (m.of_product(m.products.head_flags) & t.ACCESSORY) != 0
    return {
        "served_weight": m.total(served_only * m.weight) / m.weights,
        "serves": m.of_product(m.products.served_words) > 0,
        "serves_something_asked": m.total(served_only) > 0,
        "accessory_asked": asked > 0,
        "accessory_found": m.total(accessory & m.in_title),
        "accessories_unasked": np.where(asked > 0, 0, np.minimum(offered, 4)),
        "accessory_head_unasked": head_is_accessory & (asked == 0),
        "service_asked": m.total(m.of_term(m.queries.served)) > 0,
    }


def shape(m: Matches) -> Columns:
    """Lengths, scripts, and which texts the product has."""
    flags = m.of_term(m.queries.flags)
    present = m.of_product(m.products.present)
    title_words = m.of_product(m.products.title_words)
    columns: dict[str, NDArray[Any]] = {
        "query_terms": np.minimum(np.diff(m.bounds), 15),
        "query_weight": m.weights / m.terms,
        "rarest_asked": _largest(m.weight, m),
        "title_words": np.minimum(title_words, 60),
        "all_words": np.log1p(m.of_product(m.products.all_words)),
        "query_japanese": m.total((flags & t.JAPANESE) != 0) / m.terms,
        "title_japanese": m.of_product(m.products.japanese_words) / np.maximum(title_words, 1),
    }
    for bit, name in (
        (p.BRAND, "brand"),
        (p.COLOUR, "colour"),
        (p.BULLETS, "bullets"),
        (p.DESCRIPTION, "description"),
    ):
        columns[f"no_{name}"] = (present & bit) == 0
    return columns


def _largest(values: NDArray[Any], m: Matches) -> Values:
    """The largest value among each pair's terms, zero without terms; values are not negative."""
    found = np.zeros(len(m))
    filled = np.flatnonzero(np.diff(m.bounds))
    if filled.size:
        found[filled] = np.maximum.reduceat(values, m.bounds[:-1][filled])
    return found


FAMILIES: Final[Mapping[str, Callable[[Matches], Columns]]] = MappingProxyType(
    {
        "coverage": coverage,
        "spelling": spelling,
        "bm25": bm25,
        "order": order,
        "head": head,
        "brand": brand,
        "claims": claims,
        "numbers": numbers,
        "negation": negation,
        "service": service,
        "shape": shape,
    }
)


@cache
def feature_names() -> tuple[str, ...]:
    """Names of the features as "family:name", in the order of the columns."""
    nothing = prepare_products(Products.of([]))
    statistics = count_words(nothing)
    queries = prepare_queries(Texts.of([]), encode_locales([]), statistics)
    rows = np.zeros(0, np.int64)
    m = match(queries, nothing, statistics, rows, rows)
    return tuple(f"{name}:{column}" for name, family in FAMILIES.items() for column in family(m))


def features_of(m: Matches) -> Features:
    """The features of matched pairs."""
    columns: Iterable[NDArray[Any]] = (
        column for family in FAMILIES.values() for column in family(m).values()
    )
    return np.stack([column.astype(np.float32) for column in columns], axis=1)

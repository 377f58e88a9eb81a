"""What is computed once per query, however many products are asked about."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.products import (
    claim_hashes,
    denial_hashes,
    group_hashes,
    stream_claims,
)
from models.lexical.matching.ragged import Indptr, expand, indptr_of
from models.lexical.matching.statistics import Statistics
from models.lexical.reading import tokens as t
from models.lexical.reading.hashing import Hashes, joined, mixed
from models.lexical.reading.scopes import Stream, denials, heads, neighbours, read_stream
from models.lexical.reading.tokens import Vocabulary, gram_hashes, number_tokens
from models.locales import LocaleCodes
from models.texts import Texts

TOKEN_LIMIT = 48  # a longer query is a pasted text; its start says what is wanted


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """Queries as the pair features see them; each distinct stem of a query is one term."""

    locales: LocaleCodes
    # Terms, in the order of the query.
    terms: Indptr
    hash: Hashes
    surface: Hashes
    flags: NDArray[np.int32]
    served: NDArray[np.bool_]
    claim: Hashes  # of a measure in one token; zero for other terms
    idf: NDArray[np.float64]
    weight: NDArray[np.float64]  # idf over the greatest of the locale
    brandness: NDArray[np.float64]
    head: NDArray[np.int64]  # (queries,) the term that names the thing itself, -1 without terms
    # Character n-grams of each term.
    gram_bounds: Indptr  # (terms + 1,)
    grams: Hashes
    # Neighbouring words, written together.
    phrases: Indptr
    phrase: Hashes
    phrase_first: NDArray[np.int64]  # terms
    phrase_second: NDArray[np.int64]
    # Colours, audiences, sizes, materials, measures.
    claims: Indptr
    claim_value: Hashes
    claim_group: Hashes
    claim_kind: NDArray[np.int32]  # a concept's flag, or MEASURE
    # Denied words: what the product must not have.
    denials: Indptr
    denied: Hashes
    denial: Hashes  # what stands in a product that says so

    def __len__(self) -> int:
        return len(self.locales)


def prepare_queries(texts: Texts, locales: LocaleCodes, statistics: Statistics) -> QueryFeatures:
    """The features of each text, asked in its locale."""
    vocabulary = Vocabulary()
    indptr, numbers = number_tokens(texts, locales, vocabulary, TOKEN_LIMIT)
    columns = vocabulary.columns()
    stream = read_stream(indptr, columns.take(numbers))
    kept, terms, term_of = _terms(stream)
    locale_of = locales[stream.owner[kept]]
    of_terms = stream.columns.take(kept)
    idf = statistics.idf(locale_of, of_terms.hash)
    is_measure = (of_terms.flags & t.MEASURE) != 0

    brandness = statistics.brandness(locale_of, of_terms.hash)
    is_brand = np.zeros(len(stream.owner), bool)
    is_brand[kept] = brandness > 0.5
    head = heads(stream, locales, is_brand)
    head_term = np.where(head >= 0, term_of[head] if len(term_of) else -1, -1)
    head_term = np.where(head_term >= 0, head_term, _last_terms(terms))

    used, which = np.unique(numbers[kept], return_inverse=True)
    word_bounds, word_grams = gram_hashes(vocabulary, used)
    gram_bounds, elements = expand(word_bounds, which)

    pairs = neighbours(stream)
    pairs = pairs[(term_of[pairs] >= 0) & (term_of[pairs + 1] >= 0)]
    root, power = stream.columns.root, stream.columns.power
    at, values, groups = stream_claims(stream)
    at, values, groups = _in_order(at, values, groups)
    flags_at = stream.columns.flags[at]
    denying, denied = denials(stream)
    rows = len(locales)
    return QueryFeatures(
        locales=locales,
        terms=terms,
        hash=of_terms.hash,
        surface=of_terms.surface,
        flags=of_terms.flags,
        served=stream.served[kept],
        claim=np.where(is_measure, claim_hashes(of_terms.value, of_terms.group), 0).astype(
            np.uint32
        ),
        idf=idf,
        weight=idf / statistics.greatest_idf(locale_of),
        brandness=brandness,
        head=head_term,
        gram_bounds=gram_bounds,
        grams=word_grams[elements],
        phrases=_bounds(stream.owner[pairs], rows),
        phrase=mixed(joined(root[pairs], root[pairs + 1], power[pairs + 1])),
        phrase_first=term_of[pairs],
        phrase_second=term_of[pairs + 1],
        claims=_bounds(stream.owner[at], rows),
        claim_value=claim_hashes(values, groups),
        claim_group=group_hashes(groups),
        claim_kind=np.where(flags_at & t.NUMBER, t.MEASURE, flags_at & t.CONCEPT).astype(np.int32),
        denials=_bounds(stream.owner[denying], rows),
        denied=mixed(denied),
        denial=denial_hashes(denied),
    )


def _terms(stream: Stream) -> tuple[NDArray[np.int64], Indptr, NDArray[np.int64]]:
    """Tokens kept as terms, the bounds of each query's, and the term of every token (or -1)."""
    wanted = stream.content & ~stream.denied
    rows = len(stream.indptr) - 1
    some = np.bincount(stream.owner[wanted], minlength=rows) > 0
    # "the who": a query of function words alone is asked by them.
    wanted |= ~some[stream.owner] & ~stream.flagged(t.BREAK) & ~stream.denied
    at = np.flatnonzero(wanted)
    keys = (stream.owner[at].astype(np.uint64) << np.uint64(32)) | stream.columns.hash[at]
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    kept = np.sort(at[first])
    term_of = np.full(len(stream.owner), -1, np.int64)
    term_of[at] = np.searchsorted(kept, at[first][same])
    return kept, _bounds(stream.owner[kept], rows), term_of


def _last_terms(terms: Indptr) -> NDArray[np.int64]:
    return np.where(np.diff(terms) > 0, terms[1:] - 1, -1)


def _bounds(owner: NDArray[Any], rows: int) -> Indptr:
    return indptr_of(np.bincount(owner, minlength=rows))


def _in_order(at: NDArray[np.int64], *others: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    order = np.argsort(at, kind="stable")
    return (at[order], *(other[order] for other in others))

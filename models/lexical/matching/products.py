"""What is computed once per product, however many queries ask for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.postings import Postings, concatenated
from models.lexical.matching.ragged import expand, owners
from models.lexical.reading import tokens as t
from models.lexical.reading.hashing import Hashes, joined, mixed
from models.lexical.reading.scopes import Stream, denials, heads, neighbours, read_stream
from models.lexical.reading.tokens import Vocabulary, gram_hashes, number_tokens
from models.locales import LocaleCodes
from models.pairs import Products

# Where a term stands, as bits of its payload.
TITLE, BRAND, COLOUR, BULLETS, DESCRIPTION = (1 << bit for bit in range(5))
TITLE_PLAIN = 1 << 5  # in the title, outside what the product serves
TITLE_SERVED = 1 << 6  # in the title as what the product serves
BODY: Final = BULLETS | DESCRIPTION
ANYWHERE: Final = TITLE | BRAND | COLOUR | BODY
_FIELD_BITS: Final = {
    "title": TITLE,
    "brand": BRAND,
    "colour": COLOUR,
    "bullets": BULLETS,
    "description": DESCRIPTION,
}

# The rest of a term's payload: its first place and its counts, all capped.
PLACE_SHIFT, TITLE_COUNT_SHIFT, COUNT_SHIFT = 8, 16, 22
LAST_PLACE: Final = 255
MOST_COUNTED: Final = 63

# Tokens of a field that are read; the rest repeats, or stuffs.
_TOKEN_LIMITS: Final = {"title": 96, "brand": 16, "colour": 16, "bullets": 320, "description": 320}

# Salts that keep kinds of claims apart in one set.
_CLAIM, _GROUP, _DENIAL = 5, 6, 7
_CLAIM_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)

_CHUNK_ROWS: Final = 4096  # keeps the token columns of a large catalogue out of memory


@dataclass(frozen=True, eq=False)
class ProductFeatures:
    """Products as the pair features see them; row i is product i of what was prepared."""

    locales: LocaleCodes
    terms: Postings  # stems of all fields; where, first place in the title, counts
    phrases: Postings  # neighbouring title words, written together
    grams: Postings  # character n-grams: TITLE, and for Japanese BODY
    claims: Postings  # colours, audiences, sizes, materials, measures, denials: TITLE or BODY
    title_head: Hashes  # (products,) zero where a title has no content
    head_flags: NDArray[np.int32]
    title_words: NDArray[np.int32]
    all_words: NDArray[np.int32]
    brand_words: NDArray[np.int32]
    title_grams: NDArray[np.int32]
    accessories: NDArray[np.int32]  # accessory words in the title
    served_words: NDArray[np.int32]  # title words that name what the product serves
    japanese_words: NDArray[np.int32]  # of the title
    present: NDArray[np.int32]  # field bits: which texts the product has

    def __len__(self) -> int:
        return len(self.locales)

    def take(self, rows: NDArray[Any]) -> "ProductFeatures":
        """The products of `rows`, in that order; rows may repeat."""
        columns: dict[str, Any] = {
            name: column.take(rows) if isinstance(column, Postings) else column[rows]
            for name, column in self._columns()
        }
        return ProductFeatures(**columns)

    def _columns(self) -> Iterator[tuple[str, Any]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def prepare_products(products: Products) -> ProductFeatures:
    """The features of every one of `products`."""
    starts = range(0, max(len(products), 1), _CHUNK_ROWS)
    chunks = [
        _prepare(products.take(np.arange(start, min(start + _CHUNK_ROWS, len(products)))))
        if len(products) > _CHUNK_ROWS
        else _prepare(products)
        for start in starts
    ]
    return concatenated_features(chunks)


def concatenated_features(parts: Sequence[ProductFeatures]) -> ProductFeatures:
    """The products of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {}
    for field in fields(ProductFeatures):
        of_parts = [getattr(part, field.name) for part in parts]
        is_postings = isinstance(of_parts[0], Postings)
        columns[field.name] = concatenated(of_parts) if is_postings else np.concatenate(of_parts)
    return ProductFeatures(**columns)


def claim_hashes(values: NDArray[Any], groups: NDArray[Any]) -> Hashes:
    """What stands for "this value of this group", as "black of colours" or "64 of gigabytes"."""
    return mixed(values * _CLAIM_FACTOR + groups, _CLAIM)


def group_hashes(groups: NDArray[Any]) -> Hashes:
    """What stands for "some value of this group"."""
    return mixed(groups, _GROUP)


def denial_hashes(roots: NDArray[Any]) -> Hashes:
    """What stands for "without this"."""
    return mixed(roots, _DENIAL)


def stream_claims(stream: Stream) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """The claims of a stream: the token each begins at, its value, its group."""
    columns = stream.columns
    alone = np.flatnonzero(stream.flagged(t.MEASURE) | (stream.flagged(t.CONCEPT) & ~stream.denied))
    # "64 gb": the number's value, the next token's unit.
    number = neighbours(stream)
    number = number[
        stream.flagged(t.NUMBER)[number]
        & ~stream.flagged(t.MEASURE)[number]
        & stream.flagged(t.UNIT)[number + 1]
        & ~stream.flagged(t.CONCEPT)[number + 1]
    ]
    at = np.concatenate([alone, number])
    values = np.concatenate([columns.value[alone], columns.value[number]])
    groups = np.concatenate([columns.group[alone], columns.group[number + 1]])
    return at, values, groups


def _prepare(products: Products) -> ProductFeatures:
    vocabulary = Vocabulary()
    numbered = {
        name: number_tokens(products.field(name), products.locales, vocabulary, limit)
        for name, limit in _TOKEN_LIMITS.items()
    }
    columns = vocabulary.columns()
    streams = {
        name: read_stream(indptr, columns.take(numbers))
        for name, (indptr, numbers) in numbered.items()
    }
    rows, title = len(products), streams["title"]
    terms = _terms(rows, streams)
    brand_of_title = terms.find(title.owner, title.columns.hash) & BRAND
    head = heads(title, products.locales, brand_of_title != 0)
    has_head = head >= 0
    head_at = np.maximum(head, 0)

    def per_row(mask: NDArray[np.bool_], stream: Stream = title) -> NDArray[np.int32]:
        return np.bincount(stream.owner[mask], minlength=rows).astype(np.int32)

    grams = _grams(rows, vocabulary, numbered, streams)
    pairs = neighbours(title)
    phrase = mixed(
        joined(
            title.columns.root[pairs], title.columns.root[pairs + 1], title.columns.power[pairs + 1]
        )
    )
    present = np.zeros(rows, np.int32)
    for name, bit in _FIELD_BITS.items():
        present |= np.where(np.diff(numbered[name][0]) > 0, bit, 0).astype(np.int32)
    title_hash = title.columns.hash if len(title.columns) else np.zeros(1, np.uint32)
    title_flags = title.columns.flags if len(title.columns) else np.zeros(1, np.int32)
    all_words = np.zeros(rows, np.int32)
    for stream in streams.values():
        all_words += per_row(stream.content, stream)
    return ProductFeatures(
        locales=products.locales,
        terms=terms,
        phrases=Postings.of(
            rows, title.owner[pairs], phrase, np.full(len(pairs), TITLE, np.uint32)
        ),
        grams=grams,
        claims=_claims(rows, streams),
        title_head=np.where(has_head, title_hash[head_at], 0).astype(np.uint32),
        head_flags=np.where(has_head, title_flags[head_at], 0).astype(np.int32),
        title_words=per_row(title.content),
        all_words=all_words,
        brand_words=np.diff(terms_with(terms, BRAND)).astype(np.int32),
        title_grams=np.bincount(
            owners(grams.indptr)[(grams.payload & TITLE) != 0], minlength=rows
        ).astype(np.int32),
        accessories=per_row(title.content & title.flagged(t.ACCESSORY)),
        served_words=per_row(title.served),
        japanese_words=per_row(title.content & title.flagged(t.JAPANESE)),
        present=present,
    )


def terms_with(terms: Postings, bits: int) -> NDArray[np.int64]:
    """The row bounds of the terms that have any of `bits`."""
    counted = np.append(0, np.cumsum((terms.payload & bits) != 0))
    return np.asarray(counted[terms.indptr], dtype=np.int64)


def _terms(rows: int, streams: dict[str, Stream]) -> Postings:
    owner, hashes, payload = [], [], []
    for name, stream in streams.items():
        # Titles keep function words: there are books called "It".
        kept = ~stream.flagged(t.BREAK) if name == "title" else stream.content
        bits = np.full(len(stream.owner), _FIELD_BITS[name], np.uint32)
        place = np.full(len(stream.owner), LAST_PLACE, np.uint32)
        if name == "title":
            bits |= np.where(stream.served, TITLE_SERVED, TITLE_PLAIN).astype(np.uint32)
            place = np.minimum(stream.place, LAST_PLACE).astype(np.uint32)
        owner.append(stream.owner[kept])
        hashes.append(stream.columns.hash[kept])
        payload.append((bits | (place << PLACE_SHIFT))[kept])
    return Postings.of(
        rows,
        np.concatenate(owner),
        np.concatenate(hashes),
        np.concatenate(payload),
        _merge_terms,
    )


def _merge_terms(payload: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.uint32]:
    bits = np.bitwise_or.reduceat(payload & 0xFF, starts)
    place = np.minimum.reduceat((payload >> PLACE_SHIFT) & 0xFF, starts)
    in_title = np.add.reduceat(payload & TITLE, starts)
    count = np.diff(np.append(starts, len(payload))).astype(np.uint32)
    return np.asarray(
        bits
        | (place << PLACE_SHIFT)
        | (np.minimum(in_title, MOST_COUNTED).astype(np.uint32) << TITLE_COUNT_SHIFT)
        | (np.minimum(count, MOST_COUNTED) << COUNT_SHIFT),
        dtype=np.uint32,
    )


def _grams(
    rows: int,
    vocabulary: Vocabulary,
    numbered: dict[str, tuple[NDArray[np.int64], NDArray[np.int32]]],
    streams: dict[str, Stream],
) -> Postings:
    owner, words, bits = [], [], []
    for name, stream in streams.items():
        in_title = name == "title"
        # Elsewhere than in the title an exact match will do, but Japanese has no words to match.
        kept = stream.content if in_title else stream.flagged(t.JAPANESE)
        owner.append(stream.owner[kept])
        words.append(numbered[name][1][kept])
        bits.append(np.full(int(kept.sum()), TITLE if in_title else BODY, np.uint32))
    word_of = np.concatenate(words)
    used, which = np.unique(word_of, return_inverse=True)
    indptr, grams = gram_hashes(vocabulary, used)
    bounds, elements = expand(indptr, which)
    times = np.diff(bounds)
    return Postings.of(
        rows,
        np.repeat(np.concatenate(owner), times),
        grams[elements],
        np.repeat(np.concatenate(bits), times),
    )


def _claims(rows: int, streams: dict[str, Stream]) -> Postings:
    owner, hashes, payload = [], [], []
    for name, stream in streams.items():
        bit = BODY if name in ("bullets", "description") else TITLE
        at, values, groups = stream_claims(stream)
        denying, denied = denials(stream)
        for tokens, found in (
            (at, claim_hashes(values, groups)),
            (at, group_hashes(groups)),
            (denying, denial_hashes(denied)),
        ):
            owner.append(stream.owner[tokens])
            hashes.append(found)
            payload.append(np.full(len(tokens), bit, np.uint32))
    return Postings.of(rows, np.concatenate(owner), np.concatenate(hashes), np.concatenate(payload))

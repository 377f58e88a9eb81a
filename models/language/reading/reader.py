"""Queries and products to token ids: one reader for training and serving.

Every field is tokenised by itself and the special tokens are put between as ids, so that a title
which says "[SEP]" is text, a field keeps to its budget, and a product that a hundred queries
share is tokenised once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel, WordPiece

from models.errors import ConfigError, EsciError, ReleaseError
from models.files import atomic_file, read_json, write_json
from models.language.reading.sequences import Sequences, ranges, stacked
from models.pairs import PRODUCT_FIELDS, Pairs, Products
from models.text import normalise
from models.texts import Rows, Texts
from models.typed import STRICT, complaints, parse, plain

TOKENIZER_FILE: Final = "tokenizer.json"
LAYOUT_FILE: Final = "reader.json"
FILES: Final = (TOKENIZER_FILE, LAYOUT_FILE)

# Of a long text the start is read first, of so many characters per token of its budget, and more
# of it where that gave too few tokens. None of 1,072 descriptions of products asked for more than
# 64 tokens in 8 characters each, and reading them took 0.6 of the time that the whole texts took.
_CHARACTERS_PER_TOKEN: Final = 8
_MORE: Final = 4  # times as much, when it was too little

# What the tokenizer makes of a text takes a hundred times the room of the ids we keep of it, and to
# say where every token of a pair comes from takes several times theirs.
_TEXTS_AT_A_TIME: Final = 4_096


@dataclass(frozen=True)
class TextOptions:
    """What a language model reads of a pair, in tokens of its own tokenizer."""

    __pydantic_config__ = STRICT

    max_tokens: int = 128  # of query and product together; attention costs its square
    query_tokens: int = 40  # a longer query is cut
    # Fields and the tokens each may take, in the order they are read: what `max_tokens` cuts off
    # comes last.
    fields: tuple[tuple[str, int], ...] = (
        ("title", 64),
        ("brand", 8),
        ("colour", 8),
        ("bullets", 64),
        ("description", 64),
    )
    markers: bool = True  # announce every field by a token of its own, added to the tokenizer

    def __post_init__(self) -> None:
        names = [name for name, _ in self.fields]
        if not names or set(names) - set(PRODUCT_FIELDS) or len(set(names)) < len(names):
            raise ConfigError(
                f"fields {names}: expected some of {', '.join(PRODUCT_FIELDS)}, each once"
            )
        if min(self.query_tokens, *(tokens for _, tokens in self.fields)) < 1:
            raise ConfigError("query_tokens and the tokens of a field: expected at least 1 each")
        if self.max_tokens < self.query_tokens + 8:
            raise ConfigError(
                f"max_tokens {self.max_tokens} leaves a query of {self.query_tokens} tokens no "
                f"room for a product; expected at least {self.query_tokens + 8}"
            )


@dataclass(frozen=True)
class Layout:
    """Where special tokens stand: ids before, between and after the texts, and their segments."""

    __pydantic_config__ = STRICT

    options: TextOptions
    pad_id: int
    before: list[int]  # of the first text, whether alone or in a pair
    between: list[int]
    after: list[int]  # of a pair
    after_alone: list[int]
    second_segment: int  # of the second text of a pair and of what follows it
    markers: dict[str, int]  # field → the id that announces it; empty without markers


class Reader:
    """Text to token ids, by the tokenizer and layout of one trained model."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # A text that spells a special token is text.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._spelt = _spelt_specials(tokenizer)
        self._ends_at_spaces = _ends_at_spaces(tokenizer)
        self.layout = layout

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The reader saved in `folder`."""
        try:
            layout = parse(Layout, read_json(folder / LAYOUT_FILE))
            return cls(Tokenizer.from_file(str(folder / TOKENIZER_FILE)), layout)
        except ValidationError as error:
            raise ReleaseError(f"{folder / LAYOUT_FILE}: {complaints(error)}") from error
        except EsciError as error:
            raise ReleaseError(f"{folder} holds no reader of texts: {error}") from error
        except Exception as error:  # tokenizers raises bare exceptions
            raise ReleaseError(f"{folder / TOKENIZER_FILE} is no tokenizer: {error}") from error

    def save(self, folder: Path) -> None:
        """Write the tokenizer and the layout."""
        write_json(folder / LAYOUT_FILE, plain(self.layout))
        with atomic_file(folder / TOKENIZER_FILE) as scratch:
            scratch.write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    @property
    def vocabulary(self) -> int:
        """One more than the largest id."""
        # Not their number: a vocabulary may have holes.
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def read_queries(self, texts: Texts) -> Sequences:
        """Token ids of queries, without special tokens."""
        budget = self.layout.options.query_tokens
        return stacked(self._encoded(texts.take(rows), budget) for rows in _blocks(len(texts)))

    def read_products(self, products: Products) -> Sequences:
        """Token ids of products: field after field, each behind its marker, empty ones left out."""
        if len(products) <= _TEXTS_AT_A_TIME:
            return self._some_products(products)
        return self._products_of(products, np.arange(len(products)))

    def read_pairs(self, *several: Pairs) -> Sequences:
        """One sequence per pair, of one table of pairs after the other.

        Each query and product of a table is tokenised once.
        """
        return stacked(part for pairs in several for part in self._pairs_of(pairs))

    def join(
        self,
        queries: Sequences,
        products: Sequences,
        query_rows: NDArray[np.int32],
        product_rows: NDArray[np.int32],
    ) -> Sequences:
        """Query and product of each pair with special tokens around, at most `max_tokens` long."""
        return stacked(
            self._some_pairs(queries, products, query_rows[rows], product_rows[rows])
            for rows in _blocks(len(query_rows))
        )

    def alone(self, texts: Sequences) -> Sequences:
        """Each of `texts` by itself with special tokens around, at most `max_tokens` long."""
        return stacked(
            self._some_alone(texts.part(rows[0], rows[-1] + 1)) for rows in _blocks(len(texts))
        )

    def _pairs_of(self, pairs: Pairs) -> Iterator[Sequences]:
        """The pairs, some at a time."""
        used_queries, query_rows = np.unique(pairs.query_rows, return_inverse=True)
        used_products, product_rows = np.unique(pairs.product_rows, return_inverse=True)
        queries = self.read_queries(pairs.queries.texts.take(used_queries))
        products = self._products_of(pairs.products, used_products)
        for rows in _blocks(len(pairs)):
            yield self._some_pairs(queries, products, query_rows[rows], product_rows[rows])

    def _products_of(self, products: Products, rows: Rows) -> Sequences:
        """What `read_products` gives of some, without a copy of the texts of all."""
        return stacked(
            self._some_products(products.take(rows[some])) for some in _blocks(len(rows))
        )

    def _some_products(self, products: Products) -> Sequences:
        columns = []
        for name, budget in self.layout.options.fields:
            column = self._encoded(products.field(name), budget)
            marker = self.layout.markers.get(name)
            if marker is not None:
                column = _announced(column, marker)
            columns.append(column)
        return _joined(columns)

    def _some_pairs(
        self, queries: Sequences, products: Sequences, query_rows: Rows, product_rows: Rows
    ) -> Sequences:
        layout = self.layout
        first, second = queries.take(query_rows), products.take(product_rows)
        room = layout.options.max_tokens - first.lengths()
        room -= len(layout.before) + len(layout.between) + len(layout.after)
        second = _cut(second, np.maximum(room, 0))
        return _joined(
            [
                _constant(layout.before, len(first)),
                first,
                _constant(layout.between, len(first)),
                _in_segment(second, layout.second_segment),
                _in_segment(_constant(layout.after, len(first)), layout.second_segment),
            ]
        )

    def _some_alone(self, texts: Sequences) -> Sequences:
        layout = self.layout
        room = layout.options.max_tokens - len(layout.before) - len(layout.after_alone)
        return _joined(
            [
                _constant(layout.before, len(texts)),
                _cut(texts, np.full(len(texts), room)),
                _constant(layout.after_alone, len(texts)),
            ]
        )

    def _encoded(self, texts: Texts, budget: int) -> Sequences:
        clean = [normalise(text) for text in texts]
        ids: list[list[int]] = [[] for _ in clean]
        most, left = budget * _CHARACTERS_PER_TOKEN, list(range(len(clean)))
        while left:
            starts = [self._start_of(clean[row], most) for row in left]
            encoded = self._tokenizer.encode_batch_fast(
                [self._unspelt(start) for start in starts], add_special_tokens=False
            )
            too_little = []
            for row, start, encoding in zip(left, starts, encoded, strict=True):
                ids[row] = encoding.ids[:budget]
                if len(encoding) < budget and len(start) < len(clean[row]):
                    too_little.append(row)
            most, left = most * _MORE, too_little
        return Sequences.of(ids)

    def _start_of(self, text: str, most: int) -> str:
        """What of `text` comes before its first space beyond `most` characters.

        There words end, and what follows cannot change the tokens of what comes before: neither
        where a word of any length is one token, nor where marks vanish, nor in scripts without
        spaces, which are read whole.
        """
        if len(text) <= most or not self._ends_at_spaces:
            return text
        end = text.find(" ", most)
        return text if end < 0 else text[:end]

    def _unspelt(self, text: str) -> str:
        return text if self._spelt is None else self._spelt.sub(_parted, text)


def layout_of(tokenizer: Tokenizer, options: TextOptions, markers: Mapping[str, int]) -> Layout:
    """The layout that a tokenizer's own template gives pairs and single texts.

    `markers` are ids of tokens already added. The padding id must be set in the tokenizer.
    """
    tokenizer.no_truncation()
    padding = tokenizer.padding
    if padding is None:
        raise ConfigError("the tokenizer has no padding token; expected one with its padding set")
    tokenizer.no_padding()
    pair, alone = tokenizer.encode("a", "a"), tokenizer.encode("a")
    whose = np.array([-1 if text is None else text for text in pair.sequence_ids])
    first, second = np.flatnonzero(whose == 0), np.flatnonzero(whose == 1)
    of_alone = np.flatnonzero([text is not None for text in alone.sequence_ids])
    return Layout(
        options=options,
        pad_id=int(padding["pad_id"]),
        before=pair.ids[: first[0]],
        between=pair.ids[first[-1] + 1 : second[0]],
        after=pair.ids[second[-1] + 1 :],
        after_alone=alone.ids[of_alone[-1] + 1 :],
        second_segment=int(pair.type_ids[second[0]]),
        markers=dict(markers),
    )


def _spelt_specials(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What finds the special tokens that a text can spell all the same; None where it can none.

    Vocabularies in the manner of sentencepiece hold special tokens as pieces like any other, and
    would find them in a text.
    """
    specials = {
        at: token.content
        for at, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    found = [
        text
        for at, text in specials.items()
        if at in tokenizer.encode(text, add_special_tokens=False).ids
    ]
    # Longest first, so that none is missed for being the start of another.
    found.sort(key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, found))) if found else None


def _ends_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether tokens end where a space begins: no token has one behind another character."""
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    # A space is written as itself, and in words cut elsewhere than at spaces by one of two marks;
    # either is a letter or a sign like any other where the other is the mark.
    marks = " "
    if not isinstance(tokenizer.model, (WordPiece, WordLevel)):
        marks += "▁" if any("▁" in token for token in tokens) else "Ġ"
    # Line ends and tabs are in no text that is read, and come before spaces in tokens for code.
    reaching = re.compile(f"[^\\sĊčĉ{marks}][{marks}]")
    return not any(map(reaching.search, tokens))


def _parted(special: re.Match[str]) -> str:
    """What a text meant that spells a special token: "< /s>" for "</s>"."""
    return f"{special[0][0]} {special[0][1:]}"


def _blocks(count: int) -> Iterator[NDArray[np.int64]]:
    """The numbers below `count`, some at a time."""
    for start in range(0, count, _TEXTS_AT_A_TIME):
        yield np.arange(start, min(start + _TEXTS_AT_A_TIME, count))


def _constant(ids: list[int], texts: int) -> Sequences:
    starts = np.arange(texts + 1, dtype=np.int64) * len(ids)
    tiled = np.tile(np.array(ids, np.int32), texts)
    return Sequences(tiled, np.zeros(len(tiled), np.uint8), starts)


def _in_segment(sequences: Sequences, segment: int) -> Sequences:
    segments = np.full_like(sequences.segments, segment)
    return Sequences(sequences.ids, segments, sequences.starts)


def _cut(sequences: Sequences, lengths: NDArray[np.int64]) -> Sequences:
    """The start of each text, at most `lengths[i]` long."""
    kept = np.minimum(sequences.lengths(), lengths)
    places = ranges(sequences.starts[:-1], kept)
    starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return Sequences(sequences.ids[places], sequences.segments[places], starts)


def _announced(sequences: Sequences, marker: int) -> Sequences:
    """Every text that is not empty with `marker` before it."""
    is_there = (sequences.lengths() > 0).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(is_there)]).astype(np.int64)
    count = int(starts[-1])
    markers = Sequences(np.full(count, marker, np.int32), np.zeros(count, np.uint8), starts)
    return _joined([markers, sequences])


def _joined(parts: list[Sequences]) -> Sequences:
    """Text i of every part, one after the other."""
    lengths = np.stack([part.lengths() for part in parts], axis=1)  # (texts, parts)
    offsets = np.cumsum([0, *(len(part.ids) for part in parts[:-1])])
    starts = np.stack([part.starts[:-1] for part in parts], axis=1) + offsets
    places = ranges(starts.ravel(), lengths.ravel())
    ids = np.concatenate([part.ids for part in parts])[places]
    segments = np.concatenate([part.segments for part in parts])[places]
    ends = np.concatenate([[0], np.cumsum(lengths.sum(axis=1))]).astype(np.int64)
    return Sequences(ids, segments, ends)

"""Unlabelled texts to token ids, each text by itself, a part of the catalogue at a time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from models.language.reading.reader import Layout, Reader
from models.language.reading.sequences import Sequences
from models.pairs import Products
from models.texts import Texts

# What the tokenizer makes of a text takes a hundred times the room of the ids we keep of it.
_AT_A_TIME: Final = 20_000


def read_products_alone(reader: Reader, products: Products) -> Sequences:
    """Each product by itself, as `reader` reads products, with special tokens around."""
    parts = [
        reader.alone(reader.read_products(products.take(rows))) for rows in _parts(len(products))
    ]
    return stacked(parts)


def read_queries_alone(reader: Reader, texts: Texts) -> Sequences:
    """Each query by itself, with special tokens around."""
    return stacked(
        [reader.alone(reader.read_queries(texts.take(rows))) for rows in _parts(len(texts))]
    )


def reader_of_fields(tokenizer: Tokenizer, layout: Layout, names: set[str]) -> Reader:
    """A reader as `layout` says, of those of its fields alone that are among `names`."""
    kept = tuple((name, tokens) for name, tokens in layout.options.fields if name in names)
    return Reader(tokenizer, replace(layout, options=replace(layout.options, fields=kept)))


def stacked(parts: list[Sequences]) -> Sequences:
    """The texts of every part, one part after the other."""
    if not parts:
        return Sequences.of([])
    offsets = np.cumsum([0, *(len(part.ids) for part in parts)])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return Sequences(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.segments for part in parts]),
        np.concatenate([*starts, offsets[-1:]]).astype(np.int64),
    )


def _parts(rows: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    for start in range(0, rows, _AT_A_TIME):
        yield np.arange(start, min(start + _AT_A_TIME, rows))

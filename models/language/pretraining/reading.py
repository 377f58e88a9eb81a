"""Unlabelled texts to token ids, each text by itself."""

from dataclasses import replace

from tokenizers import Tokenizer

from models.language.reading.reader import Layout, Reader
from models.language.reading.sequences import Sequences
from models.pairs import Products
from models.texts import Texts


def read_products_alone(reader: Reader, products: Products) -> Sequences:
    """Each product by itself, as `reader` reads products, with special tokens around."""
    return reader.alone(reader.read_products(products))


def read_queries_alone(reader: Reader, texts: Texts) -> Sequences:
    """Each query by itself, with special tokens around."""
    return reader.alone(reader.read_queries(texts))


def reader_of_fields(tokenizer: Tokenizer, layout: Layout, names: set[str]) -> Reader:
    """A reader as `layout` says, of those of its fields alone that are among `names`."""
    kept = tuple((name, tokens) for name, tokens in layout.options.fields if name in names)
    return Reader(tokenizer, replace(layout, options=replace(layout.options, fields=kept)))

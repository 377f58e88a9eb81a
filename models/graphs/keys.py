"""The key of a node: what it is called in every graph it is in, wherever its row lies there."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.locales import LOCALES
from models.mixing import scrambled
from models.pairs import Products, Queries
from models.text import fold

NodeKeys: TypeAlias = NDArray[np.uint64]
"""Sixty-four bits per node: of ten million nodes two share one in three runs of a million."""


def product_node_keys(products: Products) -> NodeKeys:
    """A key per product, by id and locale: its texts may change and it stays the same node."""
    return _keys(
        b"product",
        (
            f"{LOCALES[locale]}\0{product_id}"
            for locale, product_id in zip(products.locales.tolist(), products.ids, strict=True)
        ),
    )


def query_node_keys(queries: Queries) -> NodeKeys:
    """A key per query, by folded text and locale."""
    return _keys(
        b"query",
        (
            f"{LOCALES[locale]}\0{fold(text)}"
            for locale, text in zip(queries.locales.tolist(), queries.texts, strict=True)
        ),
    )


def _keys(person: bytes, names: Iterable[str]) -> NodeKeys:
    digests = b"".join(
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=person).digest()
        for name in names
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def mixed(values: NodeKeys) -> NodeKeys:
    """Well-mixed bits of each value, zero included."""
    return scrambled(values + np.uint64(0x9E3779B97F4A7C15))

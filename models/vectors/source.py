"""Where vectors of known products come from, and the key of each."""

from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.locales import LOCALES
from models.pairs import Products
from models.vectors.packing import Packed

Keys: TypeAlias = NDArray[np.uint8]
"""Sixteen bytes per product, shape (products, 16)."""

KEY_BYTES = 16


class Found(NamedTuple):
    """Which keys are known, and the packed vectors of those, in the order of the keys."""

    known: NDArray[np.bool_]  # (keys,)
    packed: Packed  # (known keys, stride)


class VectorSource(Protocol):
    """Packed vectors of one product tower by key; reading is safe from many threads."""

    @property
    def identity(self) -> str:
        """The digest of the tower, its reader and packing: vectors of another mean nothing here."""
        ...

    def get_many(self, keys: Keys) -> Found:
        """The vectors of those of `keys` that are known."""
        ...


def product_keys(products: Products) -> Keys:
    """A digest of (product_id, locale, content) per product: a changed text is another key."""
    digests = b"".join(
        blake2b(
            b"\0".join((LOCALES[locale].encode(), product_id.encode(), content)),
            digest_size=KEY_BYTES,
        ).digest()
        for locale, product_id, content in zip(
            products.locales.tolist(), products.ids, products.content_hashes(), strict=True
        )
    )
    return np.frombuffer(digests, np.uint8).reshape(len(products), KEY_BYTES)

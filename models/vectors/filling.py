"""Fills a store with the vectors of a catalogue, so that a kill costs half a minute's work."""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.pairs import Products
from models.vectors.packing import Packed
from models.vectors.source import KEY_BYTES, Keys, product_keys
from models.vectors.store import ProductVectors

Tick = Callable[[int, int], None]
"""Told how many products are done, and of how many."""


def unheard(done: int, total: int) -> None:
    """A Tick that tells nobody."""


# Encoded between two ticks: a few seconds on a processor. A vector costs the same in a block of 64
# as of 1,024.
BLOCK_PRODUCTS: Final = 256
# Written at a time: whichever comes first. Each writing is a segment of its own until all merge.
_WRITTEN_PRODUCTS: Final = 1 << 13
_WRITTEN_SECONDS: Final = 30.0
# Whose keys are made at a time, so that a catalogue's texts are not held twice.
_BLOCK_KEYS: Final = 1 << 16


def fill(
    store: ProductVectors,
    encoded: Callable[[Products], Packed],
    products: Products,
    tick: Tick,
) -> None:
    """Add the vectors of those `products` that the store lacks, as `encoded` says, and merge it.

    `tick` is first told of the products that were known, then of more as they are encoded.
    """
    keys, is_known = _looked_up(store, products)
    missing = np.flatnonzero(~is_known)
    done = len(products) - len(missing)
    tick(done, len(products))
    waiting: list[tuple[Keys, Packed]] = []
    written, written_at = done, time.monotonic()
    for start in range(0, len(missing), BLOCK_PRODUCTS):
        rows = missing[start : start + BLOCK_PRODUCTS]
        waiting.append((keys[rows], encoded(products.take(rows))))
        done += len(rows)
        now = time.monotonic()
        if (
            done == len(products)
            or done - written >= _WRITTEN_PRODUCTS
            or now - written_at >= _WRITTEN_SECONDS
        ):
            store.append(*(np.concatenate(part) for part in zip(*waiting, strict=True)))
            waiting, written, written_at = [], done, now
        tick(done, len(products))
    store.merge()


def _looked_up(store: ProductVectors, products: Products) -> tuple[Keys, NDArray[np.bool_]]:
    """The key of each product, and whether the store has it."""
    keys, known = [np.empty((0, KEY_BYTES), np.uint8)], [np.empty(0, bool)]
    for start in range(0, len(products), _BLOCK_KEYS):
        rows = np.arange(start, min(start + _BLOCK_KEYS, len(products)))
        keys.append(product_keys(products.take(rows)))
        known.append(store.get_many(keys[-1]).known)
    return np.concatenate(keys), np.concatenate(known)

"""Which products are bought or looked at together, whatever anyone searched for."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.catalogue import Columns
from pipelines.demo.retrieval import PARTNER_TYPES
from pipelines.demo.shelves import Shelves

CO_BUY, CO_VIEW = range(2)  # positions in layout.LINK_RELATIONS

_MEAN_PARTNERS: Final = 0.6  # per product and relation, more for the popular
_CHANCE_SHARE: Final = 0.08  # of links that mean nothing
_SAME_BRAND_SHARE: Final = 0.5


def link(
    rng: np.random.Generator, first: int, stop: int, columns: Columns, shelves: Shelves
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Product row, other product row, relation and weight of the links of a chunk's products.

    Bought together: complements, for the same device where they are made for one, and often of
    one brand. Viewed together: products of one type, often of one brand. New products have none.
    """
    mine = columns[first:stop]
    found = []
    for relation in (CO_BUY, CO_VIEW):
        counts = rng.poisson(_MEAN_PARTNERS * mine["popularity"])
        counts[mine["new"]] = 0
        a = first + np.repeat(np.arange(len(mine)), counts)
        like, draws = columns[a], rng.random((4, len(a)))
        locale, brand = like["locale"], like["brand"]
        if relation == CO_BUY:
            options = PARTNER_TYPES[like["type"]]
            type_ = options[np.arange(len(a)), (draws[0] * options.shape[1]).astype(np.int64)]
        else:
            type_ = like["type"].astype(np.int64)
        known = np.maximum(type_, 0)
        b = shelves.by_type.pick(locale, known, 0, draws[1])
        branded = shelves.by_brand.pick(locale, known, brand, draws[1])
        b = np.where((branded >= 0) & (draws[2] < _SAME_BRAND_SHARE), branded, b)
        if relation == CO_BUY:
            fitting = shelves.by_device.pick(locale, known, like["device"], draws[1])
            b = np.where((like["device"] > 0) & (fitting >= 0), fitting, b)
            # Nobody buys a case for another phone, so where none fits there is no link.
            device = columns["device"][b]
            misfit = (like["device"] > 0) & (device > 0) & (device != like["device"])
            b = np.where(misfit, -1, b)
        b = np.where(type_ >= 0, b, -1)
        chance = (b >= 0) & (draws[3] < _CHANCE_SHARE)
        b = np.where(chance, shelves.by_locale.pick(locale, 0, 0, draws[1]), b)
        kept = (b >= 0) & (b != a) & ~columns["new"][b]
        # A pair that came up several times is one link, and a heavier one.
        pairs, weights = np.unique(np.stack([a[kept], b[kept]], axis=1), axis=0, return_counts=True)
        weights = weights + rng.poisson(1.5, len(weights))
        found.append((pairs[:, 0], pairs[:, 1], np.full(len(pairs), relation), weights))
    a, b, relations, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((b, relations, a))
    return a[order], b[order], relations[order], weights[order]

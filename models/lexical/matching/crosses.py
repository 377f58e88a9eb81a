"""Hashed indicators: which word was asked and where it was found, what was asked for and what came.

They hold what the numbers of `pair_features` cannot: that a missing "wireless" weighs more than a
missing "amazon", that who asks for a phone does not mean a case.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.matches import Matches
from models.lexical.reading.hashing import Hashes, mixed

_TERM, _HEADS, _TITLE_HEAD = 11, 12, 13
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Crosses:
    """Indicators of pairs: pair `owner[i]` has the indicator `hash[i]`."""

    owner: NDArray[np.int64]
    hash: Hashes


def pair_crosses(m: Matches) -> Crosses:
    """The indicators of matched pairs.

    One per query term with the place it was found (title, elsewhere, nowhere), one for the heads of
    query and title together, one for the title's head alone.
    """
    term = m.of_term(m.queries.hash).astype(np.uint64)
    place = np.where(m.in_title, 2, np.where(m.anywhere, 1, 0)).astype(np.uint64)
    asked = np.append(term, np.uint64(0))[m.head]
    came = m.of_product(m.products.title_head).astype(np.uint64)
    pairs = np.arange(len(m))
    return Crosses(
        np.concatenate([m.pair, pairs, pairs]),
        np.concatenate(
            [
                mixed(term * _FACTOR + place, _TERM),
                mixed(asked * _FACTOR + came, _HEADS),
                mixed(came, _TITLE_HEAD),
            ]
        ),
    )


def joined_crosses(parts: list[Crosses], lengths: list[int]) -> Crosses:
    """The indicators of all parts, whose pairs follow one another in these numbers."""
    offsets = np.append(0, np.cumsum(lengths))
    owner = [part.owner + offset for part, offset in zip(parts, offsets, strict=False)]
    return Crosses(np.concatenate(owner), np.concatenate([part.hash for part in parts]))

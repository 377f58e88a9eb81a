"""Folds by query text, never by row: who may teach and who must judge.

A query's place is a hash of its folded text and the seed. It does not depend on the other queries,
on their order or on the locale, so adding data moves nobody, and a text that is asked in two
locales is on one side in both.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.pairs import Pairs, Queries
from models.text import fold

# Each has places of its own: were they one hash, the queries that one takes out would all be
# missing from the first fold of another.
Purpose = Literal["test", "held-out", "fold", "distil"]

_FULL: Final = 2.0**64
_LARGEST_SEED: Final = 2**63 - 1


def query_positions(texts: Sequence[str], seed: int, purpose: Purpose) -> NDArray[np.float64]:
    """A place in [0, 1) for each query text, uniform over texts and the same in every run.

    Places for one purpose say nothing of those for another.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError(f"found seed {seed}; expected 0 to {_LARGEST_SEED}")
    salt, person = seed.to_bytes(8, "big"), purpose.encode()
    digests = b"".join(
        blake2b(fold(text).encode(), digest_size=8, salt=salt, person=person).digest()
        for text in texts
    )
    # Twice rounded up to 1.0, a place would fall out of the last fold.
    return np.minimum(np.frombuffer(digests, ">u8") / _FULL, np.nextafter(1.0, 0.0))


def query_folds(
    queries: Queries, folds: int, seed: int, purpose: Purpose = "fold"
) -> NDArray[np.int8]:
    """The fold of each query, 0 to `folds` - 1."""
    if not 2 <= folds <= 100:
        raise ConfigError(f"found {folds} folds; expected 2 to 100")
    places = query_positions(list(queries.texts), seed, purpose)
    return np.asarray(places * folds, dtype=np.int8)


def pair_folds(pairs: Pairs, folds: int, seed: int, purpose: Purpose = "fold") -> NDArray[np.int8]:
    """The fold of each pair: its query's."""
    return query_folds(pairs.queries, folds, seed, purpose)[pairs.query_rows]

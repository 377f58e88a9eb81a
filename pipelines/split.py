"""Which judgements may teach and which must judge: always by query text, never by row.

A query's place is a hash of its folded text and the seed. It does not depend on the other queries,
on their order or on the locale, so adding data moves nobody, and a text that is asked in two
locales is on one side in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, DataError
from models.pairs import Pairs, Queries
from models.text import fold
from pipelines.dataset.read import TEST, TRAIN, Judgements

# Each has places of its own: were they one hash, the queries that one takes out would all be
# missing from the first fold of another.
Purpose = Literal["test", "held-out", "fold"]

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


def query_folds(queries: Queries, folds: int, seed: int) -> NDArray[np.int8]:
    """The fold of each query, 0 to `folds` - 1."""
    if not 2 <= folds <= 100:
        raise ConfigError(f"found {folds} folds; expected 2 to 100")
    places = query_positions(list(queries.texts), seed, "fold")
    return np.asarray(places * folds, dtype=np.int8)


def pair_folds(pairs: Pairs, folds: int, seed: int) -> NDArray[np.int8]:
    """The fold of each pair: its query's."""
    return query_folds(pairs.queries, folds, seed)[pairs.query_rows]


def held_out(pairs: Pairs, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Whether each pair belongs to the held-out block, about `fraction` of the queries."""
    if not 0 < fraction < 1:
        raise ConfigError(f"found a held-out fraction of {fraction}; expected 0 < fraction < 1")
    places = query_positions(list(pairs.queries.texts), seed, "held-out")
    return (places < fraction)[pairs.query_rows]


@dataclass(frozen=True, eq=False)
class OfficialSplit:
    """The dataset's own split, without the training rows that would tell of the test."""

    train: NDArray[np.int64]  # row numbers
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]  # training rows whose query is also tested


def official_split(judgements: Judgements) -> OfficialSplit:
    """The split column respected; a query that stands on both sides keeps its test rows only.

    The official large version has such a query ("piano", 79706: 31 test and 3 training rows).
    A query counts as the same by its id or by its folded text, also across locales.
    """
    is_test = judgements.splits == TEST
    texts = judgements.pairs.queries.text_codes()[judgements.pairs.query_rows]
    tested = np.isin(texts, texts[is_test]) | np.isin(
        judgements.query_ids, judgements.query_ids[is_test]
    )
    is_train = judgements.splits == TRAIN
    return OfficialSplit(
        train=np.flatnonzero(is_train & ~tested),
        test=np.flatnonzero(is_test),
        dropped=np.flatnonzero(is_train & tested),
    )


def require_rows(rows: NDArray[np.int64], what: str) -> None:
    """Refuse an empty side: a metric over nothing would look like a result."""
    if not len(rows):
        raise DataError(
            f"found no {what} judgements; expected at least one: check the column `split`, "
            "or the filters given"
        )

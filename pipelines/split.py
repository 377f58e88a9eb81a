"""Which judgements may teach and which must judge: always by query text, never by row.

Places of queries and folds are those of `models.folds`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, DataError
from models.folds import query_positions
from models.pairs import Pairs
from pipelines.dataset.read import TEST, TRAIN, Judgements


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

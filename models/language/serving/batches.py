"""Texts through a network in batches, and their rows back in the order asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.language.reading.sequences import Batch, Sequences, padded, token_batches
from models.language.serving.engines import Session

Run: TypeAlias = Callable[[Sequences], NDArray[np.float32]]
"""Texts in, a row per text out, shape (texts, width)."""

_MOST_TEXTS: Final = 256  # of a batch, however short they are
_BATCHES_OF_A_WORKER: Final = 2
_FEWEST_TOKENS: Final = 128  # of a batch that could have more: each has its start to pay

_SPLIT: Final = 8  # tokens that are summed side by side


def plan(texts: Sequences, batch_tokens: int, workers: int) -> list[NDArray[np.int64]]:
    """Rows of batches of texts of similar length, longest first.

    Batches of few texts are smaller than `batch_tokens`: workers end at about the same time where
    each has more than one, and there is less to pad.
    """
    lengths = texts.lengths()
    share = -(-int(lengths.sum()) // (_BATCHES_OF_A_WORKER * workers))
    tokens = min(batch_tokens, max(share, _FEWEST_TOKENS))
    return list(token_batches(lengths, tokens, _MOST_TEXTS))


def run_batches(
    session: Session, texts: Sequences, *, width: int, pad_id: int, batch_tokens: int
) -> NDArray[np.float32]:
    """A row per text, one batch after the other."""
    return run_plan(session, texts, plan(texts, batch_tokens, 1), width=width, pad_id=pad_id)


def run_plan(
    session: Session,
    texts: Sequences,
    batches: list[NDArray[np.int64]],
    *,
    width: int,
    pad_id: int,
    workers: int = 1,
    alike_up_to: int = 0,
) -> NDArray[np.float32]:
    """A row per text; each of `batches` is padded to the longest of its texts only.

    With `alike_up_to`, the most tokens of any text, a text gives one row to the bit whatever it is
    batched with: sums are then split alike. For that lengths are padded to a multiple of 8, and a
    text alone is run twice, for its products of matrices would be those of vectors.
    """
    rows = np.empty((len(texts), width), np.float32)

    def answer(batch: NDArray[np.int64]) -> None:
        if not alike_up_to:
            rows[batch] = session(padded(texts, batch, pad_id))
            return
        two = np.repeat(batch, 2) if len(batch) == 1 else batch
        together = _widened(padded(texts, two, pad_id), alike_up_to, pad_id)
        rows[batch] = session(together)[: len(batch)]

    if workers == 1 or len(batches) == 1:
        for batch in batches:
            answer(batch)
    else:
        for _ in _pool(workers).map(answer, batches):
            pass
    return rows


def _widened(batch: Batch, most: int, pad_id: int) -> Batch:
    """`batch` padded to a multiple of _SPLIT tokens, or to `most`, where positions may end."""
    length = batch.ids.shape[1]
    more = max(min(-(-length // _SPLIT) * _SPLIT, most) - length, 0)

    def wider(array: NDArray[np.int64], filling: int) -> NDArray[np.int64]:
        return np.pad(array, ((0, 0), (0, more)), constant_values=filling)

    return Batch(wider(batch.ids, pad_id), wider(batch.mask, 0), wider(batch.segments, 0))


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """One pool of a process for all its networks, so that they do not fight over the cores."""
    return ThreadPoolExecutor(workers, "language")

"""Texts through a network in batches, and their rows back in the order asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.language.reading.sequences import Sequences, padded, token_batches
from models.language.serving.engines import Session

Run: TypeAlias = Callable[[Sequences], NDArray[np.float32]]
"""Texts in, a row per text out, shape (texts, width)."""

_MOST_TEXTS: Final = 256  # of a batch, however short they are


def plan(texts: Sequences, batch_tokens: int, workers: int) -> list[NDArray[np.int64]]:
    """Rows of batches of texts of similar length, longest first.

    Where one worker would have all the work, batches are smaller than `batch_tokens`.
    """
    lengths = texts.lengths()
    share = -(-int(lengths.sum()) // workers)
    return list(token_batches(lengths, min(batch_tokens, max(share, 1)), _MOST_TEXTS))


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
) -> NDArray[np.float32]:
    """A row per text; each of `batches` is padded to the longest of its texts only."""
    rows = np.empty((len(texts), width), np.float32)

    def answer(batch: NDArray[np.int64]) -> None:
        rows[batch] = session(padded(texts, batch, pad_id))

    if workers == 1 or len(batches) == 1:
        for batch in batches:
            answer(batch)
    else:
        for _ in _pool(workers).map(answer, batches):
            pass
    return rows


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """One pool of a process for all its networks, so that they do not fight over the cores."""
    return ThreadPoolExecutor(workers, "language")

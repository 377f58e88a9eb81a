"""Rows that a rounded network leaves in doubt, and the exact network that is asked about them.

Rounding moves every logit a little. It changes a label only where the two largest lie close
together, which is seldom, so those few rows are what exactness is spent on.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.language.reading.sequences import Batch
from models.language.serving.engines import Session
from models.member import Logits

# Of the labels that may change, the share that the doubt is chosen for: other pairs will be asked
# than it is chosen on: docs/decisions/0009-what-answers-on-a-cpu.md.
_SAFETY: Final = 0.1


class DoubtingSession:
    """A quick network whose rows stand where their largest number leads by more than `doubt`.

    The others are answered by the exact network. A row depends on its own text alone.
    """

    def __init__(self, quick: Session, exact: Session, doubt: float) -> None:
        self._quick, self._exact, self._doubt = quick, exact, doubt

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The rows of the texts of `batch`, in their order."""
        rows = self._quick(batch)
        doubted = np.flatnonzero(leads(rows) <= self._doubt)
        if len(doubted):
            rows[doubted] = self._exact(_of(batch, doubted))
        return rows


def leads(logits: Logits) -> NDArray[np.float32]:
    """How far the largest of each row is above the second, (rows,)."""
    ordered = np.sort(logits, axis=1)
    lead: NDArray[np.float32] = ordered[:, -1] - ordered[:, -2]
    return lead


def smallest_doubt(trained: Logits, served: Logits, flip_rate: float) -> float:
    """The smallest lead beyond which few enough labels change; 0 where none is needed.

    That is a tenth of `flip_rate` of them, as expected from how far rounding moves leads, which is
    steadier than to count the few that did change; and no more than `flip_rate` of those counted.
    """
    rows, order = np.arange(len(served)), np.argsort(served, axis=1)
    first, second = order[:, -1], order[:, -2]
    lead = served[rows, first] - served[rows, second]
    moved = lead - (trained[rows, first] - trained[rows, second])
    # Of the nearer half, for it is moved by more than rows that nothing would turn.
    near = np.sort(moved[np.argsort(lead)[: -(-len(lead) // 2)]])
    falling = np.sort(lead)[::-1]
    changing = np.cumsum(1 - np.searchsorted(near, falling, side="right") / len(near))
    kept = int(np.searchsorted(changing, flip_rate * _SAFETY * len(lead), side="right"))
    expected = float(falling[kept]) if kept < len(falling) else 0.0
    changed = np.sort(lead[trained[rows, first] < trained.max(axis=1)])[::-1]
    allowed = int(flip_rate * len(lead))
    return max(expected, float(changed[allowed]) if len(changed) > allowed else 0.0)


def _of(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """Some texts of `batch`, padded to the longest of them only."""
    width = max(int(batch.mask[rows].sum(axis=1).max()), 1)
    parts = (batch.ids, batch.mask, batch.segments)
    return Batch(*(np.ascontiguousarray(part[rows, :width]) for part in parts))

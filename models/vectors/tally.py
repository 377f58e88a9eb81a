"""How often stored vectors spared the work, counted while many threads ask."""

from threading import Lock
from typing import NamedTuple


class Counts(NamedTuple):
    """Products that were asked for."""

    stored: int  # whose vectors were looked up
    encoded: int  # whose vectors were made


class Tally:
    """Counts that only grow."""

    def __init__(self) -> None:
        self._counts = Counts(0, 0)
        self._lock = Lock()

    def add(self, *, stored: int, encoded: int) -> None:
        """Count more of both."""
        with self._lock:
            before = self._counts
            self._counts = Counts(before.stored + stored, before.encoded + encoded)

    @property
    def counts(self) -> Counts:
        """What was counted until now."""
        return self._counts

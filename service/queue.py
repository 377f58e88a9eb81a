"""Where pairs wait for the ensemble, off the event loop: a bounded queue before a few threads."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from service.errors import BusyError

T = TypeVar("T")

# How much the latest request says about how fast pairs are answered now.
_LATEST_WEIGHT: Final = 0.2
_LONGEST_RETRY_SECONDS: Final = 30


class Timed(NamedTuple):
    """How long a piece of work waited for a thread and how long it then took."""

    queued_seconds: float
    work_seconds: float


class WorkQueue:
    """Threads that compute, and a limit on the pairs that wait for them."""

    def __init__(self, max_concurrent: int, max_queued_pairs: int) -> None:
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="ensemble")
        self._max_concurrent = max_concurrent
        self._max_queued_pairs = max_queued_pairs
        self._seconds_per_pair = 0.001  # a guess until something was measured
        self.queued_pairs = 0  # accepted and not yet answered

    async def run(self, n_pairs: int, work: Callable[[], T]) -> tuple[T, Timed]:
        """What `work` on `n_pairs` returns, computed in a thread; refuses when too many wait."""
        if self.queued_pairs and self.queued_pairs + n_pairs > self._max_queued_pairs:
            raise BusyError(
                f"{self.queued_pairs} pairs are waiting to be answered and the queue takes "
                f"{self._max_queued_pairs}; come again after the seconds in Retry-After",
                self._retry_after_seconds(),
            )
        accepted = time.perf_counter()

        def timed() -> tuple[T, float, float]:
            started = time.perf_counter()
            return work(), started, time.perf_counter()

        self.queued_pairs += n_pairs
        # Not a plain `finally`: work whose request was given up still occupies its thread.
        future = asyncio.get_running_loop().run_in_executor(self._threads, timed)
        future.add_done_callback(lambda _: self._answered(n_pairs))
        result, started, ended = await asyncio.shield(future)
        pace = (ended - started) / max(n_pairs, 1)
        self._seconds_per_pair += _LATEST_WEIGHT * (pace - self._seconds_per_pair)
        return result, Timed(started - accepted, ended - started)

    def close(self) -> None:
        """Finish what was begun, and drop what nobody waits for."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _answered(self, n_pairs: int) -> None:
        self.queued_pairs -= n_pairs

    def _retry_after_seconds(self) -> int:
        seconds = self.queued_pairs * self._seconds_per_pair / self._max_concurrent
        return min(max(1, math.ceil(seconds)), _LONGEST_RETRY_SECONDS)

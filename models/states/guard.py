"""Asks a store that may fail, so that who asks never waits for long and never sees an error."""

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from models.breaker import Breaker
from models.states.protocol import StoreHealth

log = logging.getLogger(__name__)

T = TypeVar("T")


class Guard:
    """Counts what fails, and leaves a store alone that keeps failing; for many threads."""

    def __init__(
        self,
        store: str,
        where: str,
        failures: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._where = where
        self._failures = failures
        self._breaker = Breaker(clock)
        self._troubles = 0
        self._lock = Lock()

    def ask(self, work: Callable[[], T], otherwise: T) -> T:
        """What `work` gives; `otherwise` where it fails, or is not tried for now."""
        with self._lock:
            if not self._breaker.lets_pass():
                return otherwise
        try:
            answer = work()
        except self._failures as error:
            with self._lock:
                was_closed = self._breaker.closed
                self._breaker.failed()
                self._troubles += 1
            if was_closed:
                kind = type(error).__name__
                log.warning("the product states in %s failed: %s: %s", self._where, kind, error)
            return otherwise
        with self._lock:
            was_open = not self._breaker.closed
            self._breaker.succeeded()
        if was_open:
            log.warning("the product states in %s answer again", self._where)
        return answer

    def health(self) -> StoreHealth:
        """Unwell while the store is left alone."""
        with self._lock:
            return StoreHealth(self._store, self._breaker.closed, self._troubles)

"""When to leave a store alone that keeps failing, and when to try it again."""

import time
from collections.abc import Callable
from typing import Final


class Breaker:
    """Stops asking a store that keeps failing, and tries again with one request now and then.

    Without it every request would wait for the timeout, for as long as the store is away.
    """

    FAILURES: Final = 3  # in a row, before nothing more is asked
    FIRST_PAUSE_SECONDS: Final = 0.5  # doubles with each failed trial
    LONGEST_PAUSE_SECONDS: Final = 15.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._asked_again_at = 0.0

    @property
    def closed(self) -> bool:
        """Whether requests pass freely."""
        return self._failures < self.FAILURES

    def lets_pass(self) -> bool:
        """Whether to ask now; while open, says yes to one trial per pause."""
        if self.closed:
            return True
        now = self._clock()
        if now < self._asked_again_at:
            return False
        self._asked_again_at = now + self._pause()  # whoever comes during the trial does not ask
        return True

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0

    def failed(self) -> None:
        """The store did not answer, or with an error."""
        self._failures += 1
        self._asked_again_at = self._clock() + self._pause()

    def _pause(self) -> float:
        trials = min(max(self._failures - self.FAILURES, 0), 10)
        return min(self.FIRST_PAUSE_SECONDS * 2.0**trials, self.LONGEST_PAUSE_SECONDS)

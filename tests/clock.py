"""A clock that a test moves."""


class Clock:
    """Stands still unless `now` is changed."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

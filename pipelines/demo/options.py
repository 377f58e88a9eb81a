"""What may be asked of a demo catalogue, and the random streams that everything is drawn from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.errors import ConfigError

# Fixed, so that what is generated cannot depend on how it is chunked.
CHUNK_PRODUCTS: Final = 16_384
CHUNK_QUERIES: Final = 2_048

# What identifiers and row numbers have room for.
MAX_PRODUCTS: Final = 100_000_000

_STAGES: Final = (
    "plan", "catalogue", "meanings", "queries", "volumes", "retrieval", "judgements",
    "log", "links",
)  # fmt: skip

# Products are written, then the queries over them, then their links; a query costs about as much
# as five products.
_PRODUCTS_PER_QUERY: Final = 6


@dataclass(frozen=True)
class DemoOptions:
    """A demo catalogue is these options and nothing else: equal options, equal tables."""

    products: int = 5000
    seed: int = 7
    queries: int | None = None  # judged queries; one per six products when None
    unjudged_share: float = 0.2  # further queries that only the log knows, relative to the judged
    label_noise: float = 0.04  # share of judgements where the annotator errs
    typo_share: float = 0.08
    new_share: float = 0.09  # products too new to have been shown to anyone

    def __post_init__(self) -> None:
        if not 1 <= self.products <= MAX_PRODUCTS:
            raise ConfigError(
                f"{self.products:,} products asked for; expected 1 to {MAX_PRODUCTS:,}"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; expected a whole number from 0 to 2**63 - 1")
        if self.queries is not None and self.queries < 1:
            raise ConfigError(f"{self.queries} queries asked for; expected at least 1, or none")
        for name in ("unjudged_share", "label_noise", "typo_share", "new_share"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ConfigError(f"{name} is {share}; expected a share between 0 and 1")

    def judged_queries(self) -> int:
        """Queries to judge; fewer are made when a tiny catalogue has no more to ask for."""
        return self.queries or max(1, self.products // _PRODUCTS_PER_QUERY)

    def logged_queries(self) -> int:
        """Queries of the log: the judged ones and those nobody judged."""
        return self.judged_queries() + round(self.judged_queries() * self.unjudged_share)

    def steps(self) -> int:
        """Units of work `generate` reports to its tick at most."""
        return 2 * self.products + self.logged_queries()


def stream(seed: int, stage: str, number: int = 0) -> np.random.Generator:
    """The random numbers of one chunk of one stage, whatever was drawn elsewhere."""
    key = (_STAGES.index(stage), number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def chunks(rows: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Number, first row and end row of each chunk."""
    for number, first in enumerate(range(0, rows, size)):
        yield number, first, min(first + size, rows)

"""What a network is exported to, how far the export may stray, and how it is run."""

from dataclasses import dataclass
from typing import Final, Literal

from models.errors import ConfigError
from models.typed import STRICT, require_finite

Variant = Literal["fp32", "int8"]
VARIANTS: Final[tuple[Variant, ...]] = ("fp32", "int8")

EXACT: Final[Variant] = "fp32"
INT8: Final[Variant] = "int8"

_LIMITS: Final = (
    "exact_difference",
    "exact_flip_rate",
    "largest_difference",
    "flip_rate",
    "doubted",
)


@dataclass(frozen=True)
class ServingOptions:
    """Variants to export, the limits of their gates, and how batches are cut."""

    __pydantic_config__ = STRICT

    variants: tuple[Variant, ...] = VARIANTS  # fp32 is always written: others are made from it
    # fp32 against the trained network: what another order of adding floats explains.
    exact_difference: float = 1e-3
    exact_flip_rate: float = 0.001
    # int8 against the trained network. The flips are what a user sees; the difference bounds how
    # far a pair's answer moves between requests that different variants answer.
    largest_difference: float = 0.5
    flip_rate: float = 0.005
    # The share of pairs that int8 may leave to fp32 to keep `flip_rate`, those whose labels lie so
    # close together that rounding decides. A network that doubts more is not worth its file.
    doubted: float = 0.1
    # Shares of the matrix products, the lowest in the network, that int8 leaves in floats. They
    # are tried in turn until one passes on half of the held-out pairs, and the other half judges
    # that one: what is lost low in the network grows above.
    spared: tuple[float, ...] = (0.0, 0.25, 0.5)
    # What answers where no request waits: out-of-fold logits, probes, the judge. A choice between
    # variants by time would have them depend on the machine and on what else it did that minute.
    # A variant that its gate left out gives way to fp32.
    offline: Variant = EXACT
    # Padded tokens of a batch. A larger one leaves the cache and pads more, a much smaller one
    # pays for its start.
    batch_tokens: int = 256
    # Texts of the requests that the choice between variants is measured on.
    shapes: tuple[int, ...] = (1, 16, 40, 128)
    measure_seconds: float = 1.0  # per variant and shape
    threads: int = 0  # of the measurement; 0: as many as there are cores to run on

    def __post_init__(self) -> None:
        require_finite(self)
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise ConfigError(f"variants {list(self.variants)}: expected some, each once")
        if self.offline != EXACT and self.offline not in self.variants:
            raise ConfigError(
                f"offline {self.offline!r}: expected {EXACT!r} or one of variants "
                f"{list(self.variants)}"
            )
        for name in _LIMITS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} {getattr(self, name)}: expected a number of 0 or more")
        if not self.spared or not all(0 <= share < 1 for share in self.spared):
            raise ConfigError(f"spared {list(self.spared)}: expected shares from 0 to below 1")
        if self.batch_tokens < 1:
            raise ConfigError(f"batch_tokens {self.batch_tokens}: expected at least 1")
        if not self.shapes or min(self.shapes) < 1 or sorted(set(self.shapes)) != [*self.shapes]:
            raise ConfigError(f"shapes {list(self.shapes)}: expected rising numbers from 1 on")
        if self.measure_seconds < 0 or self.threads < 0:
            raise ConfigError("measure_seconds and threads: expected 0 or more")

"""What shapes the vectors of a bi-encoder besides its labels; plain numbers, no torch."""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.labels import LABELS, Label
from models.typed import STRICT, require_finite

MetricLoss = Literal["none", "contrastive", "multi_similarity", "smooth_ap", "arcface", "info_nce"]

# Losses that count a pair as positive or negative and know nothing between.
_WHOLE_GAINS: Final = ("multi_similarity",)
# Whose losses are not written here, and the module that has them.
_THEIRS: Final = ("contrastive", "multi_similarity")
_THEIR_MODULE: Final = "pytorch_metric_learning"


@dataclass(frozen=True)
class TcmOptions:
    """The threshold-consistent margin term (Zhang et al., ICLR 2024); the paper's defaults.

    The margins are cosines and are meant to be tuned: they say between which similarities one
    threshold is to serve every query.
    """

    __pydantic_config__ = STRICT

    weight: float = 0.0  # of the whole term in the loss; 0 leaves it out
    positive_margin: float = 0.9  # m+: positives at or below it are pulled up
    negative_margin: float = 0.5  # m-: negatives at or above it are pushed down
    positive_weight: float = 1.0  # lambda+
    negative_weight: float = 1.0  # lambda-
    # The term is a mean over violators alone, so the last one left, often a wrong label, would
    # take the full weight. With fewer violators than this a side shrinks in proportion.
    fewest_violators: int = 1

    def __post_init__(self) -> None:
        require_finite(self)
        if min(self.weight, self.positive_weight, self.negative_weight) < 0:
            raise ConfigError("weights of the TCM term: expected 0 or more each")
        if not -1 <= self.negative_margin < self.positive_margin <= 1:
            raise ConfigError(
                f"TCM margins are {self.negative_margin:g} for negatives and "
                f"{self.positive_margin:g} for positives; expected two cosines, the first lower"
            )
        if self.fewest_violators < 1:
            raise ConfigError(f"fewest_violators is {self.fewest_violators}; expected 1 or more")


@dataclass(frozen=True)
class MetricOptions:
    """The loss on similarities of queries and products.

    A gain above 0 makes pairs of that label attract, below 0 repel, 0 neither; its size is what
    such a pair weighs. Products of other queries in the batch repel with a gain of -1.
    """

    __pydantic_config__ = STRICT

    loss: MetricLoss = "none"
    weight: float = 0.5  # of `loss` beside the classification loss
    gain_exact: float = 1.0
    gain_substitute: float = 0.0
    gain_complement: float = 0.0
    gain_irrelevant: float = -1.0
    in_batch: bool = True  # products that others in the batch were judged with are negatives
    products_per_query: int = 4  # pairs of one query that stay together in a batch, where it has so
    temperature: float = 0.05  # info_nce; smooth_ap divides it by 5, being a sigmoid's
    angle: float = 11.5  # arcface: degrees added between a product and its query (0.2 radians)
    positive_margin: float = 1.0  # contrastive: similarities below it are pulled up
    negative_margin: float = 0.5  # contrastive: similarities above it are pushed down
    tcm: TcmOptions = field(default_factory=TcmOptions)

    def __post_init__(self) -> None:
        require_finite(self)
        gains = self.gains()
        if np.abs(gains).max() > 1:
            raise ConfigError(f"gains are {gains.tolist()}; expected -1 to 1 each")
        if self.is_on and not (gains > 0).any():
            raise ConfigError("no label has a gain above 0; a metric loss needs pairs that attract")
        if self.loss in _WHOLE_GAINS and (np.abs(gains) % 1).any():
            raise ConfigError(
                f"{self.loss} knows no gains between: found {gains.tolist()}, expected -1, 0 or 1"
            )
        if self.weight < 0 or self.temperature <= 0:
            raise ConfigError(
                f"metric weight {self.weight:g} and temperature {self.temperature:g}; expected "
                "0 or more, and more than 0"
            )
        if not 0 <= self.angle < 90:
            raise ConfigError(f"angle is {self.angle:g} degrees; expected 0 to less than 90")
        if self.products_per_query < 1:
            raise ConfigError(
                f"products_per_query is {self.products_per_query}; expected 1 or more"
            )

    @property
    def is_on(self) -> bool:
        """Whether similarities take part in the loss at all."""
        return (self.loss != "none" and self.weight > 0) or self.tcm.weight > 0

    def modules(self) -> tuple[str, ...]:
        """What has to be installed for the loss, besides torch."""
        return (_THEIR_MODULE,) if self.loss in _THEIRS and self.weight > 0 else ()

    def gains(self) -> NDArray[np.float32]:
        """The gain of each label, in the order of LABELS."""
        by_label: dict[Label, float] = {
            "E": self.gain_exact,
            "S": self.gain_substitute,
            "C": self.gain_complement,
            "I": self.gain_irrelevant,
        }
        return np.array([by_label[label] for label in LABELS], np.float32)

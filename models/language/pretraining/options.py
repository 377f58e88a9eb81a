"""What pre-training asks of a backbone; needs no torch."""

from dataclasses import dataclass
from typing import Literal

from models.errors import ConfigError
from models.typed import STRICT, require_finite

Objective = Literal["mlm", "contrastive"]


@dataclass(frozen=True)
class MaskingOptions:
    """Which tokens a masked-language model has to guess."""

    __pydantic_config__ = STRICT

    share: float = 0.15  # of the words, drawn anew each time a text is seen; at least one of each
    whole_words: bool = True  # all pieces of a word or none: one piece tells the others
    # Of the tokens to guess: those shown as the mask, and those shown as any other token. The rest
    # is shown as it is, for texts to be answered later have no masks in them.
    masked: float = 0.8
    replaced: float = 0.1

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.share < 1:
            raise ConfigError(f"share {self.share}: expected above 0 and below 1")
        if min(self.masked, self.replaced) < 0 or self.masked + self.replaced > 1:
            raise ConfigError(
                f"masked {self.masked} and replaced {self.replaced}: expected shares that sum to "
                "at most 1"
            )


@dataclass(frozen=True)
class ContrastOptions:
    """Which texts a contrastive model has to bring together."""

    __pydantic_config__ = STRICT

    # fields: a product's title with its other fields; dropout: every text with itself under
    # another dropout, which is also what a text gets that has no second view.
    views: Literal["fields", "dropout"] = "fields"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        require_finite(self)
        if self.temperature <= 0:
            raise ConfigError(f"temperature {self.temperature}: expected a number above 0")

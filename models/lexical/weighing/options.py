"""Hyperparameters of the lexical member."""

from dataclasses import dataclass

from models.errors import ConfigError
from models.typed import STRICT
from models.weights import ClassWeight, check_class_weight


@dataclass(frozen=True)
class LexicalOptions:
    """What validation may choose from, and what it may not."""

    __pydantic_config__ = STRICT

    penalties: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # strong is cautious
    cross_penalties: tuple[float, ...] = (10.0, 30.0, 100.0)  # empty leaves indicators out
    cross_queries: int = 3  # an indicator of fewer training queries is not learnt
    knots: int = 6  # corners of a feature's curve; 2 make a straight line
    bend_penalty: float = 10.0  # times the penalty, for what bends a line
    locale_penalty: float = 10.0  # times the penalty, for what a locale has of its own
    class_weight: ClassWeight = "none"  # "none" keeps probabilities honest
    list_weight: float = 0.5  # 0 weighs all pairs alike, 1 all queries
    seed: int = 0  # nothing is drawn at random; every kind takes one

    def __post_init__(self) -> None:
        check_class_weight(self.class_weight)
        strengths = (*self.penalties, *self.cross_penalties)
        if not self.penalties or min(strengths) <= 0:
            raise ConfigError(
                f"penalties {self.penalties} and cross_penalties {self.cross_penalties}: expected "
                "numbers above zero, and at least one in penalties"
            )
        if self.knots < 2 or self.cross_queries < 1:
            raise ConfigError(
                f"knots {self.knots} and cross_queries {self.cross_queries}: expected at least 2 "
                "and at least 1"
            )

"""Which judgements of a dataset teach, which choose and which judge."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.config import TrainConfig
from pipelines.dataset.read import Judgements
from pipelines.split import held_out, official_split, require_rows


@dataclass(frozen=True, eq=False)
class Sides:
    """Row numbers of a dataset's judgements by what a run does with them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]


def sides(judgements: Judgements, config: TrainConfig) -> Sides:
    """The official split, with the validation queries taken out of its training side."""
    official = official_split(judgements)
    require_rows(official.train, "training")
    is_held = held_out(judgements.pairs.take(official.train), config.validation, config.seed)
    train, validation = official.train[~is_held], official.train[is_held]
    require_rows(train, "training")
    require_rows(validation, "validation")
    return Sides(train, validation, official.test, official.dropped)

"""How much a labelled pair weighs in a loss."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.labels import LABELS, Codes

ClassWeight: TypeAlias = Literal["none", "sqrt", "balanced"] | float
"""How far rare labels are weighed up: the power of their rarity, which some words stand for."""

_POWERS: Final[Mapping[str, float]] = MappingProxyType({"none": 0.0, "sqrt": 0.5, "balanced": 1.0})


def check_class_weight(class_weight: ClassWeight) -> None:
    """Refuse a power outside of 0, where no label is weighed up, and 1, where all weigh alike."""
    if not isinstance(class_weight, str) and not 0 <= class_weight <= 1:
        raise ConfigError(
            f"class_weight {class_weight}: expected 0 to 1, or one of {', '.join(_POWERS)}"
        )


def class_weights(labels: Codes, class_weight: ClassWeight) -> NDArray[np.float64]:
    """The weight of each label, shape (4,), by how rare it is among `labels`."""
    counts = np.maximum(np.bincount(labels, minlength=len(LABELS)), 1)
    power = _POWERS[class_weight] if isinstance(class_weight, str) else class_weight
    return np.asarray((max(len(labels), 1) / counts) ** power, dtype=np.float64)


def pair_weights(
    labels: Codes, queries: NDArray[Any], class_weight: ClassWeight, list_weight: float
) -> NDArray[np.float64]:
    """The weight of each pair in the loss, by the rarity of its label and its query's other pairs.

    What a hundred judgements of one query say is mostly that query's: a pair counts as its list's
    length to the power -list_weight.
    """
    rarity = class_weights(labels, class_weight)
    lengths = np.bincount(queries)[queries].astype(np.float64)
    return np.asarray(rarity[labels] * lengths**-list_weight, dtype=np.float64)

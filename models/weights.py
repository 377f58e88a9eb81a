"""How much a labelled pair weighs in a loss."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.labels import LABELS, Codes


def pair_weights(
    labels: Codes, queries: NDArray[Any], class_weight: str, list_weight: float
) -> NDArray[np.float64]:
    """The weight of each pair in the loss, by the rarity of its label and its query's other pairs.

    What a hundred judgements of one query say is mostly that query's: a pair counts as its list's
    length to the power -list_weight.
    """
    counts = np.maximum(np.bincount(labels, minlength=len(LABELS)), 1)
    rarity = (len(labels) / counts) ** {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[class_weight]
    lengths = np.bincount(queries)[queries].astype(np.float64)
    return np.asarray(rarity[labels] * lengths**-list_weight, dtype=np.float64)

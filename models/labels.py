"""The four labels, their order, and the named gain tables that turn labels into ranking gains."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Label = Literal["E", "S", "C", "I"]

# The order of every column of logits and probabilities, best answer first. It is stored beside
# whatever is saved and compared on load.
LABELS: Final[tuple[Label, ...]] = ("E", "S", "C", "I")
LABEL_NAMES: Final[Mapping[Label, str]] = MappingProxyType(
    {"E": "Exact", "S": "Substitute", "C": "Complement", "I": "Irrelevant"}
)
EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = range(4)

Codes = NDArray[np.int8]
"""Label codes, shape (pairs,): positions in LABELS."""

# The official training script and the official evaluation script disagree: the second swaps
# Substitute and Complement (reference/esci.md §5.1). The name is printed beside every nDCG.
GAIN_TABLES: Final[Mapping[str, Mapping[Label, float]]] = MappingProxyType(
    {
        "esci-paper": MappingProxyType({"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}),
        "esci-trec-script": MappingProxyType({"E": 1.0, "S": 0.01, "C": 0.1, "I": 0.0}),
    }
)
DEFAULT_GAINS: Final = "esci-paper"


def encode_labels(labels: Sequence[str]) -> Codes:
    """Codes of `labels`; an unknown label is an error that names its row."""
    code_of: dict[str, int] = {label: code for code, label in enumerate(LABELS)}
    codes = np.fromiter((code_of.get(label, -1) for label in labels), np.int8, len(labels))
    if (unknown := np.flatnonzero(codes < 0)).size:
        row = int(unknown[0])
        raise DataError(
            f"row {row} has label {labels[row]!r}; expected one of {', '.join(LABELS)}; "
            "map your own words to these letters when importing"
        )
    return codes


def gains(name: str) -> NDArray[np.float64]:
    """Gains of the named table in the order of LABELS, shape (4,)."""
    if name not in GAIN_TABLES:
        raise DataError(f"no gain table {name!r}; known tables: {', '.join(GAIN_TABLES)}")
    return np.array([GAIN_TABLES[name][label] for label in LABELS])

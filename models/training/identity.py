"""What decides the weights of a training, so that one that was begun is known again.

Needs no torch.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from models.pairs import LabelledPairs
from models.sealed import pairs_sha256

# How the trained weights come here and how they are served: another of these takes no training.
_OF_MEMBER: Final = frozenset({"allow_download", "serving", "vectors", "product_variant"})
# What a training takes of the machine.
_OF_TRAINING: Final = frozenset({"checkpoint_seconds", "cache_megabytes"})


def deciding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Plain options of a member, given in full or in part, less what cannot change its weights."""
    found = {name: value for name, value in options.items() if name not in _OF_MEMBER}
    if isinstance(training := found.get("training"), Mapping):
        found["training"] = deciding_training(training)
    return found


def deciding_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Plain `TrainingOptions`, in full or in part, less what cannot change the weights."""
    return {name: value for name, value in training.items() if name not in _OF_TRAINING}


def training_identity(
    kind: str,
    format_number: int,
    options: Mapping[str, Any],
    backbone_sha256: str,
    train: LabelledPairs,
    valid: LabelledPairs,
) -> str:
    """A digest of all that decides a member's weights; `options` are plain and resolved.

    A fit whose export was refused goes on from its finished training when only `serving` differs.
    """
    decides = [kind, format_number, deciding_options(options), backbone_sha256]
    decides += [pairs_sha256(train), pairs_sha256(valid)]
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

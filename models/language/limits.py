"""What a backbone cannot be asked for: told by its configuration beforehand, by itself in a fit."""

from collections.abc import Mapping
from typing import Any, Final

from models.errors import ConfigError
from models.language.presets import PairPooling, Preset, is_decoder

_POSITIONS: Final = "max_position_embeddings"
_LAYERS: Final = "num_hidden_layers"
_GROUPS: Final = "num_hidden_groups"  # ALBERT's: layers of a group are one

NO_LIST: Final = "it keeps no list of all its layers, as where they share weights"
"""Why a model cannot be cut between layers that are fewer than it runs."""


def refuse_by_config(
    name: str,
    config: Mapping[str, Any],
    preset: Preset,
    *,
    max_tokens: int | None,
    pooling: PairPooling | None,
    trained_layers: int | None,
) -> None:
    """Refuse what config.json and preset of the backbone called `name` tell to be impossible.

    A fit may find more: what only running the network shows is not looked for here.
    """
    if max_tokens is not None:
        refuse_long(name, max_tokens, _count(config, _POSITIONS), preset)
    layers = _count(config, _LAYERS)
    groups = _count(config, _GROUPS)
    if trained_layers and layers is not None and groups is not None and groups < layers:
        refuse_whole(str(config.get("model_type")), NO_LIST)
    if trained_layers is not None and layers is not None:
        refuse_layers(trained_layers, layers)
    refuse_unseeing(name, pooling or preset.pooling, reads_forward=is_decoder(config))


def refuse_long(name: str, max_tokens: int, positions: int | None, preset: Preset) -> None:
    """Refuse texts that are too long for the backbone called `name`."""
    limits = {"it has positions for": positions, "it was trained for": preset.max_tokens}
    known = {said: most for said, most in limits.items() if most is not None}
    if known and max_tokens > min(known.values()):
        raise ConfigError(
            f"max_tokens {max_tokens} for backbone {name!r}: "
            f"{', '.join(f'{said} {most}' for said, most in known.items())}; expected at most "
            f"{min(known.values())}"
        )


def refuse_layers(trained_layers: int, layers: int) -> None:
    """Refuse to train more layers than there are."""
    if trained_layers > layers:
        raise ConfigError(
            f"trained_layers {trained_layers} of a backbone that has {layers}; expected at "
            "most as many, or none given to train all of it with its embeddings"
        )


def refuse_whole(architecture: str, why: str) -> None:
    """Refuse to cut a model of `architecture` between layers; `why` it cannot be, "" where it can.

    Names no backbone: a model is asked that knows none.
    """
    if why:
        raise ConfigError(
            f"a backbone of architecture {architecture!r} cannot be cut between layers: {why}; "
            "expected no trained_layers, to train all of it, or trained_layers 0, to train none "
            "of it"
        )


def refuse_keeping(name: str, architecture: str, *, can_recompute: bool) -> None:
    """Refuse checkpointing where the library cannot compute activations again."""
    if not can_recompute:
        raise ConfigError(
            f"checkpointing with backbone {name!r}: a model of architecture {architecture!r} has "
            "to keep its activations; expected no checkpointing, and a smaller batch_size with "
            "accumulation where memory is short"
        )


def refuse_joined(name: str, *, embeds_segments: bool) -> None:
    """Refuse to compare the two texts of a pair that a tokenizer puts into one segment.

    A model without segments may be told any: it never sees them.
    """
    if embeds_segments:
        raise ConfigError(
            f"pooling compared for backbone {name!r}: its tokenizer gives the second text of a "
            "pair another segment than 1, by which query and product are told apart, and the model "
            "would read the change; expected a tokenizer whose template has segment 1 there, or "
            "the pooling cls or mean"
        )


def refuse_unseeing(name: str, pooling: PairPooling, *, reads_forward: bool) -> None:
    """Refuse a pooling that would see nothing of a text."""
    if pooling == "cls" and reads_forward:
        raise ConfigError(
            f"pooling cls for backbone {name!r}, which reads from left to right, so that its "
            "first token sees nothing of a text; expected last, or mean"
        )


def _count(config: Mapping[str, Any], key: str) -> int | None:
    found = config.get(key)
    return found if isinstance(found, int) and found >= 1 else None

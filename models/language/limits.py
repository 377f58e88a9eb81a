"""What a backbone cannot be asked for: told by its configuration beforehand, by itself in a fit."""

from collections.abc import Mapping
from typing import Any, Final

from models.errors import ConfigError
from models.language.presets import PairPooling, Preset, is_decoder

_POSITIONS: Final = "max_position_embeddings"
_LAYERS: Final = "num_hidden_layers"


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

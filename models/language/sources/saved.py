"""What a folder says of how its states are pooled: `encoder.json` of ours, or somebody else's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from models.errors import ReleaseError
from models.files import read_json
from models.language.presets import PairPooling, Pooling, Preset, default_preset
from models.language.sources.folder import CONFIG_FILE, ENCODER_FILE, POOLING_FILE, read_object
from models.typed import STRICT, complaints, parse

ENCODER_FORMAT: Final = 2


@dataclass(frozen=True)
class SavedEncoder:
    """What `encoder.json` says of a folder of ours beside the transformer's own files."""

    __pydantic_config__ = STRICT

    format: int
    pooling: PairPooling
    preset: Preset | None = None  # of the backbone it came from, if one was known


def read_saved_encoder(folder: Path) -> SavedEncoder:
    """What `encoder.json` in `folder` says, checked to be of this format."""
    path = folder / ENCODER_FILE
    try:
        found = read_json(path)
        written = found.get("format") if isinstance(found, dict) else None
        if written != ENCODER_FORMAT:
            raise ReleaseError(
                f"{path} is of format {written} and this code reads {ENCODER_FORMAT}; train the "
                "encoder again, or run the version that wrote it"
            )
        return parse(SavedEncoder, found)
    except ValidationError as error:
        raise ReleaseError(f"{path}: {complaints(error)}; train the encoder again") from error


def preset_of(folder: Path) -> Preset:
    """What a folder without a preset of its own is taken for, by what it says of itself."""
    preset = default_preset(read_object(folder / CONFIG_FILE))
    if (folder / ENCODER_FILE).is_file():  # one that we adapted or trained
        saved = read_saved_encoder(folder)
        preset = replace(saved.preset or preset, hub=None, sha256=None)
        # How a pair was compared is its member's choice, and means nothing for a text alone.
        return preset if saved.pooling == "compared" else replace(preset, pooling=saved.pooling)
    if (folder / POOLING_FILE).is_file():  # one of sentence-transformers
        return replace(preset, pooling=_their_pooling(folder) or preset.pooling)
    return preset


def _their_pooling(folder: Path) -> Pooling | None:
    modes = read_object(folder / POOLING_FILE)
    ways: dict[str, Pooling] = {
        "cls": "cls",
        "mean": "mean",
        "lasttoken": "last",
        # As it was written formerly, one switch for each.
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_lasttoken": "last",
    }
    named = modes.get("pooling_mode")
    chosen = [named] if isinstance(named, str) else []
    chosen += [mode for mode, value in modes.items() if value is True]
    return next((ways[mode] for mode in chosen if mode in ways), None)

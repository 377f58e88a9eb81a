"""A pretrained model's own tokenizer, in the one form that we read."""

import re
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from models.errors import MemberError, how_to_install
from models.files import atomic_folder
from models.language.presets import TokenizerFamily
from models.language.reading.reader import TOKENIZER_FILE
from models.language.sources.folder import (
    CONFIG_FILE,
    READ,
    TOKENIZER_CONFIG,
    read_object,
    vocabulary_of,
    weight_files,
)

_LEAST_VOCABULARY: Final = 0.9  # of the model's; some tables are rounded up
_TIKTOKEN: Final = re.compile(rb"[A-Za-z0-9+/]+=* \d+")
_LONGEST_LINE: Final = 4_096


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


def with_tokenizer(
    name: str, folder: Path, scratch: Path, family: TokenizerFamily | None = None
) -> Path:
    """`folder`, or one below `scratch` that links to what is read of it and has tokenizer.json.

    `family` is what the tokenizer of the backbone called `name` is known to be.
    """
    vocabulary = vocabulary_of(folder, family)
    if (folder / TOKENIZER_FILE).is_file() or vocabulary is None:
        return folder
    module = _module_for(vocabulary)
    if module is not None and find_spec(module) is None:
        raise MemberError(
            f"backbone {name!r}: its tokenizer is there as {vocabulary.name} alone, and the module "
            f"{module}, which that takes to read, is not installed; expected {TOKENIZER_FILE} in "
            f"{folder}, or the module: {_how_to_get(module)}"
        )
    # By the whole path, for many folders have the same name.
    place = sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with atomic_folder(scratch / f"backbone-{place}") as completed:
        _link_what_is_read(folder, completed)
        _converted(name, vocabulary, completed).save(str(completed / TOKENIZER_FILE))
    return scratch / f"backbone-{place}"


def _link_what_is_read(folder: Path, links: Path) -> None:
    files = {path for pattern in READ for path in folder.glob(pattern)}
    for path in sorted(files.union(weight_files(folder))):
        link = links / path.relative_to(folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path.resolve())


def _module_for(vocabulary: Path) -> str | None:
    """What is needed to read a vocabulary besides the library that converts it."""
    if vocabulary.suffix != ".model":
        return None
    # One name is used for both: lines of a token in base64 and its rank, or the binary form.
    with vocabulary.open("rb") as source:
        line = source.read(_LONGEST_LINE).partition(b"\n")[0]
    return "tiktoken" if _TIKTOKEN.fullmatch(line) else "sentencepiece"


def _how_to_get(module: str) -> str:
    # No extra of ours brings the other, for no backbone with a preset needs it.
    if module == "sentencepiece":
        return how_to_install("training")
    return f"pip install {module}"


def _converted(name: str, vocabulary: Path, links: Path) -> Tokenizer:
    """The tokenizer made from `vocabulary`, by the library that knows every way to write one."""
    expected = f"expected {TOKENIZER_FILE}, or a whole {vocabulary.name}"
    try:
        from transformers import AutoTokenizer

        from models.language.networks.loading import quiet

        # Of the links, among which is no code.
        with quiet():
            made: Tokenizer = AutoTokenizer.from_pretrained(
                links, local_files_only=True, trust_remote_code=False
            ).backend_tokenizer
    except Exception as error:  # libraries that are missing or files that are broken
        raise MemberError(
            f"backbone {name!r}: no tokenizer could be made from {vocabulary} ({error}); {expected}"
        ) from error
    # What cannot be read may come out as an empty vocabulary, and not as an error.
    known = made.get_vocab_size()
    said = read_object(links / CONFIG_FILE).get("vocab_size")
    size = said if isinstance(said, int) else 0
    if known < _LEAST_VOCABULARY * size:
        raise MemberError(
            f"backbone {name!r}: the tokenizer made from {vocabulary} has {known} tokens for a "
            f"model of {size}; {expected}"
        )
    return made


def _special_id(folder: Path, tokenizer: Tokenizer, role: str) -> int | None:
    """The id of the token in `role`, by the model's configuration or else the tokenizer's."""
    found: Any = read_object(folder / CONFIG_FILE).get(f"{role}_id")
    if isinstance(found, list):  # decoders that may end a text in several ways
        found = found[0] if found else None
    # Some write -1 for none.
    found = found if isinstance(found, int) and found >= 0 else None
    if found is None and (folder / TOKENIZER_CONFIG).is_file():
        token = read_object(folder / TOKENIZER_CONFIG).get(role)
        token = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return None if found is None else int(found)

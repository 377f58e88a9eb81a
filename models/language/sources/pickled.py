"""Pickled weights written anew as safetensors: once, where a person asks for it.

A model is never opened from a pickle. Here one is read by torch's restricted reader, which knows
tensors and refuses whatever else a pickle may call, and what it gave is written down.
"""

import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from models.errors import MemberError, missing_module
from models.files import atomic_folder, write_json
from models.language.sources.folder import (
    CONFIG_FILE,
    READ,
    SHARDS_FILE,
    WEIGHTS_FILE,
    read_object,
    refuse_incomplete,
)

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS: Final = "pytorch_model.bin"
_SHARDS: Final = "pytorch_model.bin.index.json"


def convert_pickled(folder: Path, out: Path) -> list[str]:
    """Write the model in `folder` to `out` with its weights as safetensors; returns the files.

    What is no tensor in the pickles, and so could run code, is an error, and nothing is written.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise MemberError(f"{folder} lacks {CONFIG_FILE}; expected the folder of a model")
    if (folder / WEIGHTS_FILE).is_file() or (folder / SHARDS_FILE).is_file():
        raise MemberError(f"{folder} has its weights as safetensors already; name it as backbone")
    place_of = _places(folder)
    names = {old: _renamed(old, len(place_of)) for old in place_of}
    with atomic_folder(out) as scratch:
        weight_map: dict[str, str] = {}
        size = 0
        for old, new in names.items():
            tensors = _tensors(folder / old)
            _save(tensors, scratch / new)
            weight_map |= dict.fromkeys(tensors, new)
            size += sum(tensor.nbytes for tensor in tensors.values())
        if len(names) > 1:
            write_json(
                scratch / SHARDS_FILE, {"metadata": {"total_size": size}, "weight_map": weight_map}
            )
        for pattern in READ:
            for path in folder.glob(pattern):
                copy = scratch / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        refuse_incomplete(str(folder), scratch)
        return sorted(p.relative_to(scratch).as_posix() for p in scratch.rglob("*.*"))


def _places(folder: Path) -> list[str]:
    """The files of pickled weights in `folder`."""
    if (folder / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if not (folder / _SHARDS).is_file():
        raise MemberError(f"{folder} holds neither {_WEIGHTS} nor {_SHARDS}; expected one of them")
    places = read_object(folder / _SHARDS).get("weight_map", {})
    found = sorted(set(places.values())) if isinstance(places, dict) else []
    odd = [one for one in found if not isinstance(one, str) or PurePosixPath(one).name != one]
    if not found or odd or any(not (folder / one).is_file() for one in found):
        raise MemberError(
            f"{folder / _SHARDS} names {', '.join(map(repr, odd or found)) or 'no file'}; expected "
            "files of weights, all of them in the same folder"
        )
    return found


def _renamed(name: str, count: int) -> str:
    """What the file `name` of weights is called as safetensors."""
    if count == 1:
        return WEIGHTS_FILE
    return "model" + Path(name).stem.removeprefix("pytorch_model") + ".safetensors"


def _tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors in a pickle, mapped where its form allows that."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_module(error, "training") from error

    try:
        # Files of before torch 1.6 are no archives, and cannot be mapped.
        found: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=_is_archive(path) or None
        )
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, … as the damage is
        said, *_ = str(error).splitlines() or [type(error).__name__]
        raise MemberError(
            f"{path} cannot be read as tensors alone: {said}; what it holds besides is not opened, "
            "for it could run code. Expected a state dict as torch.save writes it: take another "
            "revision of the model"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    ):
        raise MemberError(f"{path} holds no table of names and tensors; expected a state dict")
    return found


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _save(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Write tensors; those that share their memory, as tied ones do, each by itself."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        whole[name] = tensor.contiguous().clone() if storage in seen else tensor.contiguous()
        seen.add(storage)
    save_file(whole, path, {"format": "pt"})

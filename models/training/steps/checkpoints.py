"""The state of a training in one file, which is whole or not there.

Nothing is pickled: tensors as safetensors, the rest as JSON in its header.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.files import atomic_file, scratch_folder

# It rises when an older checkpoint would be understood as something else.
FORMAT: Final = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training goes on from."""

    about: Mapping[str, Any]  # plain values
    tensors: Mapping[str, Tensor]  # on the CPU


def write_checkpoint(path: Path, checkpoint: Checkpoint, identity: str) -> None:
    """Write `checkpoint` of the training `identity`; an interruption leaves the one before."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    about = json.dumps(checkpoint.about, sort_keys=True, allow_nan=False)
    header = {
        "format": str(FORMAT),
        "identity": identity,
        "about": about,
        "digest": _digest(about, tensors),
    }
    # In a folder of its own: the library writes to a file beside the one it is given, and what a
    # kill leaves of that would be found by nobody.
    with scratch_folder(path.parent, path.name) as folder:
        written = folder / path.name
        with atomic_file(written) as scratch:
            save_file(tensors, scratch, header)
        written.replace(path)


def read_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """The checkpoint at `path`, or None, with a word in the log, where there is none to believe.

    One of another identity or format, or one that is torn, costs the work it held and no more.
    """
    if not path.exists():
        return None
    try:
        return _believed(path, identity)
    except (_UnusableError, SafetensorError, OSError, KeyError, ValueError) as error:
        log.warning("training starts anew: the checkpoint %s is not used: %s", path, error)
        return None


class _UnusableError(Exception):
    """Why a checkpoint is not to be believed."""


def _believed(path: Path, identity: str) -> Checkpoint:
    with safe_open(path, "pt") as source:
        header = source.metadata() or {}
        if header.get("format") != str(FORMAT):
            raise _UnusableError(f"it has format {header.get('format')}, not {FORMAT}")
        if header.get("identity") != identity:
            raise _UnusableError("it belongs to another training")
        tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
    if header.get("digest") != _digest(header["about"], tensors):
        raise _UnusableError("its content is not what was written")
    return Checkpoint(json.loads(header["about"]), tensors)


def _digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    digest = blake2b(about.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

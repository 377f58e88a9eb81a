"""Saves and loads frozen dataclasses of arrays and postings as one npz, without pickle."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.files import atomic_file
from models.lexical.matching.postings import Postings

T = TypeVar("T")
_PARTS = ("indptr", "hashes", "payload")


def save_arrays(path: Path, value: Any) -> None:
    """Write every field of `value`, each an array or Postings."""
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(value):
        column = getattr(value, field.name)
        if isinstance(column, Postings):
            arrays |= {f"{field.name}.{part}": getattr(column, part) for part in _PARTS}
        else:
            arrays[field.name] = column
    with atomic_file(path) as scratch, scratch.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)


def load_arrays(path: Path, kind: type[T]) -> T:
    """The value of `kind` that `save_arrays` wrote."""
    # Opened here, for numpy leaves a file open that turns out not to be an archive.
    with path.open("rb") as source, np.load(source, allow_pickle=False) as arrays:
        return kind(
            **{
                name: Postings(*(arrays[f"{name}.{part}"] for part in _PARTS))
                if f"{name}.indptr" in arrays
                else arrays[name]
                for name in (field.name for field in fields(kind))  # type: ignore[arg-type]
            }
        )

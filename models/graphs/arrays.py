"""Arrays as files that are mapped: open at once, and processes share their pages."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.files import atomic_file


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write the file that `mapped` opens."""
    with atomic_file(path) as scratch, scratch.open("wb") as target:
        np.save(target, np.asarray(array), allow_pickle=False)


def mapped(path: Path, kind: str, dimensions: int = 1) -> NDArray[Any]:
    """The array saved in `path`, mapped; OSError or ValueError where that holds another."""
    array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim != dimensions or array.dtype != np.dtype(kind):
        raise ValueError(f"{path.name} holds {array.dtype} of shape {array.shape}")
    return np.asarray(array)

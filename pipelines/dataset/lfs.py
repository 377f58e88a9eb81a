"""Git LFS pointers: the few lines of text that stand for a large file in a clone without LFS."""

from pathlib import Path
from typing import Final

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def is_pointer(path: Path) -> bool:
    """Whether the file at `path` is the pointer of a file rather than the file."""
    try:
        with path.open("rb") as source:
            return source.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False

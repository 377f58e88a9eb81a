"""Versions of what may change the result of a training, our own code among it."""

import platform
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

# Whatever may change what training computes, or the form in which its result is exported.
_LIBRARIES: Final = (
    "esci-ensemble",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "torch-geometric",
    "faiss-cpu",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "pytorch-metric-learning",
    "onnx",
    "onnxscript",
    "onnxruntime",
)


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that training runs on, as far as they are there.

    `code` is ours to the byte, for between two releases of it our own version says nothing.
    """
    found = {"python": platform.python_version(), "code": code_digest()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_digest() -> str:
    """A digest of the sources of `models`, which decide what a member becomes.

    It tells a training that other code began from one to go on with, and is no reason to refuse
    what was trained: what may be read is for formats to say. As of the first call, so that a
    process that outlives an edit says one thing throughout.
    """
    return sources_digest(Path(__file__).parent)


def sources_digest(folder: Path) -> str:
    """A digest of the names and contents of all Python files below `folder`."""
    digest = sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]  # as notes print it

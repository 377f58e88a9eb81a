"""Versions of what may change the result of a training."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

# Whatever may change what training computes, or the form in which its result is exported.
_LIBRARIES: Final = (
    "esci-ensemble",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
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
    """Versions of Python and of the libraries that training runs on, as far as they are there."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

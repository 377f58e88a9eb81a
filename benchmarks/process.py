"""A measured run in a process of its own, because peak memory belongs to a process and never falls.

A benchmark calls itself with a hidden flag, prints one JSON object, and reads it back here.
"""

import json
import os
import resource
import subprocess
import sys
from typing import Any


def run_module(module: str, *words: object, **environment: str) -> dict[str, Any]:
    """What `python -m module words` printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def peak_mebibytes() -> float:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux

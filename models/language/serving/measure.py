"""How long requests take, by variant and number of texts."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.cores import read_cores
from models.language.reading.sequences import Sequences

_FEWEST, _MOST = 3, 30  # runs of one measurement
_CPUINFO: Final = Path("/proc/cpuinfo")


def milliseconds_by_shape(
    run: Callable[[Sequences], NDArray[np.float32]],
    sample: Sequences,
    shapes: tuple[int, ...],
    seconds: float,
) -> dict[int, float]:
    """The median time of requests of so many texts, drawn from `sample`; {} for no seconds.

    Every request is other texts, so that no run finds its answer warm in a cache.
    """
    if not seconds or not len(sample):
        return {}
    found = {}
    for shape in shapes:
        drawn = np.random.default_rng(shape).integers(len(sample), size=(_MOST + 1, shape))
        run(sample.take(drawn[-1]))  # opens what is not open yet
        times: list[float] = []
        while len(times) < _FEWEST or (len(times) < _MOST and sum(times) < seconds):
            texts = sample.take(drawn[len(times)])
            started = time.perf_counter()
            run(texts)
            times.append(time.perf_counter() - started)
        found[shape] = round(statistics.median(times) * 1000, 3)
    return found


def machine_name() -> str:
    """The processor as the system calls it, and how many cores we may run on."""
    model = platform.processor() or platform.machine()
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {read_cores().usable} cores"

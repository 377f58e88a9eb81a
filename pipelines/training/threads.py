"""How many threads the numerical libraries may take.

Left to themselves they take one per core of the machine, also where a container allows a fraction
of it, and threads that wait for each other cost several times what they bring.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from threadpoolctl import threadpool_limits

from models.cores import Cores, read_cores
from models.errors import ConfigError
from models.language.serving.engines import THREADS_VARIABLE as _LANGUAGE

VARIABLE: Final = "ESCI_THREADS"  # the same as the flag
_OPENMP: Final = "OMP_NUM_THREADS"

# What a library goes by that is loaded later; the last one is that of the tokenizers.
_VARIABLES: Final = (
    _OPENMP,
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


def choose_threads(
    asked: int | None,
    cores: Cores | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """The threads to use: as asked, else as OMP_NUM_THREADS says, else one per usable core.

    A core is usable that affinity and control group leave us; that others are busy on it nobody
    can know, so on a shared machine a person has to ask for less. Processes that were launched
    together divide the cores: torchrun's own OMP_NUM_THREADS of 1 is nobody's wish, and a person
    who means 1 asks for it.
    """
    if asked is not None:
        if asked < 1:
            raise ConfigError(f"found {asked} threads; expected at least 1")
        return asked
    said = environment.get("LOCAL_WORLD_SIZE", "")
    beside = int(said) if said.isdecimal() and int(said) else 1
    outermost = environment.get(_OPENMP, "").split(",")[0]
    # Torchrun sets 1 for several processes unless it is told otherwise, so there it says nothing.
    least = 1 if beside == 1 else 2
    if outermost.isdecimal() and int(outermost) >= least:
        return int(outermost)
    return max((cores or read_cores()).usable // beside, 1)


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Every numerical library keeps to `threads`: those loaded now, and those loaded within.

    So do exported language models, unless the environment says how many they may take.
    """
    # They count cores by themselves, and go by no variable of a library.
    variables = _VARIABLES if os.environ.get(_LANGUAGE) else (*_VARIABLES, _LANGUAGE)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(dict.fromkeys(variables, str(threads)))
    # Asked rather than imported: to load it takes seconds, and not every member needs it.
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        if torch:
            torch.set_num_threads(torch_before)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

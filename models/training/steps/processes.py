"""The processes that train together, as a launch has set them up; mostly one."""

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, Final, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, distributed

from models.errors import ConfigError

T = TypeVar("T")

# For as long as the first process may do by itself what the others wait for: compute activations,
# export, fit a member that cannot be shared. Gloo counts milliseconds in 32 bits, which is 24 days.
_PATIENCE: Final = timedelta(days=14)
_POLL_SECONDS: Final = 0.02


def processes() -> PartialState:
    """Which process this is, of how many, and its device.

    The first to ask decides how the processes talk, so in a launch every one of them has to.
    """
    # Accelerate's own default overlooks that a launch on processors was asked for, and where there
    # is nothing but processors it takes every process of a launch for a lonely one.
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    on_processors = parse_flag_from_env("ACCELERATE_USE_CPU")
    if launched > 1 and not torch.accelerator.is_available():
        on_processors = True
    state = PartialState(cpu=on_processors)
    if state.num_processes < launched:
        raise ConfigError(
            f"{launched} processes were launched and {state.device.type} devices cannot be shared "
            "out among them; expected CUDA devices or none: launch one process, or set "
            "ACCELERATE_USE_CPU=true to train on processors"
        )
    return state


def training_device() -> torch.device:
    """The device that training will use, for work that is done beforehand."""
    device: torch.device = processes().device
    return device


def is_first() -> bool:
    """Whether this is the process that keeps, exports and answers what all have trained."""
    first: bool = processes().is_main_process
    return first


def told_by_first(say: Callable[[], T]) -> T:
    """What `say` returns in the first process, where alone it is called, in all of them.

    The others wait as long as it takes. The value is plain: numbers, texts, lists and dictionaries.
    """
    if processes().num_processes == 1:
        return say()
    return hear() if not is_first() else tell(say())


def join() -> None:
    """Begin the talk of the processes; every one of a launch has to."""
    processes()
    _group()


def tell(value: T) -> T:
    """Tell the others, who `hear` it, and return it; for the first process alone."""
    said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    _broadcast(torch.tensor([len(said)]))
    _broadcast(said)
    return value


def hear() -> Any:
    """What the first process tells; for the others."""
    size = _broadcast(torch.zeros(1, dtype=torch.int64))
    said = _broadcast(torch.zeros(int(size), dtype=torch.uint8))
    return json.loads(said.numpy().tobytes())


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether `error` says that another process has ended in the midst of common work."""
    # Gloo has no exception of its own.
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo/" in str(error)
    )


def part() -> None:
    """End the talk of the processes; the last thing that each of them does."""
    _group.cache_clear()
    processes().destroy_process_group()


def _broadcast(tensor: Tensor) -> Tensor:
    work = distributed.broadcast(tensor, src=0, group=_group(), async_op=True)
    # In short waits, between which a signal is heard.
    while not work.is_completed():
        time.sleep(_POLL_SECONDS)
    work.wait()
    return tensor


@cache
def _group() -> Any:
    """All processes, over a channel on which nobody is thought dead for being busy."""
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)

"""The processes that train together, as `accelerate launch` has set them up; mostly one."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """Which process this is, of how many, and its device.

    The first to ask decides how the processes talk, and accelerate's own default overlooks that a
    launch on processors was asked for.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def training_device() -> torch.device:
    """The device that training will use, for work that is done beforehand."""
    device: torch.device = processes().device
    return device

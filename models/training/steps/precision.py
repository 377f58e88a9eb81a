"""How numbers are held while a network is trained: on this device, by these options."""

from contextlib import AbstractContextManager, nullcontext

import torch

from models.errors import ConfigError
from models.training.options import Precision


def mixed_precision(precision: Precision, device: torch.device) -> str:
    """What accelerate calls `precision`, with "auto" decided for `device`."""
    if precision == "auto":
        capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if capable else "no"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; expected fp32, bf16 or auto on a CPU")
    return "no" if precision == "fp32" else precision


def autocast_of(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """What `precision` does to a forward pass, for work outside of the training loop."""
    wanted = mixed_precision(precision, device)
    if wanted == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if wanted == "bf16" else torch.float16)

"""The trained network itself behind the face of an exported one: for a GPU, and as reference."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.language.reading.sequences import Batch


class TorchSession:
    """A network run by torch, in float32, on a GPU where there is one."""

    def __init__(self, module: nn.Module, device: torch.device | None = None) -> None:
        if device is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._device = device
        self._module = module.to(device).eval()

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The rows of the texts of `batch`, in their order."""
        given = (torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments))
        with torch.inference_mode():
            rows = self._module(*(part.to(self._device) for part in given))
        return cast(NDArray[np.float32], rows.float().cpu().numpy())

"""What the training loop asks of a task: batches of examples in, a loss out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters at one depth; 0 is the head, 1 the top layer of the backbone, and so on down.

    Layer-wise learning rates fall with the depth.
    """

    depth: int
    parameters: Sequence[nn.Parameter]


class Task(Protocol):
    """A network and the examples it learns from.

    What is drawn at random comes from the generator that `batches` is given and from torch's own,
    which the loop seeds anew before every step: a task holds no random state of its own, and so a
    training can go on after a kill as if nothing had been.
    """

    @property
    def module(self) -> nn.Module:
        """The network; the loop moves it to its device, and saves what `state_dict` says."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, so that examples of similar length share a batch."""
        ...

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Rows of each batch of an epoch; `training.batching` has what most tasks want."""
        ...

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The mean loss of the examples of `rows`, with the network as it now is."""
        ...

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """Numbers on the validation side; `score` is the one to make large, {} without a side."""
        ...

    def groups(self) -> Sequence[ParameterGroup]:
        """What is trained, by depth."""
        ...

    def adversarial(self) -> Sequence[nn.Parameter]:
        """The embeddings that an adversary may push (FGM); empty where they are frozen."""
        ...

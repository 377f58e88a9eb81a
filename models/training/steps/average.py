"""A running mean of the weights (EMA), which often answers better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """θ̄ ← d θ̄ + (1 - d) θ after every step, where θ̄ starts as the weights before the first.

    The decay d of the t-th update (from 1) is min(decay, (1 + t) / (10 + t)): with the full decay
    from the start, a short training would end with a mean of mostly untrained weights.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.updates = 0
        self.means: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they now are."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        means = list(self.means.values())
        weights = [self._parameters[name].detach() for name in self.means]
        torch._foreach_lerp_(means, weights, 1 - decay)

    def restore(self, means: Mapping[str, Tensor], updates: int) -> None:
        """Put back means and number of updates, as read from a checkpoint."""
        for name, mean in self.means.items():
            mean.copy_(means[name])
        self.updates = updates

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the means for its weights, while the block lasts."""
        weights = {name: self._parameters[name].detach().clone() for name in self.means}
        copy_weights(self._parameters, self.means)
        try:
            yield
        finally:
            copy_weights(self._parameters, weights)


@torch.no_grad()
def copy_weights(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    """Give `parameters` the values of `weights`, name by name."""
    for name, value in weights.items():
        parameters[name].copy_(value)

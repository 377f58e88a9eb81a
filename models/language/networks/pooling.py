"""From the states of a text's tokens to one vector."""

from typing import Final

import torch
from torch import Tensor

from models.language.presets import PairPooling

_COMPARED: Final = 5  # first, both means, their difference, their product


def pooled_width(width: int, pooling: PairPooling) -> int:
    """Numbers in the vector that `pooled` makes of states of `width` numbers."""
    return _COMPARED * width if pooling == "compared" else width


def pooled(states: Tensor, mask: Tensor, segments: Tensor, pooling: PairPooling) -> Tensor:
    """One vector per text, (texts, `pooled_width`), of `states` (texts, length, width).

    Padding stands on the right and is never looked at; the mean of no tokens is zero. `segments`
    matter to `compared` alone: 1 where a token belongs to the second of two texts.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        # Picked by a sum, for which every runtime has a fast kernel, of one state and zeros.
        at = mask.cumsum(dim=1) * mask
        is_last = (at == mask.sum(dim=1, keepdim=True)) & (mask > 0)
        return (states * is_last.unsqueeze(-1).to(states.dtype)).sum(dim=1)
    if pooling == "mean":
        return _mean(states, mask)
    first, second = _mean(states, mask * (1 - segments)), _mean(states, mask * segments)
    return torch.cat([states[:, 0], first, second, (first - second).abs(), first * second], dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

"""From the states of a text's tokens to one vector."""

from torch import Tensor

from models.language.presets import Pooling


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text, (texts, width), of `states` (texts, length, width).

    Padding stands on the right and is never looked at; the mean of no tokens is zero.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        # Picked by a sum, for which every runtime has a fast kernel, of one state and zeros.
        at = mask.cumsum(dim=1) * mask
        is_last = (at == mask.sum(dim=1, keepdim=True)) & (mask > 0)
        return (states * is_last.unsqueeze(-1).to(states.dtype)).sum(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

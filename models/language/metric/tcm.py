"""The threshold-consistent margin term on query-product similarities.

Zhang et al., "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", ICLR 2024:

    L = lambda+ sum_P (m+ - s) 1[s <= m+] / sum_P 1[s <= m+]
      + lambda- sum_N (s - m-) 1[s >= m-] / sum_N 1[s >= m-]

P are the pairs that attract and N those that repel; a sum over nothing is 0. Each pair weighs its
gain. pytorch-metric-learning has the symmetric case and ignores a second tower.
"""

import torch
from torch import Tensor

from models.language.metric.options import TcmOptions


def tcm_loss(similarities: Tensor, gains: Tensor, options: TcmOptions) -> Tensor:
    """The term for cosines and gains of one shape, in float32; `options.weight` is not applied."""
    with torch.autocast(similarities.device.type, enabled=False):
        similarities, gains = similarities.float(), gains.float()
        positive = _mean_violation(
            options.positive_margin - similarities, gains.clamp(min=0), options.fewest_violators
        )
        negative = _mean_violation(
            similarities - options.negative_margin, (-gains).clamp(min=0), options.fewest_violators
        )
        return options.positive_weight * positive + options.negative_weight * negative


def _mean_violation(violations: Tensor, weights: Tensor, fewest: int) -> Tensor:
    """The mean of what is not below 0, by weight; fewer violators than `fewest` count for less."""
    weights = weights * (violations >= 0)
    violators = (weights > 0).sum()
    # Nothing to divide by is 0, not NaN, and still has a gradient (of 0).
    mean = (weights * violations).sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return mean * (violators / fewest).clamp(max=1)

"""Losses on the similarities of a batch's queries and products.

A class is a query and its centre the query's own vector: queries to be served are others than
those trained on, so a free centre per training query would learn what is then thrown away, and
teach the query's tower nothing.

Contrastive and multi-similarity are those of pytorch-metric-learning, which there take a second
tower (`ref_emb`) and any choice of pairs. Its Smooth-AP and ArcFace take neither, and its NT-Xent
compares every positive with every negative of the whole batch, also of other queries: these three
are written here, and tested against theirs where both apply.
"""

from collections.abc import Callable
from math import cos, radians, sin
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.language.metric.options import MetricOptions
from models.language.metric.tcm import tcm_loss

MetricTerm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query vectors (queries, width), product vectors (products, width), gains → a mean loss."""

# Smooth-AP's sigmoid wants sharper differences than a softmax does.
_SHARPER: Final = 5.0
# At a cosine of one the angle has no finite gradient.
_NEAR_ONE: Final = 1e-6


def metric_term(options: MetricOptions) -> MetricTerm:
    """The loss that `options` ask for, TCM included, each with its weight; computed in float32.

    It takes vectors of any length and compares directions.
    """
    base = _base(options) if options.loss != "none" and options.weight > 0 else None

    def term(queries: Tensor, products: Tensor, gains: Tensor) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            queries = functional.normalize(queries.float(), dim=1)
            products = functional.normalize(products.float(), dim=1)
            total = (queries.sum() + products.sum()) * 0
            if base is not None:
                total = total + options.weight * base(queries, products, gains)
            if options.tcm.weight > 0:
                similarities = queries @ products.T
                total = total + options.tcm.weight * tcm_loss(similarities, gains, options.tcm)
            return total

    return term


def _base(options: MetricOptions) -> MetricTerm:
    if options.loss == "contrastive":
        return contrastive(options)
    if options.loss == "multi_similarity":
        return multi_similarity()

    def of_similarities(queries: Tensor, products: Tensor, gains: Tensor) -> Tensor:
        similarities = queries @ products.T
        if options.loss == "smooth_ap":
            return smooth_ap(similarities, gains, options.temperature / _SHARPER)
        if options.loss == "arcface":
            return arcface(similarities, gains, options.temperature, options.angle)
        return info_nce(similarities, gains, options.temperature)

    return of_similarities


def info_nce(similarities: Tensor, gains: Tensor, temperature: float) -> Tensor:
    """Every positive against the negatives of its query, and against those of its product.

    The mean over positives, by gain, of both directions; 0 without positives.
    """
    logits = similarities / temperature
    rows = _softmax_loss(logits, logits, gains)
    columns = _softmax_loss(logits.T, logits.T, gains.T)
    return (rows + columns) / 2


def arcface(similarities: Tensor, gains: Tensor, temperature: float, angle: float) -> Tensor:
    """Additive angular margin: a product must be nearer to its query by `angle` degrees.

    Deng et al., "ArcFace", CVPR 2019, with the vectors of the batch's queries as the centres. A
    product is told from the queries it repels and from no other.
    """
    logits = similarities.T / temperature
    return _softmax_loss(_with_angle(similarities.T, angle) / temperature, logits, gains.T)


def smooth_ap(similarities: Tensor, gains: Tensor, temperature: float) -> Tensor:
    """One minus the smoothed average precision of each query's positives, averaged over queries.

    Brown et al., "Smooth-AP", ECCV 2020: ranks are sums of sigmoids of differences. What neither
    attracts nor repels takes no rank; queries without a positive are left out.
    """
    positive = gains > 0
    query, column = torch.nonzero(positive, as_tuple=True)
    if not len(query):
        return similarities.sum() * 0
    above = similarities[query] - similarities[query, column][:, None]  # (positives, products)
    above = torch.sigmoid(above / temperature).scatter(1, column[:, None], 0.0)  # not of itself
    rank_of_positives = 1 + (above * positive[query]).sum(dim=1)
    rank = rank_of_positives + (above * (-gains).clamp(min=0)[query]).sum(dim=1)
    weights = gains[query, column]
    total = torch.zeros(len(gains), device=gains.device, dtype=weights.dtype)
    precision = total.index_add(0, query, weights * rank_of_positives / rank)
    total = total.index_add(0, query, weights)
    asked = total > 0
    return (1 - precision[asked] / total[asked]).mean()


def contrastive(options: MetricOptions) -> MetricTerm:
    """Positives below one margin and negatives above the other, the mean over each by gain."""
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import ContrastiveLoss
    from pytorch_metric_learning.reducers import BaseReducer

    class ByGain(BaseReducer):  # type: ignore[misc]  # the library is untyped
        """The mean of what is above 0, each pair weighing its gain."""

        gains: Tensor

        def _mean(self, losses: Tensor, indices: tuple[Tensor, Tensor]) -> Tensor:
            weights = self.gains[indices].abs() * (losses > 0)
            return (weights * losses).sum() / weights.sum().clamp(min=1e-12)

        def pos_pair_reduction(
            self, losses: Tensor, indices: tuple[Tensor, Tensor], *_: Tensor
        ) -> Tensor:
            return self._mean(losses, indices)

        neg_pair_reduction = pos_pair_reduction

    loss = ContrastiveLoss(
        pos_margin=options.positive_margin,
        neg_margin=options.negative_margin,
        distance=CosineSimilarity(),
        reducer=ByGain(),
    )

    def term(queries: Tensor, products: Tensor, gains: Tensor) -> Tensor:
        for reducer in loss.reducer.reducers.values():
            reducer.gains = gains
        return _theirs(loss, queries, products, gains)

    return term


def multi_similarity() -> MetricTerm:
    """The harder a pair, within its query, the more it weighs (Wang et al., CVPR 2019)."""
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    loss = MultiSimilarityLoss(distance=CosineSimilarity())

    def term(queries: Tensor, products: Tensor, gains: Tensor) -> Tensor:
        return _theirs(loss, queries, products, gains)

    return term


def _theirs(
    loss: Callable[..., Tensor], queries: Tensor, products: Tensor, gains: Tensor
) -> Tensor:
    """A loss of theirs on the pairs that `gains` name; products are its second tower."""
    pairs = (*torch.nonzero(gains > 0, as_tuple=True), *torch.nonzero(gains < 0, as_tuple=True))
    return loss(queries, indices_tuple=pairs, ref_emb=products)


def _softmax_loss(positives: Tensor, negatives: Tensor, gains: Tensor) -> Tensor:
    """-log of each positive's share among the negatives of its row, averaged over all positives."""
    log_weights = (-gains).clamp(min=1e-12).log()
    repelled = (negatives + log_weights).masked_fill(gains >= 0, -torch.inf)
    # A row without negatives has nothing to lose to: its positives cost nothing.
    against = torch.logsumexp(repelled, dim=1, keepdim=True).expand_as(positives)
    weights = gains.clamp(min=0)
    costs = functional.softplus((against - positives).masked_fill(gains <= 0, 0.0))
    return (costs * weights).sum() / weights.sum().clamp(min=1e-12)


def _with_angle(similarities: Tensor, degrees: float) -> Tensor:
    """The cosine after turning by `degrees`, falling on even where that would pass 180 degrees."""
    margin = radians(degrees)
    inside = similarities.clamp(-1 + _NEAR_ONE, 1 - _NEAR_ONE)
    turned = torch.cos(torch.acos(inside) + margin)
    return torch.where(inside >= -cos(margin), turned, similarities - margin * sin(margin))

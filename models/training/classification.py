"""The loss of four logits: what every pair is taught, how much it weighs, and how far off it is."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from models.judge.confusion import Confusion
from models.labels import LABELS, Codes
from models.member import Logits, Probabilities
from models.training.options import ClassificationOptions
from models.weights import pair_weights


def targets_of(
    labels: Codes, options: ClassificationOptions, soft: Probabilities | None = None
) -> NDArray[np.float32]:
    """What each pair is taught, shape (pairs, 4): its label as one-hot, mixed with `soft` if given.

    Smoothing is the loss's part.
    """
    one_hot = np.eye(len(LABELS), dtype=np.float32)[labels]
    if soft is None:
        return one_hot
    share = np.float32(options.distil_weight)
    return np.asarray((1 - share) * one_hot + share * soft, dtype=np.float32)


def weights_of(
    labels: Codes, queries: NDArray[np.integer], options: ClassificationOptions
) -> NDArray[np.float32]:
    """How much each pair weighs in the loss, 1 in the mean over all pairs; `queries` are codes."""
    weights = pair_weights(labels, queries, options.class_weight, options.list_weight)
    return np.asarray(weights / weights.mean() if len(weights) else weights, dtype=np.float32)


def classification_loss(
    forward: Callable[[], Tensor],
    targets: Tensor,
    weights: Tensor,
    options: ClassificationOptions,
) -> Tensor:
    """The mean loss of a batch; `forward` gives its logits, and is called twice by R-Drop.

    The mean is over pairs, not over their weights: a batch of rare labels pulls harder, as it does
    in the mean over all pairs.
    """
    logits = forward().float()
    loss = pointwise_loss(logits, targets, options)
    if options.r_drop:
        again = forward().float()
        loss = (loss + pointwise_loss(again, targets, options)) / 2
        loss = loss + options.r_drop * dropout_distance(logits, again, options)
    return (loss * weights).mean()


def pointwise_loss(logits: Tensor, targets: Tensor, options: ClassificationOptions) -> Tensor:
    """The loss of each pair, shape (pairs,); bce is the mean of its four questions."""
    smoothing = options.label_smoothing
    if options.loss == "ce":
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    smoothed = (1 - smoothing) * targets + smoothing / targets.shape[1]
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(dim=1)


def dropout_distance(one: Tensor, other: Tensor, options: ClassificationOptions) -> Tensor:
    """½ (KL(p‖q) + KL(q‖p)) of each pair, shape (pairs,): R-Drop's term (Liang et al. 2021, eq. 2).

    With bce the distributions are the four yes-or-no questions', and the mean of them counts.
    """
    if options.loss == "ce":
        log_p, log_q = F.log_softmax(one, dim=1), F.log_softmax(other, dim=1)
        # KL(p‖q) + KL(q‖p) = Σ (p - q)(log p - log q)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=1) / 2
    # For a question, log p - log (1 - p) is the logit itself.
    return ((torch.sigmoid(one) - torch.sigmoid(other)) * (one - other)).mean(dim=1) / 2


def classification_metrics(
    logits: Logits, labels: Codes, options: ClassificationOptions
) -> dict[str, float]:
    """Accuracy, macro-F1, weighted-F1 and log-loss, and `score`, the one chosen by, to be large."""
    n = len(LABELS)
    counts = np.bincount(labels.astype(np.int64) * n + logits.argmax(axis=1), minlength=n * n)
    confusion = Confusion()
    values = dict(
        zip(confusion.metrics, confusion.values(counts.astype(np.float64)).tolist(), strict=True)
    )
    found = {name: float(values[name]) for name in ("accuracy", "macro_f1", "weighted_f1")}
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    found["log_loss"] = float(-log_p[np.arange(len(labels)), labels].mean())
    sign = -1 if options.choose_by == "log_loss" else 1
    return {**found, "score": sign * found[options.choose_by]}

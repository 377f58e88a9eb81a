"""Metrics of labels: accuracy, F1, and telling substitutes from the rest, from confusion counts."""

from typing import Final

import numpy as np

from models.judge.judged import Floats, Judged, System, ratio
from models.labels import LABELS, SUBSTITUTE

_N: Final = len(LABELS)


def counts(totals: Floats) -> Floats:
    """Totals as confusion matrices, shape (..., judged label, predicted label)."""
    return totals.reshape(*totals.shape[:-1], _N, _N)


class Confusion:
    """Metrics that confusion counts decide.

    - accuracy: the share of pairs with the right label, which is micro-F1.
    - macro_f1: the mean of the labels' F1. A label that is neither judged nor predicted anywhere
      has no F1 and is left out.
    - weighted_f1: the mean of the labels' F1, weighted by how often each is judged.
    - substitute_*: the same once only "substitute" and "not substitute" are told apart (the third
      task of the ESCI challenge): micro_f1 is its accuracy, macro_f1 the mean F1 of the two sides,
      f1 that of the substitutes.
    - precision_X, recall_X, f1_X for each label; precision has no value where X is never predicted,
      recall none where it is never judged.
    """

    width = _N * _N
    metrics = (
        "accuracy",
        "macro_f1",
        "weighted_f1",
        "substitute_micro_f1",
        "substitute_macro_f1",
        "substitute_f1",
        *(f"{what}_{label}" for label in LABELS for what in ("precision", "recall", "f1")),
    )

    def sums(self, judged: Judged, system: System) -> Floats:
        """Confusion counts per query."""
        cells = (judged.queries * _N + judged.labels) * _N + system.predicted
        found = np.bincount(cells, minlength=judged.query_count * self.width)
        return found.reshape(judged.query_count, self.width).astype(np.float64)

    def values(self, totals: Floats) -> Floats:
        """The metrics of confusion counts."""
        matrix = counts(totals)
        pairs = matrix.sum(axis=(-2, -1))
        right = np.diagonal(matrix, axis1=-2, axis2=-1)  # (..., labels)
        judged, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)  # (..., labels)
        f1 = ratio(2 * right, judged + predicted)

        hit, support, given = (part[..., SUBSTITUTE] for part in (right, judged, predicted))
        substitute_f1 = ratio(2 * hit, support + given)
        other_f1 = ratio(2 * (pairs - support - given + hit), 2 * pairs - support - given)

        per_label = np.stack([ratio(right, predicted), ratio(right, judged), f1], axis=-1)
        headline = [
            ratio(right.sum(axis=-1), pairs),
            _mean_of_defined(f1),
            ratio(np.nansum(f1 * judged, axis=-1), pairs),
            ratio(pairs - support - given + 2 * hit, pairs),
            _mean_of_defined(np.stack([substitute_f1, other_f1], axis=-1)),
            substitute_f1,
        ]
        return np.concatenate(
            [np.stack(headline, axis=-1), per_label.reshape(*totals.shape[:-1], 3 * _N)], axis=-1
        )


def _mean_of_defined(values: Floats) -> Floats:
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1).astype(float))

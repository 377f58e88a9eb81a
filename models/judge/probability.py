"""Metrics of probabilities: log-loss, Brier score and calibration errors."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.judge.judged import Floats, Judged, System, ratio
from models.labels import LABELS

BINS: Final = 15
# Probabilities are stored as float32, and this is how near zero one can meaningfully be told.
FLOOR: Final = float(np.finfo(np.float32).eps)

_N: Final = len(LABELS)


class Probability:
    """Metrics that sums over probabilities decide.

    - log_loss: the mean of -ln p(judged label), with p kept above FLOOR.
    - brier: the mean of the squared distance between probabilities and the judged label, summed
      over the four labels: 0 to 2.
    - ece: pairs in BINS equal, right-closed bins by the probability of the predicted label; the
      mean over pairs of |accuracy - mean probability| of their bin (Guo et al. 2017).
    - ece_X: the same for the probability of label X against its being judged;
      classwise_ece is the mean of the four (Kull et al. 2019).

    A bin's error is the absolute value of a sum, so only the signed sum per bin is kept.
    """

    width = 3 + BINS * (1 + _N)
    metrics = ("log_loss", "brier", "ece", "classwise_ece", *(f"ece_{label}" for label in LABELS))

    def sums(self, judged: Judged, system: System) -> Floats:
        """Pairs, losses and signed bin errors per query."""
        p, rows = system.probabilities, np.arange(len(judged))
        sums = np.empty((judged.query_count, self.width))

        def add_up(column: int, weights: NDArray[Any] | None) -> None:
            sums[:, column] = np.bincount(judged.queries, weights, judged.query_count)

        add_up(0, None)
        of_judged = p[rows, judged.labels]
        add_up(1, -np.log(np.maximum(of_judged, FLOOR)))
        # |p - one-hot|^2 without the one-hot.
        add_up(2, np.square(p).sum(axis=1) - 2 * of_judged + 1)

        for place, (confidence, correct) in enumerate(_calibrated(judged, system)):
            cells = judged.queries * BINS + bin_of(confidence)
            error = np.bincount(cells, correct - confidence, judged.query_count * BINS)
            start = 3 + place * BINS
            sums[:, start : start + BINS] = error.reshape(judged.query_count, BINS)
        return sums

    def values(self, totals: Floats) -> Floats:
        """The metrics of totals."""
        pairs = totals[..., :1]
        means = ratio(totals, pairs)
        errors = means[..., 3:].reshape(*totals.shape[:-1], 1 + _N, BINS)
        ece = np.abs(errors).sum(axis=-1)  # (..., 1 + labels)
        return np.concatenate(
            [
                means[..., 1:3],
                ece[..., :1],
                ece[..., 1:].mean(axis=-1, keepdims=True),
                ece[..., 1:],
            ],
            axis=-1,
        )


class Reliability(NamedTuple):
    """What a reliability diagram shows: per bin its pairs, mean probability and share of hits."""

    pairs: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def reliability(judged: Judged, system: System) -> dict[str, Reliability]:
    """Reliability of the predicted label ("predicted") and of each label's probability."""
    found = {}
    for name, (confidence, correct) in zip(
        ("predicted", *LABELS), _calibrated(judged, system), strict=True
    ):
        bins = bin_of(confidence)
        pairs = np.bincount(bins, minlength=BINS)
        mean = [
            np.bincount(bins, part, BINS) / np.maximum(pairs, 1) for part in (confidence, correct)
        ]
        found[name] = Reliability(
            pairs.tolist(),
            *(
                [m if n else None for m, n in zip(part.tolist(), pairs, strict=True)]
                for part in mean
            ),
        )
    return found


def clipped_pairs(judged: Judged, system: System) -> int:
    """How many judged labels were given a probability that the log-loss had to raise to FLOOR."""
    of_judged = system.probabilities[np.arange(len(judged)), judged.labels]
    return int((of_judged < FLOOR).sum())


def bin_of(probability: Floats) -> NDArray[np.int64]:
    """The bin of each probability: (0, 1/15] is the first and takes 0 too."""
    return np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _calibrated(judged: Judged, system: System) -> "list[tuple[Floats, Floats]]":
    """(probability, whether it came true) for the predicted label and for each label."""
    p = system.probabilities
    predicted = system.predicted
    pairs = [(p[np.arange(len(p)), predicted], (predicted == judged.labels).astype(np.float64))]
    pairs += [(p[:, code], (judged.labels == code).astype(np.float64)) for code in range(_N)]
    return pairs

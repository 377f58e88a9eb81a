"""Who judged what: some of the results of each judged query, by annotators who err now and then."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import EXACT, LABELS, Codes
from pipelines.demo.retrieval import Results

# Products judged per query: towards the head more of them, as customers see more pages of it.
_DEPTH_AT_HEAD: Final = 19
_DEPTH_AT_TAIL: Final = 10
_MAX_DEPTH: Final = 40
_NOISE: Final = 0.8  # of the engine's score, from one day to the next

# What a judged list is made up of, in the order of LABELS, and how alike lists are in that: the
# lower, the more of them are all exact or have next to nothing exact. Test is a little harder, as
# in ESCI. Exact is asked for more often than it comes: a narrow query has few such products.
_SHARES: Final = np.array(
    [
        [0.68, 0.185, 0.036, 0.085],  # in test
        [0.72, 0.160, 0.032, 0.075],  # in train
    ]
)
_ALIKENESS: Final = 5.0

# What an annotator who errs says instead, by true label, in the order of LABELS.
_MISTAKES: Final = np.cumsum(
    [
        [0.00, 0.75, 0.10, 0.15],
        [0.60, 0.00, 0.05, 0.35],
        [0.15, 0.25, 0.00, 0.60],
        [0.10, 0.65, 0.25, 0.00],
    ],
    axis=1,
)

# The small version leaves the easy queries out: those whose results are mostly exact.
_EASY_EXACT_SHARE: Final = 0.5


def judge(
    rng: np.random.Generator,
    results: Results,
    headness: NDArray[Any],
    trains: NDArray[np.bool_],
    label_noise: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Codes]:
    """Query row, product row and label of each judged pair, query by query.

    `headness` says how near the head each query is, from 0 to 1, and `trains` whether it is in
    train rather than test. Lists are stratified by label, so
    that their mix is that of ESCI whatever the size of the catalogue; where a narrow query has too
    few products of a label, its list is shorter.
    """
    scores = results.scores + rng.gumbel(0, _NOISE, results.scores.shape)
    mean = _DEPTH_AT_TAIL + (_DEPTH_AT_HEAD - _DEPTH_AT_TAIL) * headness
    depth = np.clip(rng.poisson(mean), 1, _MAX_DEPTH)
    mix = rng.standard_gamma(_ALIKENESS * _SHARES[trains.astype(int)]) + 1e-9
    quotas = rng.multinomial(depth, mix / mix.sum(axis=1, keepdims=True))  # (queries, labels)

    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(results.labels, order, axis=1)
    found = np.isfinite(np.take_along_axis(scores, order, axis=1))
    taken = np.zeros_like(found)
    taken[:, 0] = found[:, 0]  # a judged query has a judgement, whatever its quotas find
    for label in range(len(LABELS)):
        mine = found & (ranked == label)
        taken |= mine & (np.cumsum(mine, axis=1) <= quotas[:, label, None])
    # Listed in catalogue order: the order of rows must not tell what the engine thought.
    judged = np.zeros_like(taken)
    np.put_along_axis(judged, order, taken, axis=1)
    queries, at = np.nonzero(judged)
    labels = results.labels[queries, at]

    wrong = np.flatnonzero(rng.random(len(labels)) < label_noise)
    said = rng.random(len(wrong))[:, None] >= _MISTAKES[labels[wrong]]
    labels[wrong] = said.sum(axis=1)
    return queries, results.rows[queries, at], labels


def is_hard(queries: NDArray[np.int64], labels: Codes, count: int) -> NDArray[np.bool_]:
    """Which of `count` queries the small version keeps."""
    judged = np.bincount(queries, minlength=count)
    exact = np.bincount(queries, labels == EXACT, minlength=count)
    return np.asarray(exact <= _EASY_EXACT_SHARE * judged)

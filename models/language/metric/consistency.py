"""OPIS of an embedding: does one threshold on the similarity serve every query and locale alike?

The distance is that of unit vectors, d = sqrt(2 - 2 s), for OPIS depends on how distance is
measured. The computation, resampling included, is the judge's.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.judge.consistency import Classes, Consistency, ConsistencyTerms
from models.judge.judge import judge_consistency
from models.judge.judged import Judged, System
from models.judge.resample import resample_queries, swap_queries
from models.judge.verdict import OpisVerdict, Terms
from models.labels import LABELS

DISTANCE: Final = "sqrt(2 - 2 cosine)"

Cosines = NDArray[np.floating[Any]]
"""One per judged pair, shape (pairs,)."""


def similarity_system(name: str, similarities: Cosines, terms: ConsistencyTerms) -> System:
    """A system whose distance, to the judge, is half of sqrt(2 - 2 s): OPIS minds no factor.

    Its probabilities say nothing else: they lie on one positive and one negative label.
    """
    distances = np.sqrt(np.clip(2 - 2 * np.asarray(similarities, np.float64), 0, None)) / 2
    probabilities = np.zeros((len(distances), len(LABELS)))
    probabilities[:, LABELS.index(terms.positives[0])] = 1 - distances
    probabilities[:, LABELS.index(terms.negatives[0])] = distances
    return System.of(name, probabilities)


def embedding_consistency(
    similarities: Cosines,
    judged: Judged,
    groupings: Sequence[Classes],
    terms: Terms | None = None,
    against: Cosines | None = None,
) -> list[OpisVerdict]:
    """OPIS and both epsilon-OPIS of the cosines of judged pairs, by each grouping.

    With intervals over resamples of queries, and compared with the cosines of `against` where they
    are given. Thresholds and their range are cosines, the strictest first. A class without enough
    positives and negatives takes no part: where most queries have but a few products, group by
    locale or the like.
    """
    terms = terms or Terms()
    system = similarity_system("first", similarities, terms.consistency)
    other, swaps = None, None
    if against is not None:
        other = similarity_system("second", against, terms.consistency)
        swaps = swap_queries(judged.query_count, terms.permutations, terms.seed)
    resamples = resample_queries(judged.query_count, terms.resamples, terms.seed)
    return [
        _in_cosines(
            judge_consistency(
                Consistency(judged, classes, terms.consistency), system, other, resamples, swaps
            )
        )
        for classes in groupings
    ]


def _in_cosines(found: OpisVerdict) -> OpisVerdict:
    between = found.between and (_cosine(found.between[0]), _cosine(found.between[1]))
    return replace(found, between=between, thresholds=[_cosine(at) for at in found.thresholds])


def _cosine(half_distance: float) -> float:
    return 1 - 2 * half_distance**2

"""OPIS of an embedding: does one threshold on the similarity serve every query and locale alike?

The distance is that of unit vectors, d = sqrt(2 - 2 s), for OPIS depends on how distance is
measured. The computation, resampling included, is the judge's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.judge.consistency import Classes, Consistency, ConsistencyTerms
from models.judge.judged import Floats, Judged, System
from models.judge.opis import Range
from models.labels import LABELS
from models.locales import LOCALES
from models.pairs import LabelledPairs


@dataclass(frozen=True)
class EmbeddingConsistency:
    """OPIS over one grouping; NaN, with the reason, where it is not defined."""

    grouping: str
    classes: int  # that took part
    opis: float
    epsilon_opis_a: float
    epsilon_opis_b: float
    between: Range | None  # cosines between which the threshold would be set, lower first
    reason: str | None = None


def similarity_system(
    name: str, similarities: NDArray[np.floating[Any]], terms: ConsistencyTerms | None = None
) -> System:
    """A system whose distance, to the judge, is half of sqrt(2 - 2 s): OPIS minds no factor.

    Its probabilities say nothing else: they lie on one positive and one negative label.
    """
    terms = terms or ConsistencyTerms()
    distances = np.sqrt(np.clip(2 - 2 * np.asarray(similarities, np.float64), 0, None)) / 2
    probabilities = np.zeros((len(distances), len(LABELS)))
    probabilities[:, LABELS.index(terms.positives[0])] = 1 - distances
    probabilities[:, LABELS.index(terms.negatives[0])] = distances
    return System.of(name, probabilities)


def embedding_consistency(
    similarities: NDArray[np.floating[Any]],
    pairs: LabelledPairs,
    terms: ConsistencyTerms | None = None,
) -> list[EmbeddingConsistency]:
    """OPIS and both epsilon-OPIS of cosines of judged pairs, by query and by locale.

    A class is a query of one locale, or a locale; one without enough positives and negatives (see
    ConsistencyTerms) takes no part. Where most queries have but a few products, look at locales.
    """
    terms = terms or ConsistencyTerms()
    texts = pairs.queries.text_codes()[pairs.query_rows]
    lists = texts * len(LOCALES) + pairs.locales()
    judged = Judged.of(pairs.labels, texts, lists)
    groupings = [
        Classes("query", judged.lists, [str(code) for code in range(judged.list_count)]),
        Classes("locale", pairs.locales().astype(np.int64), LOCALES),
    ]
    system = similarity_system("embedding", similarities, terms)
    return [_of_grouping(Consistency(judged, classes, terms), system) for classes in groupings]


def _of_grouping(family: Consistency, system: System) -> EmbeddingConsistency:
    prepared = family.prepare(system)
    point = family.point(prepared)
    return EmbeddingConsistency(
        family.classes.name,
        len(family.kept),
        *_three(point),
        between=None if prepared is None else _as_cosines(prepared.between),
        reason=family.reason_undefined(prepared),
    )


def _three(point: Floats) -> tuple[float, float, float]:
    opis, first, second = (float(value) for value in point)
    return opis, first, second


def _as_cosines(between: Range) -> Range:
    high, low = (1 - (2 * distance) ** 2 / 2 for distance in between)
    return Range(low, high)

"""The judge: labels and systems in, a verdict out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.judge.compare import compare
from models.judge.confusion import Confusion, counts
from models.judge.consistency import (
    COARSE_POSITIVES,
    Classes,
    Consistency,
    PreparedCurves,
)
from models.judge.family import Additive, Assessment
from models.judge.judged import Floats, Judged, System
from models.judge.opis import trapezoid_weights, worst_classes
from models.judge.probability import Probability, clipped_pairs, reliability
from models.judge.ranking import Ranking, ideal_dcg, mixed_lists
from models.judge.resample import Draws, resample_queries, swap_queries
from models.judge.verdict import (
    ClassVerdict,
    Majority,
    OpisVerdict,
    SliceVerdict,
    Terms,
    Verdict,
)
from models.labels import LABELS, Codes

# A grouping of at most this many classes is shown whole; of a larger one, the worst this many.
SHOWN_CLASSES: Final = 20


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the judged pairs, by a name."""

    group: str
    value: str
    rows: NDArray[np.intp]


def judge(
    judged: Judged,
    system: System,
    *,
    against: System | None = None,
    training_labels: Codes | None = None,
    slices: Sequence[Slice] = (),
    opis_by: Sequence[Classes] = (),
    terms: Terms | None = None,
) -> Verdict:
    """Every metric of `system` over all pairs and each slice, with intervals.

    The majority row answers with the commonest of `training_labels`, or of the judged labels where
    none are given; it and `against` are judged on the same pairs under the same resamples.
    """
    terms = terms or Terms()
    for one in (system, against):
        if one is not None and len(one.probabilities) != len(judged):
            raise DataError(
                f"system {one.name!r} answers {len(one.probabilities):,} pairs; "
                f"{len(judged):,} are judged; expected one answer per judged pair"
            )
    majority = majority_of(judged, training_labels)
    resamples = resample_queries(judged.query_count, terms.resamples, terms.seed)
    swaps = None
    if against is not None:
        swaps = swap_queries(judged.query_count, terms.permutations, terms.seed)
    rows = np.arange(len(judged))
    return Verdict(
        system=system.name,
        against=against.name if against else None,
        terms=terms,
        majority=majority,
        slices=[
            _judge_slice(judged, part, system, against, majority, resamples, swaps, terms)
            for part in (Slice("all", "all", rows), *slices)
            if len(part.rows)
        ],
        opis=[
            judge_consistency(
                Consistency(judged, classes, terms.consistency), system, against, resamples, swaps
            )
            for classes in opis_by
        ],
        reliability=reliability(judged, system),
        clipped_pairs=clipped_pairs(judged, system),
    )


def majority_of(judged: Judged, training_labels: Codes | None = None) -> Majority:
    """The commonest label and the shares of all, among training labels where there are any."""
    source = "judged" if training_labels is None or not len(training_labels) else "training"
    labels = judged.labels if source == "judged" else training_labels
    found = np.bincount(np.asarray(labels), minlength=len(LABELS))
    return Majority(
        label=LABELS[int(found.argmax())],
        source=source,
        shares=dict(zip(LABELS, (found / found.sum()).tolist(), strict=True)),
    )


def majority_system(majority: Majority, pairs: int) -> System:
    """The majority as a system: the label shares for every pair."""
    shares = np.array([majority.shares[label] for label in LABELS])
    return System("majority", np.broadcast_to(shares, (pairs, len(LABELS))))


def slices_of(group: str, codes: NDArray[np.integer[Any]], values: Sequence[str]) -> list[Slice]:
    """One slice per value of a column of codes, in the order of the values; empty ones left out."""
    found = [
        Slice(group, value, np.flatnonzero(codes == code)) for code, value in enumerate(values)
    ]
    return [part for part in found if len(part.rows)]


def _judge_slice(
    judged: Judged,
    part: Slice,
    system: System,
    against: System | None,
    majority: Majority,
    resamples: Draws,
    swaps: Draws | None,
    terms: Terms,
) -> SliceVerdict:
    inside, units = judged.restricted(part.rows)
    family = Additive(inside, units, (Confusion(), Probability(), Ranking(terms.gains)))

    def of(one: System) -> Assessment[Floats]:
        return Assessment.of(family, one, resamples)

    local = system.restricted(part.rows)
    found = of(local)
    comparison = None
    if against is not None and swaps is not None:
        comparison = compare(family, found, of(against.restricted(part.rows)), swaps)
    confusion = counts(Confusion().sums(inside, local).sum(axis=0))
    return SliceVerdict(
        group=part.group,
        value=part.value,
        pairs=len(inside),
        queries=inside.query_count,
        lists=inside.list_count,
        single_level_lists=int((~mixed_lists(inside, terms.gains)).sum()),
        gainless_lists=int((ideal_dcg(inside, terms.gains) == 0).sum()),
        labels=dict(zip(LABELS, inside.label_counts().tolist(), strict=True)),
        confusion=confusion.astype(int).tolist(),
        metrics=found.estimates(),
        majority=of(majority_system(majority, len(inside))).estimates(),
        comparison=comparison,
    )


def judge_consistency(
    family: Consistency,
    system: System,
    against: System | None,
    resamples: Draws,
    swaps: Draws | None,
) -> OpisVerdict:
    """OPIS of `system` over one grouping, and of what it loses or gains on `against`, by `swaps`.

    Of a system of distances alone (`models.language.metric.consistency`), where `judge` would ask
    for labels too.
    """
    found = Assessment.of(family, system, resamples)
    prepared = found.prepared
    comparison = None
    if against is not None and swaps is not None:
        comparison = compare(family, found, Assessment.of(family, against, resamples), swaps)
    present = (family.positives > 0) | (family.negatives > 0)
    two_sided = (family.positives > 0) & (family.negatives > 0)
    reason = family.reason_undefined(prepared)
    defined = prepared if reason is None else None
    return OpisVerdict(
        by=family.classes.name,
        undefined=reason,
        classes=len(family.kept),
        one_sided=int((present & ~two_sided).sum()),
        too_small=int(two_sided.sum()) - len(family.kept),
        coarse=int((family.positives[family.kept] < COARSE_POSITIVES).sum()),
        metrics=found.estimates(),
        between=(prepared.between.low, prepared.between.high) if prepared else None,
        thresholds=defined.thresholds.tolist() if defined else [],
        curves=_curves(family, defined) if defined else {},
        shown=_classes(family, defined) if defined else [],
        comparison=comparison,
    )


def _curves(family: Consistency, prepared: PreparedCurves) -> dict[str, list[float]]:
    curves = prepared.curves
    is_worst = np.zeros(len(curves), bool)
    is_worst[worst_classes(curves, family.terms.epsilon)] = True
    low, high = np.quantile(curves, [0.1, 0.9], axis=0)
    found = {
        "mean": curves.mean(axis=0),
        "worst": curves[is_worst].mean(axis=0),
        "rest": curves[~is_worst].mean(axis=0),
        "p10": low,
        "p90": high,
    }
    return {name: curve.tolist() for name, curve in found.items()}


def _classes(family: Consistency, prepared: PreparedCurves) -> list[ClassVerdict]:
    curves = prepared.curves
    over_d = trapezoid_weights(curves.shape[1])
    contribution = np.square(curves - curves.mean(axis=0)) @ over_d
    share = SHOWN_CLASSES / len(curves)
    places = range(len(curves)) if share >= 1 else worst_classes(curves, share).tolist()
    return [
        ClassVerdict(
            value=family.classes.values[family.kept[place]],
            positives=int(family.positives[family.kept[place]]),
            negatives=int(family.negatives[family.kept[place]]),
            utility=float(curves[place] @ over_d),
            contribution=float(contribution[place]),
            curve=curves[place].tolist(),
        )
        for place in places
    ]

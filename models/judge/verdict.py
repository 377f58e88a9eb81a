"""The verdict: what the judge found, as plain values that become JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import getdoc
from typing import Any, Final

from models.judge.compare import TEST, Difference
from models.judge.confusion import Confusion
from models.judge.consistency import COARSE_POSITIVES, Consistency, ConsistencyTerms
from models.judge.probability import BINS, FLOOR, Probability, Reliability
from models.judge.ranking import Ranking
from models.judge.resample import LEVEL, Estimate
from models.labels import DEFAULT_GAINS, GAIN_TABLES, LABELS

FORMAT: Final = 1

# A slice of fewer queries is marked: its intervals, from so few distinct resamples, are too narrow.
FEW_QUERIES: Final = 10

# Of these less is better; of all other metrics more.
LESS_IS_BETTER: Final = frozenset({*Probability.metrics, *Consistency.metrics})


@dataclass(frozen=True)
class Terms:
    """How the judge judges; everything a reader needs to make the same numbers again.

    More `resamples` steady the ends of the intervals, more `permutations` allow smaller p-values
    (none below 1 / (permutations + 1)); both cost time in proportion.
    """

    gains: str = DEFAULT_GAINS
    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0
    consistency: ConsistencyTerms = field(default_factory=ConsistencyTerms)

    def to_json(self) -> dict[str, Any]:
        """The terms with every definition a number depends on."""
        opis = self.consistency
        return {
            "gain_table": {"name": self.gains, "gains": dict(GAIN_TABLES[self.gains])},
            "ranking": getdoc(Ranking),
            "labels": getdoc(Confusion),
            "probabilities": getdoc(Probability),
            "calibration_bins": BINS,
            "log_loss_floor": FLOOR,
            "intervals": {
                "level": LEVEL,
                "method": "percentiles over resamples of queries, with replacement; none for what "
                "fewer than two queries decide",
                "resamples": self.resamples,
                "seed": self.seed,
            },
            "test": {"method": TEST, "permutations": self.permutations},
            "opis": {
                "positives": list(opis.positives),
                "negatives": list(opis.negatives),
                "distance": opis.distance,
                "false_accept_rates": list(opis.far),
                "thresholds": opis.thresholds,
                "epsilon": opis.epsilon,
                "fewest_positives_and_negatives": opis.fewest,
                "c": opis.c,
                "epsilon_opis_a": "mean squared gap between the mean utility curves of the worst "
                "ceil(epsilon T) classes and of the rest",
                "epsilon_opis_b": "absolute difference between the mean contributions of the "
                "worst ceil(epsilon T) classes and of the rest",
            },
        }


@dataclass(frozen=True)
class Majority:
    """The system that answers every pair alike: with the commonest label and the label shares."""

    label: str
    source: str  # whose labels were counted: "training" or "judged"
    shares: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The majority as a JSON object."""
        return {"label": self.label, "labels_of": self.source, "shares": dict(self.shares)}


@dataclass(frozen=True)
class SliceVerdict:
    """The metrics of the pairs of one slice, and those of the majority row on the same pairs."""

    group: str  # "all", "locale", "product", or the column it comes from
    value: str
    pairs: int
    queries: int
    lists: int
    single_level_lists: int  # whose pairs all have one gain: any ranking scores the same
    gainless_lists: int  # the part of those that counts as nDCG 0
    labels: Mapping[str, int]
    confusion: Sequence[Sequence[int]]  # rows: judged label; columns: predicted label
    metrics: Mapping[str, Estimate]
    majority: Mapping[str, Estimate]
    comparison: Mapping[str, Difference] | None

    @property
    def has_few_queries(self) -> bool:
        """Whether its intervals rest on fewer than FEW_QUERIES queries."""
        return self.queries < FEW_QUERIES

    def to_json(self) -> dict[str, Any]:
        """The slice as a JSON object."""
        return {
            "group": self.group,
            "value": self.value,
            "pairs": self.pairs,
            "queries": self.queries,
            "has_few_queries": self.has_few_queries,
            "lists": self.lists,
            "single_level_lists": self.single_level_lists,
            "gainless_lists": self.gainless_lists,
            "labels": dict(self.labels),
            "confusion": {
                label: dict(zip(LABELS, row, strict=True))
                for label, row in zip(LABELS, self.confusion, strict=True)
            },
            "metrics": {name: found.to_json() for name, found in self.metrics.items()},
            "majority": {name: found.to_json() for name, found in self.majority.items()},
            **_comparison(self.comparison),
        }


@dataclass(frozen=True)
class ClassVerdict:
    """One class under one threshold range: its size, mean utility, and part in OPIS."""

    value: str
    positives: int
    negatives: int
    utility: float
    contribution: float
    curve: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        """The class as a JSON object."""
        return {
            "value": self.value,
            "positives": self.positives,
            "negatives": self.negatives,
            "utility": self.utility,
            "contribution": self.contribution,
            "curve": list(self.curve),
        }


@dataclass(frozen=True)
class OpisVerdict:
    """OPIS over one grouping."""

    by: str
    undefined: str | None  # why there is no OPIS
    classes: int
    one_sided: int  # classes left out for want of any positive or any negative
    too_small: int  # classes left out for having fewer than the terms ask
    coarse: int  # classes taken with fewer than COARSE_POSITIVES positives
    metrics: Mapping[str, Estimate]
    between: tuple[float, float] | None
    thresholds: Sequence[float]
    curves: Mapping[str, Sequence[float]]  # "mean", "worst", "rest", "p10", "p90"
    shown: Sequence[ClassVerdict]  # every class where they are few, else the worst
    comparison: Mapping[str, Difference] | None

    def to_json(self) -> dict[str, Any]:
        """The grouping as a JSON object."""
        return {
            "by": self.by,
            "undefined": self.undefined,
            "classes": self.classes,
            "left_out": {"one_sided": self.one_sided, "too_small": self.too_small},
            f"classes_below_{COARSE_POSITIVES}_positives": self.coarse,
            "metrics": {name: found.to_json() for name, found in self.metrics.items()},
            "range": list(self.between) if self.between else None,
            "thresholds": list(self.thresholds),
            "curves": {name: list(curve) for name, curve in self.curves.items()},
            "shown": [one.to_json() for one in self.shown],
            **_comparison(self.comparison),
        }


@dataclass(frozen=True)
class Verdict:
    """All the judge found about one system, and about the one it was compared with."""

    system: str
    against: str | None
    terms: Terms
    majority: Majority
    slices: Sequence[SliceVerdict]  # the first is all pairs
    opis: Sequence[OpisVerdict]
    reliability: Mapping[str, Reliability]
    clipped_pairs: int  # judged labels given less probability than the log-loss can tell from 0

    @property
    def whole(self) -> SliceVerdict:
        """The slice of all pairs."""
        return self.slices[0]

    def to_json(self) -> dict[str, Any]:
        """The verdict as one JSON document; what has no value is null."""
        return {
            "format": FORMAT,
            "system": self.system,
            "against": self.against,
            "terms": self.terms.to_json(),
            "majority": self.majority.to_json(),
            "slices": [one.to_json() for one in self.slices],
            "opis": [one.to_json() for one in self.opis],
            "reliability": {name: one._asdict() for name, one in self.reliability.items()},
            "clipped_pairs": self.clipped_pairs,
        }


def _comparison(found: Mapping[str, Difference] | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"comparison": {name: one.to_json() for name, one in found.items()}}

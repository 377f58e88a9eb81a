"""OPIS of judged pairs: does one threshold on a score serve every query, locale or group alike?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.judge.judged import Floats, GroupCodes, Judged, System
from models.judge.opis import (
    FAR,
    THRESHOLDS,
    Range,
    Spread,
    calibration_range,
    cells_of,
    grid,
    spread,
    spread_of_drawn,
    utility,
)
from models.judge.resample import Draws
from models.labels import LABELS, Label

# With fewer positives than this the curve of a class is a coarse staircase.
COARSE_POSITIVES: Final = 10

# Elements of the largest intermediate array: 64 MiB of float64.
_BUDGET: Final = 1 << 23
# Elements of an intermediate array that stays in a core's cache: 256 KiB of float64.
_CACHED: Final = 1 << 15


@dataclass(frozen=True)
class ConsistencyTerms:
    """What OPIS is taken of.

    A class takes part with at least `fewest` positives and as many negatives: with one of either,
    its utility is all or nothing.
    """

    positives: tuple[Label, ...] = ("E",)
    negatives: tuple[Label, ...] = ("I",)
    epsilon: float = 0.1
    far: tuple[float, float] = FAR
    thresholds: int = THRESHOLDS
    fewest: int = 2
    c: float = 1.0

    def __post_init__(self) -> None:
        for side, labels in (("positives", self.positives), ("negatives", self.negatives)):
            if not labels or set(labels) - set(LABELS):
                raise ConfigError(
                    f"OPIS {side} are {', '.join(labels) or 'none'}; expected some of "
                    f"{', '.join(LABELS)}"
                )
        if both := set(self.positives) & set(self.negatives):
            raise ConfigError(
                f"OPIS takes {', '.join(sorted(both))} as positive and as negative; "
                "give each label one side, or none"
            )
        if not 0 < self.epsilon < 1:
            raise ConfigError(
                f"epsilon is {self.epsilon:g}; expected a share between 0 and 1, such as 0.1"
            )
        low, high = self.far
        if not 0 < low < high < 1:
            raise ConfigError(
                f"OPIS false-accept rates are {low:g} and {high:g}; expected a lower and a higher "
                "share between 0 and 1, such as 0.01 and 0.1"
            )

    @property
    def distance(self) -> str:
        """The distance in words."""
        return " - ".join(["1", *(f"P({label})" for label in self.positives)])


@dataclass(frozen=True, eq=False)
class Classes:
    """What the pairs are grouped by: a code per pair and a name per code."""

    name: str
    codes: GroupCodes  # (pairs,)
    values: Sequence[str]


@dataclass(frozen=True, eq=False)
class PreparedCurves:
    """One system's distances placed on its thresholds, and the utility curve of each class."""

    between: Range
    thresholds: Floats
    curves: Floats  # (classes that take part, thresholds)
    totals: Floats  # (cells,): pairs per cell; class, side and threshold are one number
    live: NDArray[np.int64]  # (cells with any pair,): which they are
    starts: NDArray[np.intp]  # (cells with any pair,): where the queries of each begin
    queries: GroupCodes  # (pairs of those classes,): their queries, cell by cell


def positive_distance(system: System, positives: Sequence[Label]) -> Floats:
    """1 - P(a positive label): small where the system would answer with the pair."""
    codes = [LABELS.index(label) for label in positives]
    return np.asarray(1 - system.probabilities[:, codes].sum(axis=1))


@dataclass(frozen=True, eq=False)
class Consistency:
    """OPIS over one grouping of judged pairs, as a family of metrics.

    The range is where the pooled negatives of all pairs, also of classes that do not take part, are
    accepted at the rates of `terms.far`. It is an operating requirement: resamples keep the range
    of the full data. Two systems swap curves point by point of their ranges, for a distance of one
    means nothing to the other.

    Its distance is 1 - P(a positive label). Where all pairs lie in one query, nothing can be
    resampled.
    """

    judged: Judged
    classes: Classes
    terms: ConsistencyTerms = ConsistencyTerms()

    metrics = ("opis", "epsilon_opis_a", "epsilon_opis_b")

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """Positives of each class, shape (all classes,)."""
        return self._count(self._is_positive)

    @cached_property
    def negatives(self) -> NDArray[np.int64]:
        """Negatives of each class, shape (all classes,)."""
        return self._count(self._is_negative)

    @cached_property
    def kept(self) -> NDArray[np.intp]:
        """The classes that take part."""
        fewest = max(self.terms.fewest, 1)
        return np.flatnonzero((self.positives >= fewest) & (self.negatives >= fewest))

    @cached_property
    def is_nested(self) -> bool:
        """Whether every class lies within one query, so that resampling only reweighs classes."""
        owner = self.judged.queries[self._pairs]
        return bool((owner == self._query_of_class[self._class_of_pair]).all())

    def reason_undefined(self, prepared: PreparedCurves | None) -> str | None:
        """Why there is no OPIS, or None where there is."""
        if len(self.kept) < 2:
            return (
                f"{len(self.kept)} of {len(self.positives)} classes have at least "
                f"{self.terms.fewest} positives and negatives; two are needed"
            )
        if prepared is None:
            return "the two false-accept rates fall on one distance, so there is no range"
        return None

    def prepare(self, system: System) -> PreparedCurves | None:
        """Thresholds and curves of one system; None where its range is empty."""
        distances = positive_distance(system, self.terms.positives)
        between = calibration_range(distances[self._is_negative], self.terms.far)
        if between is None:
            return None
        thresholds = grid(between, self.terms.thresholds)
        sides = self._class_of_pair * 2 + self._is_negative[self._pairs]
        cells = cells_of(distances[self._pairs], sides, thresholds)
        totals = np.bincount(cells, minlength=self._cell_count).astype(np.float64)
        live = np.flatnonzero(totals)
        return PreparedCurves(
            between=between,
            thresholds=thresholds,
            curves=self._curves(totals),
            totals=totals,
            live=live,
            starts=np.cumsum(totals[live]).astype(np.intp) - totals[live].astype(np.intp),
            queries=self.judged.queries[self._pairs[np.argsort(cells, kind="stable")]],
        )

    def point(self, prepared: PreparedCurves | None) -> Floats:
        """OPIS and both readings of epsilon-OPIS."""
        if self.reason_undefined(prepared) or prepared is None:
            return np.full(len(self.metrics), np.nan)
        once = np.ones((len(self.kept), 1))
        return _stack(spread(prepared.curves, once, self.terms.epsilon)).reshape(-1)

    def resampled(self, prepared: PreparedCurves | None, draws: Draws) -> Floats:
        """The metrics of each resample; a class counts as often as its query is drawn."""
        if self.reason_undefined(prepared) or prepared is None or not self._can_resample:
            return np.full((len(draws), len(self.metrics)), np.nan)
        parts = []
        for part in self._parts(draws):
            if self.is_nested:
                weights = part.weights(self._query_of_class)
                parts.append(_stack(spread(prepared.curves, weights, self.terms.epsilon)))
            else:
                parts.append(self._spread_of_totals(self._totals(prepared, part)))
        return np.concatenate(parts)

    def swapped(
        self, first: PreparedCurves | None, second: PreparedCurves | None, draws: Draws
    ) -> tuple[Floats, Floats]:
        """The metrics of both systems after each swap of queries."""
        if self.reason_undefined(first) or self.reason_undefined(second) or not first or not second:
            nothing = np.full((len(draws), len(self.metrics)), np.nan)
            return nothing, nothing
        parts = [
            self._swap_curves(first, second, part)
            if self.is_nested
            else self._swap_totals(first, second, part)
            for part in self._parts(draws)
        ]
        return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])

    def _swap_curves(
        self, first: PreparedCurves, second: PreparedCurves, part: Draws
    ) -> tuple[Floats, Floats]:
        moved = part.weights(self._query_of_class)
        curves = np.concatenate([first.curves, second.curves])
        one = spread(curves, np.concatenate([1 - moved, moved]), self.terms.epsilon)
        other = spread(curves, np.concatenate([moved, 1 - moved]), self.terms.epsilon)
        return _stack(one), _stack(other)

    def _swap_totals(
        self, first: PreparedCurves, second: PreparedCurves, part: Draws
    ) -> tuple[Floats, Floats]:
        moved = self._totals(second, part) - self._totals(first, part)
        return (
            self._spread_of_totals(first.totals + moved),
            self._spread_of_totals(second.totals - moved),
        )

    @cached_property
    def _can_resample(self) -> bool:
        owner = self.judged.queries[self._pairs]
        return bool((owner != owner[0]).any())

    @cached_property
    def _is_positive(self) -> NDArray[np.bool_]:
        return self._has_label(self.terms.positives)

    @cached_property
    def _is_negative(self) -> NDArray[np.bool_]:
        return self._has_label(self.terms.negatives)

    def _has_label(self, labels: tuple[Label, ...]) -> NDArray[np.bool_]:
        return np.isin(self.judged.labels, [LABELS.index(label) for label in labels])

    def _count(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.classes.codes[rows], minlength=len(self.classes.values))

    @cached_property
    def _pairs(self) -> NDArray[np.intp]:
        """Positives and negatives of the classes that take part."""
        takes_part = np.zeros(len(self.classes.values), bool)
        takes_part[self.kept] = True
        return np.flatnonzero(
            takes_part[self.classes.codes] & (self._is_positive | self._is_negative)
        )

    @cached_property
    def _class_of_pair(self) -> GroupCodes:
        """For each of those pairs, the place of its class among the kept."""
        return np.searchsorted(self.kept, self.classes.codes[self._pairs])

    @cached_property
    def _query_of_class(self) -> GroupCodes:
        """The query of each class that takes part; some query of it where it has several."""
        owner = np.zeros(len(self.kept), np.int64)
        owner[self._class_of_pair] = self.judged.queries[self._pairs]
        return owner

    @property
    def _cell_count(self) -> int:
        return len(self.kept) * 2 * (self.terms.thresholds + 1)

    def _totals(self, prepared: PreparedCurves, draws: Draws) -> Floats:
        """Pairs per cell under each draw, shape (draws, cells)."""
        totals = np.zeros((len(draws), self._cell_count))
        for draw, counts in enumerate(np.ascontiguousarray(draws.counts.T)):
            # Four times as fast as a weighted bincount, and no matrix of queries by cells.
            totals[draw, prepared.live] = np.add.reduceat(
                counts[prepared.queries], prepared.starts, dtype=np.int64
            )
        return totals

    def _curves(self, totals: Floats) -> Floats:
        """Utility curves from pairs per cell, (..., cells) to (classes, ..., thresholds)."""
        shape = (*totals.shape[:-1], len(self.kept), 2, self.terms.thresholds + 1)
        by_class = np.moveaxis(totals.reshape(shape), -3, 0)
        curves = np.empty((*by_class.shape[:-2], self.terms.thresholds))
        # Some classes at a time: what a curve takes on the way then stays in the cache.
        step = max(1, _CACHED * len(by_class) // max(totals.size, 1))
        for start in range(0, len(by_class), step):
            part = by_class[start : start + step]
            curves[start : start + step] = utility(part[..., 0, :], part[..., 1, :], self.terms.c)
        return curves

    def _spread_of_totals(self, totals: Floats) -> Floats:
        return _stack(spread_of_drawn(self._curves(totals), self.terms.epsilon))

    def _parts(self, draws: Draws) -> Iterator[Draws]:
        """The draws in parts whose intermediate arrays stay within the budget."""
        per_draw = len(self.kept) if self.is_nested else self._cell_count
        step = max(1, _BUDGET // per_draw)
        for start in range(0, len(draws), step):
            yield Draws(draws.counts[:, start : start + step])


def _stack(found: Spread) -> Floats:
    return np.stack(found, axis=-1)  # (draws, metrics)

"""Families of metrics: from sums per query to values, their resamples and their permutations.

A metric here is a function of sums over queries: confusion counts, summed losses, accepted pairs
per threshold. A resample of queries is then a row of weights, a thousand resamples are one matrix
product, and no resample ever touches a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from models.judge.judged import Floats, GroupCodes, Judged, System
from models.judge.resample import Draws, Estimate, estimates

Prepared = TypeVar("Prepared")


class Family(Protocol[Prepared]):
    """Metrics that come from one kind of sums; a metric without a value is NaN."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, in the order of the last axis of every answer."""
        ...

    def prepare(self, system: System) -> Prepared:
        """Whatever is worth computing once per system."""
        ...

    def point(self, prepared: Prepared) -> Floats:
        """The metrics over all queries, shape (metrics,)."""
        ...

    def resampled(self, prepared: Prepared, draws: Draws) -> Floats:
        """The metrics of each resample of queries, shape (draws, metrics)."""
        ...

    def swapped(self, first: Prepared, second: Prepared, draws: Draws) -> tuple[Floats, Floats]:
        """The metrics of both systems after they swap answers on the queries each draw marks."""
        ...


@dataclass(frozen=True, eq=False)
class Assessment(Generic[Prepared]):
    """One system under one family: its metrics, and those of each resample."""

    metrics: tuple[str, ...]
    prepared: Prepared
    values: Floats  # (metrics,)
    replicates: Floats  # (resamples, metrics)

    @classmethod
    def of(
        cls, family: Family[Prepared], system: System, resamples: Draws
    ) -> "Assessment[Prepared]":
        """Judge `system` once and under every resample."""
        prepared = family.prepare(system)
        return cls(
            family.metrics, prepared, family.point(prepared), family.resampled(prepared, resamples)
        )

    def estimates(self) -> dict[str, Estimate]:
        """Every metric with its interval."""
        return dict(zip(self.metrics, estimates(self.values, self.replicates), strict=True))


class Measure(Protocol):
    """A family whose values are a function of a few sums per query."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, in the order of the last axis of `values`."""
        ...

    @property
    def width(self) -> int:
        """How many sums it keeps per query."""
        ...

    def sums(self, judged: Judged, system: System) -> Floats:
        """Sums per query, shape (queries, width)."""
        ...

    def values(self, totals: Floats) -> Floats:
        """Metrics from totals over queries, shape (..., width) to (..., metrics)."""
        ...


@dataclass(frozen=True, eq=False)
class Additive:
    """Several measures as one family, so that their sums share one matrix product.

    One query cannot be resampled: all its resamples would be alike.
    """

    judged: Judged
    units: GroupCodes  # (queries of judged,): their rows in the draws
    measures: Sequence[Measure]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of every measure, in order."""
        return tuple(name for measure in self.measures for name in measure.metrics)

    def prepare(self, system: System) -> Floats:
        """Sums per query, shape (queries, widths of all measures)."""
        return np.hstack([measure.sums(self.judged, system) for measure in self.measures])

    def point(self, prepared: Floats) -> Floats:
        """The metrics over all queries."""
        return self._values(prepared.sum(axis=0))

    def resampled(self, prepared: Floats, draws: Draws) -> Floats:
        """The metrics of each resample."""
        if len(self.units) < 2:
            return np.full((len(draws), len(self.metrics)), np.nan)
        return self._values(draws.totals(prepared, self.units))

    def swapped(self, first: Floats, second: Floats, draws: Draws) -> tuple[Floats, Floats]:
        """The metrics of both systems after each swap."""
        moved = draws.totals(second - first, self.units)
        return (
            self._values(first.sum(axis=0) + moved),
            self._values(second.sum(axis=0) - moved),
        )

    def _values(self, totals: Floats) -> Floats:
        ends = np.cumsum([measure.width for measure in self.measures])[:-1]
        parts = np.split(totals, ends, axis=-1)
        return np.concatenate(
            [measure.values(part) for measure, part in zip(self.measures, parts, strict=True)],
            axis=-1,
        )

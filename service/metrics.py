"""Counters and timings in Prometheus' text format: two kinds of numbers, no library."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# A cached pair answers in about a millisecond; a thousand cold ones may take seconds.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

LabelValues = tuple[str, ...]


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    pairs = [f'{name}="{quoted(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


@dataclass
class Counter:
    """A number that only grows, for each combination of label values."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    _values: dict[LabelValues, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, amount: float = 1.0, *values: str) -> None:
        """Count `amount` more under these label values."""
        self._values[values] += amount

    def lines(self, constant: Mapping[str, str]) -> Iterator[str]:
        """The exposition, with `constant` labels on every line."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} counter"
        for values, total in sorted(self._values.items()):
            labels = _labels((*constant, *self.labels), (*constant.values(), *values))
            yield f"{self.name}{labels} {total:g}"


@dataclass
class Histogram:
    """How often something took at most so many seconds, for each combination of label values."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = SECONDS
    _counts: dict[LabelValues, list[int]] = field(default_factory=dict)
    _sums: dict[LabelValues, float] = field(default_factory=lambda: defaultdict(float))

    def observe(self, seconds: float, *values: str) -> None:
        """Count one more that took `seconds`."""
        counts = self._counts.setdefault(values, [0] * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, seconds)] += 1
        self._sums[values] += seconds

    def lines(self, constant: Mapping[str, str]) -> Iterator[str]:
        """The exposition, with `constant` labels on every line."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        names = (*constant, *self.labels)
        for values, counts in sorted(self._counts.items()):
            own = (*constant.values(), *values)
            edges = [f"{bound:g}" for bound in self.bounds] + ["+Inf"]
            for edge, total in zip(edges, accumulate(counts), strict=True):
                yield f"{self.name}_bucket{_labels((*names, 'le'), (*own, edge))} {total}"
            yield f"{self.name}_sum{_labels(names, own)} {self._sums[values]:.9g}"
            yield f"{self.name}_count{_labels(names, own)} {sum(counts)}"


@dataclass(frozen=True)
class Watched:
    """A number that is asked for when someone looks."""

    name: str
    help: str
    read: Callable[[], float]
    kind: Literal["gauge", "counter"] = "gauge"

    def lines(self, constant: Mapping[str, str]) -> Iterator[str]:
        """The exposition, with `constant` labels on the line."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        yield f"{self.name}{_labels(tuple(constant), tuple(constant.values()))} {self.read():g}"


class Metrics:
    """What the service counts; only the event loop writes, so there are no locks.

    A process counts for itself. With several workers each line carries `worker`, because a scrape
    reaches any one of them: their numbers belong to different series, to be summed by the reader.
    """

    def __init__(self, constant: Mapping[str, str]) -> None:
        self._constant = dict(constant)
        self.requests = Counter(
            "esci_requests_total", "Requests answered.", ("route", "method", "status")
        )
        self.seconds = Histogram(
            "esci_request_seconds", "Seconds from request to answer.", ("route",)
        )
        self.phases = Histogram(
            "esci_phase_seconds", "Seconds of each phase of a classification.", ("phase",)
        )
        self.pairs = Counter("esci_pairs_total", "Pairs answered, by where from.", ("source",))
        self.forgone = Counter(
            "esci_labels_forgone_total",
            "Pairs not remembered: a store of neighbourhoods was away, or switched over meanwhile.",
        )
        self._watched: list[Watched] = []

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Expose what `read` returns, which may fall."""
        self._watched.append(Watched(name, text, read))

    def watch_total(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Expose what `read` returns, which only grows."""
        self._watched.append(Watched(name, text, read, "counter"))

    def count_classification(
        self, n_pairs: int, hits: int, forgone: int, phases_ms: Mapping[str, float]
    ) -> None:
        """Count one request's pairs, and how long its phases took."""
        self.forgone.add(forgone)
        self.pairs.add(hits, "cache")
        self.pairs.add(n_pairs - hits, "ensemble")
        for phase, milliseconds in phases_ms.items():
            self.phases.observe(milliseconds / 1000, phase)

    def exposition(self) -> str:
        """Everything in Prometheus' text format."""
        counted = (self.requests, self.seconds, self.phases, self.pairs, self.forgone)
        kept: list[Counter | Histogram | Watched] = [*counted, *self._watched]
        return "".join(line + "\n" for one in kept for line in one.lines(self._constant))

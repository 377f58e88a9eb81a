"""The figures of a dataset, as plain values: nothing here reads, prints or draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.labels import LABELS
from models.typed import plain

EVERY: Final = "all"
"""The name of the sum over locales or splits."""

# What a null is counted under; no locale, split or relation is called so.
ABSENT: Final = "(none)"


@dataclass(frozen=True)
class Spread:
    """A distribution of whole numbers; the quantiles are values that occur."""

    count: int = 0
    mean: float = 0.0
    median: int = 0
    p95: int = 0
    max: int = 0

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> Self:
        """The spread of a distribution in which value v occurs counts[v] times."""
        up_to = np.cumsum(counts)
        if not len(counts) or not (total := int(up_to[-1])):
            return cls()
        median, p95 = np.searchsorted(up_to, [np.ceil(0.5 * total), np.ceil(0.95 * total)])
        mean = float(counts @ np.arange(len(counts))) / total
        return cls(total, mean, int(median), int(p95), int(np.flatnonzero(counts)[-1]))


@dataclass(frozen=True)
class Slice:
    """The pairs of one locale (or all) and one split (or all)."""

    locale: str
    split: str
    pairs: int
    queries: int
    products: int
    labels: Mapping[str, int]

    def share(self, label: str) -> float:
        """The share of a label among the pairs."""
        return self.labels.get(label, 0) / self.pairs if self.pairs else 0.0


@dataclass(frozen=True)
class Shift:
    """How the label mix of a locale moves from train to test, in shares of one."""

    locale: str
    labels: Mapping[str, float]  # test minus train
    total_variation: float  # half the sum of the absolute differences

    @classmethod
    def between(cls, train: Slice, test: Slice) -> Self:
        """The shift from `train` to `test`."""
        labels = list(dict.fromkeys([*LABELS, *train.labels, *test.labels]))
        moved = {label: test.share(label) - train.share(label) for label in labels}
        return cls(train.locale, moved, sum(map(abs, moved.values())) / 2)


@dataclass(frozen=True)
class Judged:
    """How many judged products the queries of one split have."""

    split: str
    products: Spread
    histogram: Sequence[int]  # queries with 0, 1, 2 ... judged products
    single_level: float  # share of queries with one label only: any ranking of them is perfect
    five_or_more: float  # share of queries with at least five judged products


@dataclass(frozen=True)
class Unseen:
    """The products of the test pairs that no training pair names."""

    products: int  # distinct, in test
    unseen_products: int
    pairs: int  # in test
    unseen_pairs: int


@dataclass(frozen=True)
class Field:
    """One text of the products of a locale; lengths are of the products that have it."""

    present: int
    characters: Spread
    tokens: Spread


@dataclass(frozen=True)
class Catalogue:
    """The products of one locale."""

    locale: str
    products: int
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class QueryTexts:
    """The distinct queries of one locale."""

    locale: str
    characters: Spread
    tokens: Spread
    words: Mapping[str, int]  # the most frequent, with the number of queries times occurrences


@dataclass(frozen=True)
class Amount:
    """Rows of behaviours of one relation, locale and month; a month is "2024-05"."""

    relation: str
    locale: str
    month: str
    rows: int
    weight: float


@dataclass(frozen=True)
class Concentration:
    """How much of the weight the heaviest queries carry."""

    queries: int
    top_percent: float  # share of the weight of the heaviest 1 % of the queries
    shares_of_queries: Sequence[float]  # a curve: these shares, heaviest first ...
    shares_of_weight: Sequence[float]  # ... carry these shares


@dataclass(frozen=True)
class Cold:
    """What has no behaviour at all."""

    queries: int  # judged queries
    cold_queries: int
    products: int  # of the catalogue
    cold_products: int


@dataclass(frozen=True)
class Behaviours:
    """The behaviours file."""

    rows: int
    weight: float
    amounts: Sequence[Amount]
    concentration: Concentration
    cold: Cold

    def by(self, *names: str) -> dict[tuple[str, ...], tuple[int, float]]:
        """Rows and weight summed by "relation", "locale" or "month", in the order they come."""
        sums: dict[tuple[str, ...], tuple[int, float]] = {}
        for amount in self.amounts:
            key = tuple(getattr(amount, name) for name in names)
            rows, weight = sums.get(key, (0, 0.0))
            sums[key] = (rows + amount.rows, weight + amount.weight)
        return sums


@dataclass(frozen=True)
class Links:
    """The product links of one relation."""

    relation: str
    links: int
    weight: float
    products: int  # that have a link
    degree: Spread  # links per product that has one
    degrees: Mapping[str, int]  # products by degree: "1", "2-3", "4-7" ...


@dataclass(frozen=True)
class Graph:
    """What behaviours and links connect in one locale; every pair of nodes is one edge."""

    locale: str
    edges: Mapping[str, int]  # distinct pairs of each relation
    queries: int  # that have an edge
    products: int
    cold_products: int  # of the catalogue, without any edge
    product_degree: Spread  # neighbours of each product that has one
    query_degree: Spread
    components: int  # connected parts of those that have an edge
    largest: int  # nodes of the largest of them


@dataclass(frozen=True)
class DatasetStats:
    """Everything `esci data stats` shows."""

    folder: str
    rows: Mapping[str, int]  # per file
    slices: Sequence[Slice]
    shifts: Sequence[Shift]
    judged: Sequence[Judged]
    unseen: Unseen | None  # None without both splits
    judged_in_catalogue: int  # products of the catalogue that some pair names
    catalogues: Sequence[Catalogue]
    brands: int
    top_brands: Mapping[str, int]
    queries: Sequence[QueryTexts]
    behaviours: Behaviours | None
    links: Sequence[Links] | None
    graphs: Sequence[Graph]  # empty without behaviours and links

    def to_json(self) -> dict[str, Any]:
        """As dictionaries, lists and numbers."""
        found: dict[str, Any] = plain(self)
        return found

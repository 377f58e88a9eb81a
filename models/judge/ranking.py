"""Ranking quality: nDCG over whole lists, with gains from a named table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.judge.judged import Floats, GroupCodes, Judged, System, ratio
from models.labels import DEFAULT_GAINS, LABELS, gains


@dataclass(frozen=True)
class Ranking:
    """nDCG = DCG / ideal DCG, DCG = sum of gain / log2(rank + 1) over the whole list.

    Gains are used directly, not as exponents. Lists are ranked by expected gain, and pairs of one
    score share the mean discount of the ranks they take, which is the mean over all orders of the
    tied pairs: it depends on no order of the file, and a constant score gets what a random ranking
    gets on average.

    - ndcg: the mean over all lists. A list without any gain has no ideal and counts as 0, as in
      trec_eval.
    - ndcg_mixed: the mean over the lists that hold more than one gain. The others score the same
      under every ranking and only dilute the first.
    """

    table: str = DEFAULT_GAINS

    width = 4
    metrics = ("ndcg", "ndcg_mixed")

    def sums(self, judged: Judged, system: System) -> Floats:
        """Per query: nDCG and number of its lists, and of those that hold more than one gain."""
        ndcg = list_ndcg(judged, expected_gain(system.probabilities, self.table), self.table)
        mixed = mixed_lists(judged, self.table)
        columns: list[NDArray[Any] | None] = [ndcg, None, ndcg * mixed, mixed]
        count = judged.query_count
        return np.stack(
            [np.bincount(judged.list_queries, column, count) for column in columns], axis=1
        ).astype(np.float64)

    def values(self, totals: Floats) -> Floats:
        """Means over lists."""
        lists = totals[..., 1::2]
        return ratio(totals[..., 0::2], lists)


def expected_gain(probabilities: Floats, table: str) -> Floats:
    """The gain to expect of each pair: sum over labels of probability times gain."""
    expected = np.zeros(len(probabilities))
    # One label at a time: a matrix product rounds equal rows differently, which undoes ties.
    for code, gain in enumerate(gains(table)):
        expected += probabilities[:, code] * gain
    return expected


def list_ndcg(judged: Judged, score: Floats, table: str) -> Floats:
    """The nDCG of each list under `score`, shape (lists,); 0 for a list without any gain."""
    order = np.lexsort((-score, judged.lists))
    lists, score = judged.lists[order], score[order]
    sizes = np.bincount(lists)
    rank = np.arange(len(lists)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # from 0

    first_of_tie = np.ones(len(lists), bool)
    first_of_tie[1:] = (lists[1:] != lists[:-1]) | (score[1:] != score[:-1])
    starts = np.flatnonzero(first_of_tie)
    tied = np.diff(np.append(starts, len(lists)))
    discount = np.add.reduceat(1 / np.log2(rank + 2), starts) / tied

    gain = gains(table)[judged.labels[order]]
    dcg = np.bincount(lists, gain * np.repeat(discount, tied))
    ideal = ideal_dcg(judged, table)
    return np.nan_to_num(ratio(dcg, ideal))


def ideal_dcg(judged: Judged, table: str) -> Floats:
    """The DCG of each list in its best order, shape (lists,)."""
    counts = list_label_counts(judged)
    value = gains(table)
    best_first = np.argsort(-value, kind="stable")
    ends = np.cumsum(counts[:, best_first], axis=1)  # (lists, labels)
    longest = int(ends[:, -1].max())
    # discounts[n] is what the first n ranks weigh together.
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(longest) + 2))])
    taken = np.diff(discounts[ends], axis=1, prepend=0.0)
    ideal: Floats = taken @ value[best_first]
    return ideal


def mixed_lists(judged: Judged, table: str) -> NDArray[np.bool_]:
    """Which lists hold more than one gain, so that their order matters, shape (lists,)."""
    present = list_label_counts(judged) > 0
    value = np.broadcast_to(gains(table), present.shape)
    highest = np.where(present, value, -np.inf).max(axis=1)
    lowest = np.where(present, value, np.inf).min(axis=1)
    return np.asarray(highest > lowest)


def list_label_counts(judged: Judged) -> NDArray[np.int64]:
    """How many pairs of each list have each label, shape (lists, labels)."""
    width = len(LABELS)
    cells: GroupCodes = judged.lists * width + judged.labels
    return np.bincount(cells, minlength=judged.list_count * width).reshape(-1, width)

"""Which queries and products of a batch attract and which repel: pure functions of judgements.

In-batch negatives are guesses, and the wrong ones are exactly what a hard-negative term punishes
most. A product is never guessed to be wrong for a query that was judged with it under any label,
or with a product of the same title; and queries of one text are one query.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.labels import Codes
from models.pairs import LabelledPairs, Products
from models.text import fold
from models.texts import Rows

Codes64 = NDArray[np.int64]
Gains = NDArray[np.float32]
"""Shape (queries, products): above 0 attracts, below 0 repels, 0 neither; the size is a weight."""


def title_codes(products: Products) -> Codes64:
    """A code per product, equal where the folded title is the same; no title is like no other."""
    code_of: dict[str, int] = {}
    codes = np.empty(len(products), np.int64)
    for row, title in enumerate(products.title):
        folded = fold(title)
        codes[row] = code_of.setdefault(folded, len(code_of)) if folded else -1
    untitled = np.flatnonzero(codes < 0)
    codes[untitled] = len(code_of) + np.arange(len(untitled))
    return codes


@dataclass(frozen=True, eq=False)
class Judgements:
    """What was judged, ready to be asked of any block of queries and products.

    Keys are query code times a stride plus product row or title code, sorted.
    """

    query_codes: Codes64  # (queries,)
    product_titles: Codes64  # (products,)
    stride: int
    judged: Codes64  # (judged pairs,): distinct
    gains: Gains  # (judged pairs,)
    judged_titles: Codes64  # (judged queries and titles,): distinct
    in_batch: bool

    @classmethod
    def of(cls, pairs: LabelledPairs, gains: Gains, in_batch: bool) -> Self:
        """The judgements of `pairs`; `gains` has one entry per label, in the order of LABELS.

        Where one query text was judged twice with one product, the gains must agree in sign, else
        the pair neither attracts nor repels; of several, the smallest counts.
        """
        queries, titles = pairs.queries.text_codes(), title_codes(pairs.products)
        stride = max(len(pairs.products), 1)
        keys = queries[pairs.query_rows] * stride + pairs.product_rows
        judged, place = np.unique(keys, return_inverse=True)
        return cls(
            query_codes=queries,
            product_titles=titles,
            stride=stride,
            judged=judged,
            gains=_agreed(gains, pairs.labels, place.reshape(-1), len(judged)),
            judged_titles=np.unique(
                queries[pairs.query_rows] * stride + titles[pairs.product_rows]
            ),
            in_batch=in_batch,
        )

    def block(self, query_rows: Rows, product_rows: Rows) -> Gains:
        """The gain of every query of `query_rows` with every product of `product_rows`."""
        offsets = self.query_codes[query_rows][:, None] * self.stride
        place, was_judged = _looked_up(self.judged, offsets + product_rows)
        _, same_title = _looked_up(self.judged_titles, offsets + self.product_titles[product_rows])
        if not len(self.judged):
            return np.full(was_judged.shape, -float(self.in_batch), np.float32)
        guess = np.where(self.in_batch & ~same_title, np.float32(-1), np.float32(0))
        return np.where(was_judged, self.gains[place], guess)


def _agreed(gains: Gains, labels: Codes, place: Codes64, count: int) -> Gains:
    """The gain of each distinct pair from those of its judgements."""
    least, most = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    np.minimum.at(least, place, gains[labels])
    np.maximum.at(most, place, gains[labels])
    agreed = np.where(least > 0, least, np.where(most < 0, most, 0))
    return np.asarray(agreed, np.float32)


def _looked_up(keys: Codes64, wanted: Codes64) -> tuple[Codes64, NDArray[np.bool_]]:
    """The place of each wanted key, and whether it is there at all."""
    if not len(keys):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, bool)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted

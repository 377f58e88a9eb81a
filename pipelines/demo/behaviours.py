"""What customers did: pages of results seen over a year, and what followed from them.

A page is one query on one day. Its customers look down the results and look at a lower one less
often (position bias); whether they click depends on what they see, hence on the relevance to what
they mean, which their words may not say.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.labels import Codes
from pipelines.demo.catalogue import Columns
from pipelines.demo.retrieval import Results

DAYS: Final = 365
PAGE_RESULTS: Final = 12
_MAX_PAGES: Final = 52  # so that pages of a query keep to days of their own
_NOISE: Final = 1.3  # of the engine's score, from one page to the next

# Chance that a customer looks at the result at each rank.
EXAMINED: Final = np.arange(1, PAGE_RESULTS + 1) ** -0.6
# Chances of each further step, in the order of LABELS.
CLICKED: Final = np.array([0.35, 0.17, 0.10, 0.03])  # once looked at
ADDED: Final = np.array([0.40, 0.22, 0.20, 0.05])  # once clicked
PURCHASED: Final = np.array([0.55, 0.35, 0.45, 0.15])  # once added
CONSUMED: Final = 0.3  # once purchased: used up, finished or played to the end


@dataclass(frozen=True)
class Pages:
    """Impressions and what followed from them, one row per query, product and day."""

    queries: NDArray[np.int64]  # rows of the results
    products: NDArray[np.int64]  # rows of the catalogue
    days: NDArray[np.int64]  # since the first day of the year
    ranks: NDArray[np.int64]  # from 0; not written, as real logs are often without it
    labels: Codes  # the truth; not written
    counts: NDArray[np.int64]  # (relations, rows), in the order of layout.BEHAVIOUR_RELATIONS

    def flatten(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Row, relation and weight of whatever happened at all, each row's relations together."""
        rows, relations = np.nonzero(self.counts.T)
        return rows, relations, self.counts[relations, rows]


def browse(
    rng: np.random.Generator, results: Results, columns: Columns, searches: NDArray[np.int64]
) -> Pages:
    """Simulate a year of `searches` per query; a query nobody searched for leaves no trace."""
    pages = np.minimum(np.ceil(searches**0.6).astype(np.int64), _MAX_PAGES)
    query = np.repeat(np.arange(len(searches)), pages)  # (pages,)
    number = np.arange(len(query)) - np.repeat(np.cumsum(pages) - pages, pages)
    day = ((number + rng.random(len(query))) * DAYS / pages[query]).astype(np.int64)
    views = 1 + rng.poisson(np.maximum(searches[query] / pages[query] - 1, 0))

    # Who is new has not been shown to anyone.
    shown = np.where(columns["new"][results.rows], -np.inf, results.scores)
    scores = shown[query] + rng.gumbel(0, _NOISE, (len(query), shown.shape[1]))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_RESULTS]
    page, rank = np.nonzero(np.isfinite(np.take_along_axis(scores, order, axis=1)))
    at = order[page, rank]
    labels = results.labels[query[page], at]

    seen = views[page]
    clicks = rng.binomial(seen, EXAMINED[rank] * CLICKED[labels])
    adds = rng.binomial(clicks, ADDED[labels])
    purchases = rng.binomial(adds, PURCHASED[labels])
    counts = np.stack([seen, clicks, adds, purchases, rng.binomial(purchases, CONSUMED)])
    return Pages(query[page], results.rows[query[page], at], day[page], rank, labels, counts)

"""A made shop: what its customers do says more of a product than its title does."""

from functools import cache

import numpy as np

from models.labels import LABELS
from models.members.gnn import GnnMember, GnnOptions
from models.pairs import LabelledPairs, Pairs, Products, Queries
from models.surroundings import NO_DAY, Behaviours, Links, Surroundings
from models.typed import parse
from models.workbench import Workbench

RELATIONS = ("click", "purchase")
OPTIONS = {
    "features": 32,
    "width": 32,
    "fan_outs": [4, 3],
    "dropout": 0.0,
    "graph": {"relations": ["click", "purchase", "co_buy"]},
    "training": {"epochs": 8, "batch_size": 32, "learning_rate": 1e-2},
}
_WORDS = [
    "lamp",
    "desk",
    "chair",
    "shelf",
    "mirror",
    "carpet",
    "curtain",
    "pillow",
    "kettle",
    "toaster",
]
_COLOURS = ["red", "blue", "green", "black", "white"]


def surroundings(products: int = 60, queries: int = 20, rows: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    locales = ["us"] * (products - 10) + ["es"] * 10
    catalogue = Products.of(
        [
            {
                "product_id": f"P{row}",
                "locale": locale,
                "title": f"{rng.choice(_COLOURS)} {rng.choice(_WORDS)} no {row}",
                "brand": f"brand {row % 7}",
            }
            for row, locale in enumerate(locales)
        ]
    )
    asked = Queries.of(
        [f"{_COLOURS[row % 5]} {_WORDS[row % 10]} {row}" for row in range(queries)],
        ["us"] * (queries - 4) + ["es"] * 4,
    )
    query_rows = rng.integers(0, queries, rows).astype(np.int32)
    in_us = query_rows < queries - 4
    product_rows = np.where(
        in_us, rng.integers(0, products - 10, rows), rng.integers(products - 10, products, rows)
    ).astype(np.int32)
    behaviours = Behaviours(
        asked,
        query_rows,
        product_rows,
        rng.integers(0, 2, rows).astype(np.int16),
        RELATIONS,
        rng.integers(1, 6, rows).astype(np.float32),
        np.full(rows, NO_DAY, np.int32),
        0,
        True,
    )
    a, b = rng.integers(0, products - 10, (2, 60)).astype(np.int32)
    links = Links(a, b, np.zeros(60, np.int16), ("co_buy",), np.ones(60, np.float32), 0, True)
    return Surroundings(catalogue, behaviours, links, Pairs(asked, catalogue, *_none()))


def _none():
    return np.empty(0, np.int32), np.empty(0, np.int32)


def pairs(of: Surroundings, count: int = 120, seed: int = 1) -> LabelledPairs:
    """Pairs of the shop's own queries, labelled by what was bought."""
    rng = np.random.default_rng(seed)
    behaviours = of.behaviours
    rows = rng.choice(len(behaviours), count)
    labels = [LABELS[int(label)] for label in rng.integers(0, 4, count)]
    asked = Pairs(
        behaviours.queries,
        of.products,
        behaviours.query_rows[rows],
        behaviours.product_rows[rows],
    )
    return LabelledPairs.of(asked, labels)


def member(**changes) -> GnnMember:
    """An unfitted member."""
    return GnnMember("gnn", parse(GnnOptions, OPTIONS | changes))


def sides(labelled: LabelledPairs, queries: int = 3) -> tuple[LabelledPairs, LabelledPairs]:
    """What teaches, and the pairs of the first `queries`, which are chosen by."""
    is_valid = labelled.query_rows < queries
    return labelled.take(np.flatnonzero(~is_valid)), labelled.take(np.flatnonzero(is_valid))


def fit(
    made: GnnMember, of: Surroundings, labelled: LabelledPairs | None = None, **bench
) -> GnnMember:
    train, valid = sides(labelled or pairs(of))
    return made.fit(train, valid, Workbench(surroundings=lambda: of, **bench))


@cache
def fitted(convolution: str = "sage") -> GnnMember:
    return fit(member(convolution=convolution), surroundings())

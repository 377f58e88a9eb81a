"""What a dataset folder holds besides judged pairs, for members that hear of it."""

from pathlib import Path

import numpy as np

from models.graphs.keys import product_node_keys
from models.pairs import Pairs, Queries
from models.surroundings import Surroundings
from models.text import fold
from models.texts import Rows
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.dataset.read import Judgements, read_catalogue, read_judgements
from pipelines.dataset.relations import read_behaviours, read_links


def read_surroundings(data: Path, judgements: Judgements, judging: Rows) -> Surroundings:
    """The catalogue of `data` with behaviours, links and lists.

    The queries of the judgements of rows `judging` are marked as those that members do not learn
    from; their behaviours are there all the same, for members that are told to use them.
    """
    products = read_catalogue(data)
    pairs = judgements.pairs
    # Judgements know the products they name, and the catalogue has all of those.
    keys = product_node_keys(products)
    order = np.argsort(keys)
    at = order[np.searchsorted(keys[order], product_node_keys(pairs.products))]
    asked = pairs.queries.texts.take(np.unique(pairs.query_rows[judging]))
    return Surroundings(
        products=products,
        behaviours=read_behaviours(data, products),
        links=read_links(data, products),
        lists=Pairs(
            pairs.queries, products, pairs.query_rows, at[pairs.product_rows].astype(np.int32)
        ),
        held_out=frozenset(fold(text) for text in asked),
    )


def read_present(data: Path) -> Surroundings:
    """The catalogue of `data` with behaviours, links and, where there are any, lists.

    Nothing is held out: it is for answering with, and not for being judged by.
    """
    if (data / EXAMPLES_FILE).is_file():
        return read_surroundings(data, read_judgements(data), np.empty(0, np.int64))
    products, none = read_catalogue(data), np.empty(0, np.int32)
    lists = Pairs(Queries.of([], []), products, none, none)
    return Surroundings(
        products, read_behaviours(data, products), read_links(data, products), lists
    )

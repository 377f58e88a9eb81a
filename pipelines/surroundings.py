"""What a dataset folder holds besides judged pairs, for members that hear of it."""

from pathlib import Path

import numpy as np

from models.errors import DataError
from models.graphs.keys import NodeKeys, product_node_keys
from models.pairs import Pairs, Products, Queries
from models.surroundings import Surroundings
from models.text import fold
from models.texts import Rows
from pipelines.dataset.columns import ASK_VALIDATE
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCTS_FILE
from pipelines.dataset.read import Judgements, read_catalogue, read_judgements
from pipelines.dataset.relations import read_behaviours, read_links


def read_surroundings(data: Path, judgements: Judgements, judging: Rows) -> Surroundings:
    """The catalogue of `data` with behaviours, links and lists.

    The queries of the judgements of rows `judging` are marked as those that members do not learn
    from; their behaviours are there all the same, for members that are told to use them.
    """
    products, keys = _distinct_products(data)
    pairs = judgements.pairs
    # Judgements know the products they name, and the catalogue has all of those.
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
    products, none = _distinct_products(data)[0], np.empty(0, np.int32)
    lists = Pairs(Queries.of([], []), products, none, none)
    return Surroundings(
        products, read_behaviours(data, products), read_links(data, products), lists
    )


def _distinct_products(data: Path) -> tuple[Products, NodeKeys]:
    """The catalogue and the key of each product, of which none may come twice."""
    products = read_catalogue(data)
    keys = product_node_keys(products)
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(again):
        row = int(order[again[0] + 1])
        raise DataError(
            f"{data / PRODUCTS_FILE} row {row} has product {products.ids[row]!r} of locale "
            f"{products.locale(row)} again ({len(again)} such rows); expected each once: "
            f"{ASK_VALIDATE}"
        )
    return products, keys

"""What a dataset holds besides judged pairs: its catalogue, behaviours and links between products.

No label is here. Which pairs were judged at all is (`LISTED`), for lists are a behaviour too: of
whoever chose what to judge.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.pairs import Pairs, Products, Queries

NO_DAY: Final = int(np.iinfo(np.int32).min)
"""The day of a behaviour without a date."""

LISTED: Final = "listed"
"""The relation of a query to each product that was judged for it."""


@dataclass(frozen=True, eq=False)
class Behaviours:
    """What customers did after which query: row i is one relation of one pair on one day."""

    queries: Queries  # distinct by text and locale, those of the rows alone
    query_rows: NDArray[np.int32]  # (rows,)
    product_rows: NDArray[np.int32]  # (rows,) among the products that were given
    relations: NDArray[np.int16]  # (rows,) positions in relation_names
    relation_names: tuple[str, ...]
    weights: NDArray[np.float32]  # (rows,)
    days: NDArray[np.int32]  # (rows,) since 1970-01-01; NO_DAY where there is no date
    dropped: int  # rows left out because no such product was given
    present: bool  # whether the dataset has the file at all

    def __len__(self) -> int:
        return len(self.query_rows)


@dataclass(frozen=True, eq=False)
class Links:
    """Which products stand in which relation, whatever anyone searched for."""

    product_rows_a: NDArray[np.int32]  # (rows,) among the products that were given
    product_rows_b: NDArray[np.int32]  # (rows,)
    relations: NDArray[np.int16]  # (rows,) positions in relation_names
    relation_names: tuple[str, ...]
    weights: NDArray[np.float32]  # (rows,)
    dropped: int  # rows left out because one of their products was not given
    present: bool  # whether the dataset has the file at all

    def __len__(self) -> int:
        return len(self.product_rows_a)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A catalogue, who asked for what in it, and how its products belong together."""

    products: Products
    behaviours: Behaviours
    links: Links
    lists: Pairs  # that were judged, over the same products
    # Folded texts of queries that a member is not to learn from, for it will be judged by them.
    held_out: frozenset[str] = frozenset()

    @classmethod
    def of(cls, pairs: Pairs) -> Self:
        """What there is to know without a dataset: the products of `pairs`, and their lists."""
        named = pairs.compact()
        nothing, unweighted = np.empty(0, np.int32), np.empty(0, np.float32)
        none = np.empty(0, np.int16)
        return cls(
            products=named.products,
            behaviours=Behaviours(
                Queries.of([], []), nothing, nothing, none, (), unweighted, nothing, 0, False
            ),
            links=Links(nothing, nothing, none, (), unweighted, 0, False),
            lists=Pairs(named.queries, named.products, named.query_rows, named.product_rows),
        )

"""The head of a bi-encoder: two vectors to four logits, in numpy."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.files import atomic_file
from models.labels import LABELS
from models.member import Logits
from models.vectors.packing import Vectors

_BLOCK_PAIRS: Final = 2048  # whose intermediate arrays stay near a core's cache

# Rows of one matrix product. So few OpenBLAS multiplies on the thread that asks: its threads wait
# for each other longer than they work, and much longer on a busy machine (40 pairs of 384 numbers:
# 40 ms, against 0.05 ms). All products being of one shape, what a row gives does not depend on how
# many others are asked with it.
_ROWS: Final = 4
_MOST_MULTIPLIED: Final = 1 << 18  # numbers multiplied in one product, beyond which it has threads

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PairHead:
    """Weights over [q, p, |q - p|, q * p], then, with a hidden layer, over what that makes.

    The hidden layer is a rectifier; without one the first layer gives the logits and `second` is
    empty.
    """

    of_query: Weights  # (width, outputs)
    of_product: Weights
    of_distance: Weights
    of_agreement: Weights
    first_bias: Weights  # (outputs,)
    second: Weights  # (outputs, 4), or (0, 4)
    second_bias: Weights  # (4,)

    def __post_init__(self) -> None:
        shape = self.of_query.shape
        outputs = shape[-1] if len(self.second) else len(LABELS)
        expected: dict[str, tuple[int, ...]] = {
            "of_product": shape,
            "of_distance": shape,
            "of_agreement": shape,
            "first_bias": (outputs,),
            "second": (len(self.second), len(LABELS)),
            "second_bias": (len(LABELS),),
        }
        for name, wanted in expected.items():
            if getattr(self, name).shape != wanted:
                raise DataError(
                    f"{name} of a head has shape {getattr(self, name).shape}; expected {wanted}"
                )

    def logits(
        self,
        queries: Vectors,
        products: Vectors,
        query_rows: NDArray[np.integer],
        product_rows: NDArray[np.integer],
    ) -> Logits:
        """Four logits per pair of row numbers into `queries` and `products`.

        What depends on one vector alone is computed once for it.
        """
        from_query = _product(queries, self.of_query)  # (queries, outputs)
        from_product = _product(products, self.of_product) + self.first_bias  # (products, outputs)
        logits = np.empty((len(query_rows), len(LABELS)), np.float32)
        for start in range(0, len(query_rows), _BLOCK_PAIRS):
            block = slice(start, start + _BLOCK_PAIRS)
            at_query, at_product = query_rows[block], product_rows[block]
            q, p = queries[at_query], products[at_product]
            outputs = _product(np.abs(q - p), self.of_distance)
            outputs += _product(q * p, self.of_agreement)
            outputs += from_query[at_query] + from_product[at_product]
            if len(self.second):
                outputs = _product(np.maximum(outputs, 0), self.second) + self.second_bias
            logits[block] = outputs
        return logits

    def save(self, path: Path) -> None:
        """Write the weights as npz, the same bytes for the same weights."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with atomic_file(path) as scratch, scratch.open("wb") as target:
            np.savez(target, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The weights that `save` wrote."""
        with path.open("rb") as source, np.load(source, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def _product(vectors: Vectors, weights: Weights) -> Vectors:
    """`vectors @ weights`, a few rows and as many columns as one thread multiplies at a time."""
    count, width = vectors.shape
    stacks = -(-count // _ROWS)
    if count % _ROWS:
        vectors = np.concatenate([vectors, np.zeros((-count % _ROWS, width), np.float32)])
    stacked = vectors.reshape(stacks, _ROWS, width)
    outputs = weights.shape[1]
    columns = max(_MOST_MULTIPLIED // (_ROWS * max(width, 1)), 1)
    found = np.empty((stacks, _ROWS, outputs), np.float32)
    for start in range(0, outputs, columns):
        part = slice(start, start + columns)
        found[:, :, part] = stacked @ np.ascontiguousarray(weights[:, part])
    return found.reshape(stacks * _ROWS, outputs)[:count]

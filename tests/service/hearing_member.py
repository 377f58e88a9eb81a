"""A member whose answers show which states it looked up: a stored state is its product's logits."""

from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.member import Logits
from models.pairs import Pairs, Products
from models.states import Digests
from models.surroundings import Surroundings
from models.vectors.packing import Packed, Packing
from models.vectors.source import VectorSource, product_keys
from models.vectors.tally import Counts
from tests.service.hashing_member import HashingMember

PACKING = Packing("fp32", 4)


class HearingMember(HashingMember):
    """As it hashes, but for products of which a state is stored."""

    source: VectorSource | None = None

    def predict_logits(self, pairs: Pairs) -> Logits:
        logits = super().predict_logits(pairs)
        if self.source is not None:
            known, packed = self.source.get_many(product_keys(pairs.products))
            states = np.zeros((len(known), 4), np.float32)
            states[known] = PACKING.unpack(packed)
            stored = known[pairs.product_rows]
            logits[stored] = states[pairs.product_rows[stored]]
        return logits

    def vectors_identity(self) -> str:
        return f"{self.salt:064}"

    def state_packing(self) -> Packing:
        return PACKING

    def amid(self, surroundings: Surroundings) -> Self:
        raise AssertionError(surroundings)

    def catalogue_digests(self, products: Products, rows: NDArray[np.int64]) -> Digests:
        raise AssertionError(products, rows)

    def catalogue_states(self, products: Products, rows: NDArray[np.int64]) -> Packed:
        raise AssertionError(products, rows)

    def with_vectors(self, source: VectorSource) -> Self:
        other = copy(self)
        other.source = source
        return other

    def product_counts(self) -> Counts:
        return Counts(0, 0)

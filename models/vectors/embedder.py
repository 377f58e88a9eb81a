"""What a member is that compares vectors of queries and products."""

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.member import Member
from models.pairs import Pairs, Products
from models.vectors.filling import Tick, unheard
from models.vectors.source import VectorSource
from models.vectors.store import ProductVectors
from models.vectors.tally import Counts


@runtime_checkable
class Embedder(Protocol):
    """A member whose product vectors can be made once and looked up from then on.

    With stored vectors it answers what it answers without them. Methods alone, so that a kind can
    be asked whether it is one.
    """

    def vectors_identity(self) -> str:
        """A digest of what decides product vectors: those made under another mean nothing here."""
        ...

    def precompute(self, products: Products, folder: Path, tick: Tick = unheard) -> ProductVectors:
        """The vectors of `products` in the store in `folder`, with those already there.

        A store that is damaged is set aside and filled again.
        """
        ...

    def with_vectors(self, source: VectorSource) -> Self:
        """This member, answering products that `source` knows without encoding them."""
        ...

    def product_counts(self) -> Counts:
        """Products looked up and encoded since this one was loaded, or made of another."""
        ...

    def similarities(self, pairs: Pairs) -> NDArray[np.float32]:
        """The cosine of query and product of each pair."""
        ...


class EmbeddingMember(Member, Embedder, Protocol):
    """Both."""

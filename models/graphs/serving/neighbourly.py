"""What a member is whose products have states that hold their neighbourhoods."""

from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.member import Member
from models.pairs import Products
from models.states.protocol import Digests
from models.surroundings import Surroundings
from models.vectors.packing import Packed, Packing
from models.vectors.source import VectorSource
from models.vectors.tally import Counts


@runtime_checkable
class Neighbourly(Protocol):
    """A member whose product states can be computed ahead and looked up from then on.

    With states of the graph that it has itself it answers what it answers without. Methods alone,
    so that a kind can be asked whether it is one.
    """

    def vectors_identity(self) -> str:
        """A digest of what decides states besides the graph: others mean nothing here."""
        ...

    def state_packing(self) -> Packing:
        """How a state is stored."""
        ...

    def amid(self, surroundings: Surroundings) -> Self:
        """This member, hearing what customers do now."""
        ...

    def catalogue_digests(self, products: Products, rows: NDArray[np.int64]) -> Digests:
        """What decides the states of `rows` of the products of the surroundings it is amid."""
        ...

    def catalogue_states(self, products: Products, rows: NDArray[np.int64]) -> Packed:
        """Those states."""
        ...

    def with_vectors(self, source: VectorSource) -> Self:
        """This member, answering products that `source` knows without computing their states."""
        ...

    def product_counts(self) -> Counts:
        """Products looked up and computed since this one was loaded, or made of another."""
        ...


class NeighbourlyMember(Member, Neighbourly, Protocol):
    """Both."""

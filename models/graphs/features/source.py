"""What makes the vectors that nodes start from."""

from pathlib import Path
from typing import Protocol

from models.pairs import Products, Queries
from models.vectors.packing import Vectors


class FeatureSource(Protocol):
    """Vectors of about unit length, of queries and of products, that mean the same by direction.

    A vector depends on its own text and locale alone.
    """

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def identity(self) -> str:
        """A digest of what decides the vectors."""
        ...

    def of_queries(self, queries: Queries) -> Vectors:
        """A vector per query."""
        ...

    def of_products(self, products: Products) -> Vectors:
        """A vector per product."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that make the same source again."""
        ...

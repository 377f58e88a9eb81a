"""A folder of stores, one per product tower, from which members take their own.

    <shelf>/
      <member>-<identity>/     the store of one member, by its name and the start of its digest

A member that is trained again has another digest, and so another place: its old vectors are never
taken for its own, and are there again when the member before is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from models.errors import ReleaseError
from models.member import Member
from models.vectors.embedder import Embedder, EmbeddingMember
from models.vectors.store import ABOUT_FILE, ProductVectors

# Within a registry: where vectors lie of which nobody said otherwise.
VECTORS: Final = "vectors"
_DIGITS: Final = 12


@dataclass(frozen=True)
class Supplied:
    """Members with the vectors that were found for them."""

    members: Sequence[Member]  # all that were given, in their order
    products: Mapping[str, int]  # in the store of each member that has one
    missing: Mapping[str, str]  # why members that compare vectors have none; "" in an empty folder
    damaged: Mapping[str, str]  # members whose store was passed over: what is wrong with it

    @property
    def embedders(self) -> Sequence[EmbeddingMember]:
        """The members that compare vectors, in their order."""
        return [cast(EmbeddingMember, one) for one in self.members if isinstance(one, Embedder)]


@dataclass(frozen=True)
class Shelf:
    """The stores in one folder; it need not be there."""

    folder: Path

    def place_of(self, member: EmbeddingMember) -> Path:
        """Where the store of `member` is or would be."""
        return self.folder / f"{member.name}-{member.vectors_identity()[:_DIGITS]}"

    def find(self, member: EmbeddingMember) -> ProductVectors | None:
        """The store of `member`; None without one, an error if it is damaged."""
        place = self.place_of(member)
        return ProductVectors.open(place) if (place / ABOUT_FILE).exists() else None

    def get(self, member: EmbeddingMember) -> ProductVectors:
        """The store of `member`, which must be here: those of others do not help it."""
        store = self.find(member)
        if store is None:
            raise ReleaseError(f"{self._lack_of(member)}, or leave the vectors out")
        return store

    def supply(self, members: Sequence[Member], *, required: bool) -> Supplied:
        """The members, each with its store.

        Where `required`, all that compare vectors have one, and any damage is an error. Otherwise a
        member whose store cannot be used comes back as it was given.
        """
        given: list[Member] = []
        products: dict[str, int] = {}
        missing: dict[str, str] = {}
        damaged: dict[str, str] = {}
        for member in members:
            given.append(member)
            if not isinstance(member, Embedder):
                continue
            embedder = cast(EmbeddingMember, member)
            try:
                store = self.get(embedder) if required else self.find(embedder)
                if store is None:
                    missing[member.name] = self._lack_of(embedder) if self._stores() else ""
                else:
                    given[-1] = embedder.with_vectors(store)
                    products[member.name] = len(store)
            except (ReleaseError, OSError) as error:
                if required:
                    raise
                damaged[member.name] = str(error)
        if required and not products:
            raise ReleaseError(
                f"{self.folder} is to give product vectors, and no member compares any: "
                f"{', '.join(member.name for member in members)}; leave the vectors out"
            )
        return Supplied(given, products, missing, damaged)

    def _stores(self) -> list[str]:
        """The names of all stores here."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{ABOUT_FILE}"))

    def _lack_of(self, member: EmbeddingMember) -> str:
        return (
            f"{self.folder} holds no product vectors of member {member.name!r} as it is "
            f"({self.place_of(member).name}), but {', '.join(self._stores()) or 'none at all'}: "
            "compute them with esci precompute, as after every training"
        )

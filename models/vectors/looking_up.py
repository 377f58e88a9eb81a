"""What members have in common whose products have vectors that may be stored."""

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from models.errors import ReleaseError
from models.member import Cost, require_fitted
from models.sealed import Sealed
from models.vectors.source import VectorSource
from models.vectors.tally import Counts, Tally


class Served(Protocol):
    """A frozen dataclass that answers, with a field `source`: where vectors are looked up."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def identity(self) -> str:
        """A digest of what decides a product's vector."""
        ...

    @property
    def tally(self) -> Tally:
        """Products looked up and computed."""
        ...


ServedT = TypeVar("ServedT", bound=Served)


@dataclass(frozen=True, eq=False)
class Answering(Generic[ServedT]):
    """What a fitted member answers with, and its folder."""

    served: ServedT
    files: Sealed


class LookingUp(Generic[ServedT]):
    """A member that answers from its own folder, and products from where their vectors are known.

    One that is made of another by a change keeps that one: its folder goes when the last goes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fitted: Answering[ServedT] | None = None
        self._source: Self | None = None  # that was fitted

    def vectors_identity(self) -> str:
        """A digest of what decides a product's vector: those of another mean nothing here."""
        return self._whole().served.identity

    def with_vectors(self, source: VectorSource) -> Self:
        """This member, answering products that `source` knows without computing their vectors.

        Vectors of another member, or of this one before it was trained again, are refused.
        """
        ours = self._whole().served.identity
        if source.identity != ours:
            raise ReleaseError(
                f"these product vectors were made by {source.identity[:12]} and the member "
                f"{self.name!r} makes those of {ours[:12]}: compute them again with this member"
            )
        return self._but(source=source)

    def product_counts(self) -> Counts:
        """Products looked up and computed to answer since this one was loaded, or made of another.

        Those that were computed ahead are not among them.
        """
        return self._whole().served.tally.counts

    def cost(self) -> Cost:
        """What a benchmark measured, zero where none did."""
        return Cost()

    def save(self, folder: Path) -> None:
        """Write what was trained, what answers, and `member.json`."""
        self._whole().files.copy_to(folder)

    def _but(self, **changes: Any) -> Self:
        """This member with some fields of what serves changed, counting from nothing."""
        fitted = self._whole()
        other = copy(self)
        other._source = self
        other._fitted = replace(fitted, served=replace(fitted.served, tally=Tally(), **changes))
        return other

    def _whole(self) -> Answering[ServedT]:
        return require_fitted(self.name, self._fitted)

"""What a store of product states is: the one contract every back-end keeps."""

from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.vectors.packing import Packed
from models.vectors.source import Found, Keys, VectorSource

Digests: TypeAlias = NDArray[np.uint64]
"""One number per product, of everything that its state depends on, shape (products,)."""


Edition: TypeAlias = str | None
"""Which commit: each makes another edition, though it be of the same name to mend what was lost.

Empty where nothing is committed, so that what is answered is what is answered without a store. None
where the store does not say: it is in trouble, or left alone for a time.
"""


class Named(NamedTuple):
    """What a look-up found, and the edition that it was answered of."""

    found: Found
    edition: Edition


class Stamped(NamedTuple):
    """Which keys are known, and the digests of those, in the order of the keys."""

    known: NDArray[np.bool_]  # (keys,)
    digests: Digests  # (known keys,)


@dataclass(frozen=True)
class StoreHealth:
    """How a store fares."""

    store: str  # folder, sqlite or redis
    healthy: bool  # whether it is asked at all: it is left alone for a time after failing
    troubles: int  # times it was asked in vain since the start; each knew nothing


class Snapshot(VectorSource, Protocol):
    """The states of a catalogue as they were committed, and no others.

    Its records go some time after a later snapshot has taken its place: what lasts looks up in the
    store instead, which follows.
    """

    @property
    def name(self) -> str:
        """What it was begun by."""
        ...

    def __len__(self) -> int:
        """How many states are there; fewer than were committed where the store has lost some."""
        ...

    def digests(self, keys: Keys) -> Stamped:
        """What the states of those of `keys` that are known were computed from.

        For who writes: raises where `get_many` knows nothing.
        """
        ...


class Draft(Protocol):
    """A snapshot that is being filled, under a lock that its process lets go of, however it ends.

    Everything is kept at once, a kill included, and nothing of it is seen by readers until it is
    committed. A writer's trouble is an error. Blocks of some thousands are best: each is made
    durable by itself.
    """

    def known(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` are here, whole."""
        ...

    def take_over(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]:
        """Which of `keys` are here, once states were copied that have these digests elsewhere.

        From the current snapshot, and from drafts that nobody finished.
        """
        ...

    def append(self, keys: Keys, digests: Digests, packed: Packed) -> None:
        """Add states. What is here already may be given again, as it is, to no effect."""
        ...

    def commit(self, expected_count: int) -> None:
        """Make this the current snapshot, in one step, and have all others go.

        Refused unless `expected_count` keys are here. The draft is closed after it.
        """
        ...

    def close(self) -> None:
        """Let go of the lock; what is here stays for who begins the same snapshot again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class StateStore(VectorSource, Protocol):
    """The product states of one member as it is, by product key, of one snapshot at a time.

    Looking up is safe from many threads and never raises: a store in trouble knows nothing, and
    says so in its health. One call is answered by one snapshot, whole: from the next call after a
    switch by the new one. What is damaged is not known, and what another identity made is nowhere.
    """

    @property
    def where(self) -> str:
        """Where it is, in words that may be shown: without a password."""
        ...

    def edition(self) -> Edition:
        """The edition that look-ups are answered of now: one small read, which never raises.

        While it is current it answers a key alike, so what is made of its answers may be remembered
        by its name; unless the store loses some, and what mends that is another edition.
        """
        ...

    def get_named(self, keys: Keys) -> Named:
        """As `get_many`, with the edition that answered: it may be another than a moment ago.

        None also where there are no keys, and so nothing was asked.
        """
        ...

    def current(self) -> Snapshot | None:
        """The snapshot that look-ups are answered from now; raises where that cannot be told."""
        ...

    def begin(self, name: str) -> Draft:
        """The draft of that name, new or as it was left; a second writer is told so.

        The name says what is to be in it: a digest of the keys and their digests. That of the
        current snapshot begins one that takes its place, which mends what it has lost.
        """
        ...

    def forget_others(self) -> int:
        """Remove what other identities of this member have here, and return of how many.

        Whoever still serves those finds nothing any more. Refused while somebody writes.
        """
        ...

    def health(self) -> StoreHealth:
        """How the store fares; asks it nothing."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...

"""Which editions of stored states an answer was made of: under what it may be remembered."""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Final, TypeAlias, TypeVar

from models.states import Edition, StateStore
from models.vectors.source import Found, Keys

Editions: TypeAlias = Mapping[str, str]
"""The edition of each member that looks states up, by its name; empty where none does."""

T = TypeVar("T")

# What was looked up for the work that this thread does, by member.
_SEEN: Final[ContextVar[dict[str, set[Edition]] | None]] = ContextVar("seen", default=None)


class WatchedStates:
    """A member's store as it asks it, which tells whoever watches what it was answered of."""

    def __init__(self, member: str, store: StateStore) -> None:
        self._member = member
        self._store = store

    @property
    def identity(self) -> str:
        """The store's."""
        return self._store.identity

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that the store knows."""
        found, edition = self._store.get_named(keys)
        seen = _SEEN.get()
        if seen is not None and len(keys):
            seen.setdefault(self._member, set()).add(edition)
        return found


def watched(members: Iterable[str], work: Callable[[], T]) -> tuple[T, Editions | None]:
    """What `work` gives, and the edition that each of `members` looked its states up in for it.

    None where one was not answered, or of two editions, or did not ask in this thread: then nothing
    can be said.
    """
    seen: dict[str, set[Edition]] = {}
    token = _SEEN.set(seen)
    try:
        result = work()
    finally:
        _SEEN.reset(token)
    told: dict[str, str] = {}
    for member in members:
        editions = seen.get(member, set())
        edition = next(iter(editions)) if len(editions) == 1 else None
        if edition is None:
            return result, None
        told[member] = edition
    return result, told

"""The states of products with their neighbourhoods, which graph members look up while serving."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar, cast

from models.errors import EsciError
from models.graphs.serving.neighbourly import Neighbourly, NeighbourlyMember
from models.member import Member
from models.states import STATES, StateStore, open_states
from service.editions import Editions, WatchedStates, watched
from service.settings import Settings

log = logging.getLogger("service.neighbourhoods")

T = TypeVar("T")


@dataclass(frozen=True)
class Neighbourhoods:
    """Members with the stores that were found for them."""

    members: Sequence[Member]  # all that were given, in their order
    stores: Mapping[str, StateStore]  # by the name of the member that asks it

    @property
    def neighbourly(self) -> Sequence[NeighbourlyMember]:
        """The members that hear neighbourhoods, in their order."""
        found = [one for one in self.members if isinstance(one, Neighbourly)]
        return [cast(NeighbourlyMember, one) for one in found]

    async def editions(self) -> Editions | None:
        """What the stores answer of now, each asked once and all at the same time.

        None where one of them does not say. Without stores nothing is done.
        """
        if not self.stores:
            return {}
        asked = [asyncio.to_thread(store.edition) for store in self.stores.values()]
        found = dict(zip(self.stores, await asyncio.gather(*asked), strict=True))
        told = {member: edition for member, edition in found.items() if edition is not None}
        return told if len(told) == len(found) else None

    def watched(self, work: Callable[[], T]) -> tuple[T, Editions | None]:
        """What `work` gives, and the editions that every member looked its states up in for it."""
        return watched(self.stores, work)

    def close(self) -> None:
        """Let go of the stores."""
        for store in self.stores.values():
            store.close()


def find_neighbourhoods(members: Sequence[Member], settings: Settings) -> Neighbourhoods:
    """The graph members of `members`, looking up states that `esci precompute` has stored.

    Without a place that was named, the registry's folder is asked where there is one. A store that
    is empty, or away, may fill or come back: whoever asks meanwhile computes.
    """
    given: list[Member] = []
    stores: dict[str, StateStore] = {}
    named = settings.states is not None
    where = settings.states or str(settings.release / STATES)
    if not named and not (settings.release / STATES).is_dir():
        return Neighbourhoods(members, {})
    with ExitStack() as opened:  # let go of again, should one of them be refused
        for member in members:
            if not isinstance(member, Neighbourly):
                given.append(member)
                continue
            one = cast(NeighbourlyMember, member)
            identity, packing = one.vectors_identity(), one.state_packing()
            store = opened.enter_context(
                closing(
                    open_states(
                        where, one.name, identity, packing, timeout_ms=settings.states_timeout_ms
                    )
                )
            )
            stores[one.name] = store
            given.append(one.with_vectors(WatchedStates(one.name, store)))
            _tell(one.name, store)
        opened.pop_all()
    return Neighbourhoods(given, stores)


def _tell(member: str, store: StateStore) -> None:
    """Log how many states there are."""
    fields = {"member": member, "store": store.where}
    try:
        current = store.current()
    except EsciError as error:
        log.warning("neighbourhoods are away: %s", error, extra={"fields": fields})
    else:
        fields["states"] = str(len(current) if current else 0)
        log.info("neighbourhoods", extra={"fields": fields})

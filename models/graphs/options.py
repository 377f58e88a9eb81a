"""Which edges a graph has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.errors import ConfigError
from models.surroundings import LISTED, Surroundings
from models.typed import STRICT

ALL: Final = "all"
"""Every relation of the behaviours; where there are none, those derived from the data."""

SAME_BRAND: Final = "same_brand"
SIMILAR: Final = "similar"
DERIVED: Final = (LISTED, SAME_BRAND, SIMILAR)


@dataclass(frozen=True)
class GraphOptions:
    """The relations of a graph, and what counts in them."""

    __pydantic_config__ = STRICT

    # Names of behaviours and links in the data, or "all"; besides, made of the data where it has
    # nothing of that name: "listed" (a query and what was judged for it, without labels),
    # "same_brand", "similar" (nearest by features).
    relations: tuple[str, ...] = (ALL,)
    # Inductive: queries that are to be answered have no edges, as a new query has none. The
    # transductive graph holds the edges, never the labels, of those too.
    transductive: bool = False
    half_life_days: float | None = None  # after which a behaviour counts half; None: never
    most_neighbours: int = 256  # in one relation, those of most weight
    derived_neighbours: int = 10  # in same_brand and in similar

    def __post_init__(self) -> None:
        if not self.relations or len(set(self.relations)) != len(self.relations):
            raise ConfigError(
                f"relations {list(self.relations)}: expected at least one, and each once"
            )
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise ConfigError(f"half_life_days {self.half_life_days}: expected above 0, or none")
        if self.most_neighbours < 1 or self.derived_neighbours < 1:
            raise ConfigError("most_neighbours and derived_neighbours: expected at least 1")


def relation_names(wanted: Sequence[str], surroundings: Surroundings) -> tuple[str, ...]:
    """The relations that `wanted` means here; one that the data lacks is an error that says so."""
    behaviours, links = surroundings.behaviours, surroundings.links
    done = [
        name
        for number, name in enumerate(behaviours.relation_names)
        if (behaviours.relations == number).any()
    ]
    linked = [
        name
        for number, name in enumerate(links.relation_names)
        if (links.relations == number).any()
    ]
    found: dict[str, None] = {}
    for name in wanted:
        if name == ALL:
            found |= dict.fromkeys(done or DERIVED)
        elif name in (*done, *linked, *DERIVED):
            found[name] = None
        else:
            raise ConfigError(
                f"relation {name!r} is not in the data: behaviours are {', '.join(done) or 'none'} "
                f"and links {', '.join(linked) or 'none'}; expected one of those, {ALL}, or made "
                f"of the data: {', '.join(DERIVED)}"
            )
    return tuple(found)

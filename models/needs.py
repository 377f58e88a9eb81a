"""What a fit takes besides its pairs, asked before hours of other work rather than after them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Needs:
    """What the options of a member ask for."""

    modules: tuple[str, ...] = ()  # to import, besides those that every fit of the kind imports
    # A digest of each thing that lies elsewhere and decides what the member will be, by what it is
    # to the member, as in "backbone": a part that was made from another is not this one.
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    members: tuple[str, ...] = ()  # of the same run, by name, to be trained before


@runtime_checkable
class Needy(Protocol):
    """Options that ask for more than their kind does."""

    def needs(self) -> Needs:
        """What they ask for; what is not there is an error that says how to get it."""
        ...


def require_modules(modules: Iterable[str]) -> None:
    """ModuleNotFoundError for the first that is not installed; none is loaded."""
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)

"""Plain values to frozen dataclasses and back, checked on the way in.

Configurations and manifests are dataclasses with `__pydantic_config__ = STRICT`; an unknown key,
a wrong type or a missing field becomes one error that names it.
"""

import dataclasses
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from models.errors import ConfigError

STRICT: Final = ConfigDict(extra="forbid", strict=False)

T = TypeVar("T")


def known_keys(kind: type[Any]) -> list[str]:
    """The field names of a dataclass."""
    return [field.name for field in dataclasses.fields(kind)]


def complaints(error: ValidationError) -> str:
    """What pydantic found, in one line: where, what, and what it was given."""
    found = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        if problem["type"] == "unexpected_keyword_argument":
            found.append(f"{where}: unknown key")
        elif problem["type"] in {"missing", "missing_argument"}:
            found.append(f"{where}: missing")
        else:
            found.append(f"{where}: {problem['msg']} (found {problem['input']!r})")
    return "; ".join(found)


def require_finite(options: Any) -> None:
    """Refuse a dataclass whose fields hold nan or infinity: to nan, every comparison is false.

    For `__post_init__`, before the ranges are looked at.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, float) and not isfinite(value):
            raise ConfigError(f"{field.name} {value}: expected a finite number")


def parse(kind: type[T], value: Any) -> T:
    """`value` as `kind`; raises pydantic's ValidationError, which `complaints` puts into words."""
    return TypeAdapter(kind).validate_python(value)


def plain(value: Any) -> Any:
    """A dataclass as dictionaries, lists and numbers, ready for JSON."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")

"""Configuration of the offline runs: TOML to frozen dataclasses.

A key comes, in rising order of authority, from its default, the file, the environment
(`ESCI_TRAIN__SEED=3`) and the flag (`--set seed=3`). Unknown keys are refused.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_type_hints

from pydantic import ValidationError

from models.errors import ConfigError, MissingDataError
from models.registry import KINDS, make_member, member_class
from models.typed import STRICT, complaints, known_keys, parse, plain

T = TypeVar("T")

ENVIRONMENT_PREFIX: Final = "ESCI_TRAIN__"

# A member's name is a folder in runs and releases, and prefixes columns as in "lexical:E".
_MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What the random generators of all libraries take.
_LARGEST_SEED: Final = 2**32 - 1


@dataclass(frozen=True)
class MemberConfig:
    """One member: its name in the ensemble, its kind and the options of that kind."""

    __pydantic_config__ = STRICT

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    # Values to try for some options, by their dotted names: a member for each combination, called
    # after its values, as "gnn_sage_click" for grid = { convolution = ["sage", "gcn"],
    # "graph.relations" = [["click"], ["purchase"]] }.
    grid: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """What one training run does."""

    __pydantic_config__ = STRICT

    seed: int = 7
    # Share of the training queries on which members choose and metrics in a release are taken.
    validation: float = 0.15
    members: list[MemberConfig] = field(
        default_factory=lambda: [MemberConfig(name="lexical", kind="lexical")]
    )

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"found seed {self.seed}; expected 0 to {_LARGEST_SEED}")
        if not 0 < self.validation < 1:
            raise ConfigError(f"found validation {self.validation}; expected a share, as in 0.15")
        names = [member.name for member in self.members]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"found member names {names}; expected at least one, and each once")
        for member in self.members:
            if not _MEMBER_NAME.fullmatch(member.name):
                raise ConfigError(
                    f"found member name {member.name!r}; expected up to 64 letters, digits and "
                    "._- that begin with a letter or digit"
                )
            if member.kind not in KINDS:
                raise ConfigError(
                    f"member {member.name!r} has kind {member.kind!r}; known: {', '.join(KINDS)}"
                )


def load_config(
    path: Path | None, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> TrainConfig:
    """The configuration of a training; see `read_config`."""
    return read_config(TrainConfig, ENVIRONMENT_PREFIX, path, overrides, environment)


def resolved(config: TrainConfig) -> TrainConfig:
    """`config` with every option of every member, checked against its kind; grids are spread out.

    The seed of the run is that of each member whose kind has one and whose options name none.
    """
    members = []
    for entry in (one for given in config.members for one in _spread(given)):
        options, of_kind = dict(entry.options), member_class(entry.kind).Options
        if "seed" in known_keys(of_kind):
            options.setdefault("seed", config.seed)
        make_member(entry.kind, entry.name, options)  # says what is wrong with them
        members.append(replace(entry, options=plain(parse(of_kind, options))))
    return replace(config, members=members)


def _spread(entry: MemberConfig) -> Iterator[MemberConfig]:
    """A member for each combination of the grid's values; the entry itself without a grid."""
    for name, values in entry.grid.items():
        if not values:
            raise ConfigError(f"grid of member {entry.name!r}: {name} has no values to try")
    for chosen in product(*entry.grid.values()):
        options = deepcopy(entry.options)
        for name, value in zip(entry.grid, chosen, strict=True):
            _put(options, name, value)
        called = "_".join([entry.name, *map(_in_a_name, chosen)])
        yield MemberConfig(called, entry.kind, options)


def _in_a_name(value: Any) -> str:
    """A value of a grid as part of a member's name."""
    words = value if isinstance(value, list) else [value]
    return "-".join(re.sub(r"[^A-Za-z0-9.-]+", "-", str(word)) for word in words)


def read_config(
    kind: type[T],
    prefix: str,
    path: Path | None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> T:
    """The `kind` in `path` (its defaults without one) under environment and overrides.

    `prefix` begins the variables of the environment that are ours, as in "ESCI_TRAIN__".
    """
    values: dict[str, Any] = plain(kind())  # so that a flag can reach into the defaults
    if path is not None:
        if not path.is_file():
            raise MissingDataError(f"{path} is no file; expected a TOML configuration")
        try:
            values = _merged(values, tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
    for name, text in sorted(environment.items()):
        if name.startswith(prefix):
            key = name.removeprefix(prefix).lower().replace("__", ".")
            _set(values, key, text)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"found --set {override!r}; expected KEY=VALUE, as in seed=3")
        _set(values, key.strip(), text.strip())
    try:
        return parse(kind, values)
    except ValidationError as error:
        raise ConfigError(
            f"{path or 'the configuration'}: {complaints(error)}; "
            f"known keys: {'; of '.join(_known(kind))}"
        ) from error


def _merged(below: Any, above: Any) -> Any:
    """Tables joined key by key; of anything else, what is above."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merged(below.get(key), value) for key, value in above.items()}
    return above


def _known(kind: type[Any]) -> Iterator[str]:
    """The keys of a configuration, then those of each table in it."""
    yield ", ".join(known_keys(kind))
    for name, annotation in get_type_hints(kind).items():
        for inner in (annotation, *get_args(annotation)):
            if is_dataclass(inner) and isinstance(inner, type):
                yield f"{name}: {', '.join(known_keys(inner))}"


def _set(values: dict[str, Any], key: str, text: str) -> None:
    """Put `text`, read as a TOML value where it is one, at the dotted `key`."""
    _put(values, key, _toml_value(text))


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at the dotted `key`."""
    *way, last = key.split(".")
    at: Any = values
    for step in way:
        at = _child(at, step, key)
    if isinstance(at, list):
        at[_index(at, last, key)] = value
    else:
        at[last] = value


def _child(at: Any, step: str, key: str) -> Any:
    if isinstance(at, list):
        return at[_index(at, step, key)]
    if not isinstance(child := at.setdefault(step, {}), dict | list):
        raise ConfigError(f"key {key!r} goes through {step!r}, which holds the value {child!r}")
    return child


def _index(at: list[Any], step: str, key: str) -> int:
    if not step.isdecimal() or int(step) >= len(at):
        raise ConfigError(
            f"key {key!r} has {step!r} where a list of {len(at)} stands; "
            "expected a number below that"
        )
    return int(step)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word without quotes is that word

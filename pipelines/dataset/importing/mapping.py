"""Which of a file's columns is which of the layout's, and which word means which label."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from models.errors import ConfigError, DataError, MissingDataError
from models.labels import LABELS
from models.locales import LOCALES
from models.typed import STRICT, complaints, known_keys, parse
from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCTS_FILE,
    SCHEMAS,
)

# What a file to import is called in flags and mappings, and the file it becomes.
ROLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "products": PRODUCTS_FILE,
        "examples": EXAMPLES_FILE,
        "behaviours": BEHAVIOURS_FILE,
        "links": LINKS_FILE,
    }
)
# Columns nobody can make up; the others have a default (convert.py).
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "products": ("product_id", "product_title"),
        "examples": ("query", "product_id", "esci_label"),
        "behaviours": ("query", "product_id", "relation"),
        "links": ("product_id_a", "product_id_b", "relation"),
    }
)


@dataclass(frozen=True)
class ImportMapping:
    """Your words for ours.

    A column is named alone, and then holds for every file that has it, or behind the file's role,
    as in `products.product_id`. A column mapped to nothing is left out, and made up if possible.
    """

    __pydantic_config__ = STRICT

    columns: dict[str, str] = field(default_factory=dict)  # the layout's column: yours
    labels: dict[str, str] = field(default_factory=dict)  # your word: E, S, C or I
    locales: dict[str, str] = field(default_factory=dict)  # your word: us, es or jp

    def __post_init__(self) -> None:
        for what, words, known in (
            ("label", self.labels, LABELS),
            ("locale", self.locales, LOCALES),
        ):
            for word, meaning in words.items():
                if meaning not in known:
                    raise ConfigError(
                        f"the {what} word {word!r} is mapped to {meaning!r}; "
                        f"expected one of {', '.join(known)}"
                    )
        for key in self.columns:
            role, _, target = key.rpartition(".")
            if role and role not in ROLES:
                raise ConfigError(
                    f"a mapping for {key!r}: no file is called {role!r}; "
                    f"expected one of {', '.join(ROLES)}"
                )
            known_targets = targets(role) if role else _all_targets()
            if target not in known_targets:
                raise ConfigError(
                    f"a mapping for {key!r}, which is no column of the layout; "
                    f"expected one of {', '.join(known_targets)}"
                )


def load_mapping(
    path: Path | None,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    locales: Sequence[str] = (),
) -> ImportMapping:
    """The mapping in a TOML file, if there is one, under what flags of the form A=B say."""
    values: dict[str, dict[str, str]] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingDataError(
                f"{path} is not there; expected a TOML file with tables "
                f"{', '.join(known_keys(ImportMapping))}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.strerror}; expected a TOML file"
            ) from error
    try:
        base = parse(ImportMapping, values)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {complaints(error)}; "
            f"expected tables {', '.join(known_keys(ImportMapping))} of texts"
        ) from error
    return ImportMapping(
        {**base.columns, **_pairs("--map", columns)},
        {**base.labels, **_words("--label-map", labels)},
        {**base.locales, **_words("--locale-map", locales)},
    )


def _pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        left, equals, right = word.partition("=")
        if not equals or not left.strip():
            example = {
                "--map": "query=search_term",
                "--label-map": "exact=E",
                "--locale-map": "en_US=us",
            }[flag]
            raise ConfigError(f"found {flag} {word!r}; expected A=B, as in {example}")
        pairs[left.strip()] = right
    return pairs


def _words(flag: str, words: Sequence[str]) -> dict[str, str]:
    return {word: meaning.strip() for word, meaning in _pairs(flag, words).items()}


def targets(role: str) -> list[str]:
    """The layout's columns of a role."""
    return list(SCHEMAS[ROLES[role]].names)


def _all_targets() -> list[str]:
    return list(dict.fromkeys(name for role in ROLES for name in targets(role)))


def _quoted(names: Sequence[str]) -> str:
    """Names for a person, who should see a space at either end."""
    return ", ".join(map(repr, names))


def resolve_columns(
    mapping: ImportMapping, names: Mapping[str, Sequence[str]], paths: Mapping[str, Path]
) -> dict[str, dict[str, str]]:
    """Per role, the file's column behind each column of the layout; absent ones are left out.

    `names` are the columns each file has.
    """
    chosen = {role: {t: t for t in targets(role) if t in names[role]} for role in names}
    for key, named in mapping.columns.items():
        role, _, target = key.rpartition(".")
        roles = [role] if role else [r for r in ROLES if target in targets(r)]
        given = [r for r in roles if r in names]
        # A header may begin with a space, and so may a name that somebody typed.
        source = named if any(named in names[r] for r in given) else named.strip()
        holders = [r for r in given if source in names[r]]
        if given and source and not holders:
            held = "; ".join(f"{paths[r]} has {_quoted(names[r])}" for r in given)
            raise ConfigError(
                f"{target} is mapped to {source!r}, which is no column: {held}; "
                "correct the name behind --map or in the mapping file"
            )
        for holder in holders if source else given:
            chosen[holder].pop(target, None)
            if source:
                chosen[holder][target] = source
    for role, columns in chosen.items():
        if missing := [target for target in REQUIRED[role] if target not in columns]:
            raise DataError(
                f"{paths[role]} has no column for {missing[0]}; it has {_quoted(names[role])}; "
                f'name the one that holds it: --map "{missing[0]}=YOUR_COLUMN"'
            )
    return chosen

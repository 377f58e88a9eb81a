"""States of products computed ahead, by key: one contract, and a store behind it by address."""

import re
from pathlib import Path
from typing import Final

from models.errors import ConfigError, missing_module
from models.states.folder import FolderStates
from models.states.protocol import (
    Digests,
    Draft,
    Edition,
    Named,
    Snapshot,
    Stamped,
    StateStore,
    StoreHealth,
)
from models.states.records import RecordForm
from models.states.sqlite import SqliteStates
from models.vectors.packing import Packing

__all__ = [
    "STATES",
    "Digests",
    "Draft",
    "Edition",
    "Named",
    "Snapshot",
    "Stamped",
    "StateStore",
    "StoreHealth",
    "open_states",
]

# Within a registry: where states lie of which nobody said otherwise.
STATES: Final = "states"
_REDIS: Final = re.compile(r"(redis|rediss|unix)://.*", re.DOTALL)
# What looks like an address rather than a path, and might have a password in it.
_ADDRESS: Final = re.compile(r"[^/]*:.*", re.DOTALL)
# They become parts of paths and keys.
_MEMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDENTITY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def open_states(
    where: str, member: str, identity: str, packing: Packing, *, timeout_ms: float = 100.0
) -> StateStore:
    """The states of `member` as `identity` computes them, in what `where` says.

    A Redis (redis://host:6379/0, rediss://…, unix:///path), a file that ends in .sqlite, or a
    folder. Nothing need be there, and nothing is made before something is written. `timeout_ms` is
    how long a look-up waits for Redis, which may be away; a writer is more patient.
    """
    if not _MEMBER.fullmatch(member) or not _IDENTITY.fullmatch(identity):
        raise ConfigError(
            f"found states of the member {member!r} with identity {identity!r}; expected up to 64 "
            "letters, digits and ._- as a name, and a digest"
        )
    if packing.heading or packing.width < 1 or not timeout_ms > 0:
        raise ConfigError(
            f"found states of {packing.width} numbers behind {packing.heading} bytes, and a "
            f"timeout of {timeout_ms} ms; expected at least one number, none before it, and a "
            "timeout above 0"
        )
    form = RecordForm(packing)
    if _REDIS.fullmatch(where):
        try:
            from models.states.redis import RedisStates
        except ModuleNotFoundError as error:
            raise missing_module(error, "serving") from error
        return RedisStates(where, member, identity, form, timeout_ms)
    if not where or _ADDRESS.fullmatch(where):
        raise ConfigError(
            "found an address for states that leads nowhere; expected redis://host:6379/0, "
            "rediss://…, unix:///path, a file that ends in .sqlite, or a folder (./ before one "
            "with a colon in its name)"
        )
    path = Path(where)
    if path.suffix == ".sqlite":
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; expected a file that ends in .sqlite, or none")
        return SqliteStates(path, member, identity, form)
    if path.exists() and not path.is_dir():
        raise ConfigError(
            f"{path} is a file; expected a folder, or a file that ends in .sqlite, for states"
        )
    return FolderStates(path, member, identity, form)

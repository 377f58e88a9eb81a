"""Answers remembered by pair: one contract, and a store behind it chosen by URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.errors import ConfigError
from service.label_cache.memory import MemoryLabelCache
from service.label_cache.protocol import (
    CacheHealth,
    LabelCache,
    keys_amid,
    label_keys,
    pack,
    sound,
    unpack,
)
from service.label_cache.redis import RedisLabelCache
from service.label_cache.sqlite import SqliteLabelCache

__all__ = [
    "CacheHealth",
    "LabelCache",
    "keys_amid",
    "label_keys",
    "open_label_cache",
    "pack",
    "sound",
    "unpack",
]


def open_label_cache(
    url: str,
    *,
    ttl_seconds: float,
    megabytes: float,
    timeout_ms: float,
) -> LabelCache:
    """The label cache at memory://, sqlite:///path or redis://host:port/db.

    A file that cannot be opened is an error; a Redis that is away is not, since it may come back.
    Redis keeps its own budget (`maxmemory`).
    """
    parts = urlsplit(url)
    max_bytes = int(megabytes * 2**20)
    if parts.scheme == "memory":
        return MemoryLabelCache(max_bytes, ttl_seconds)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        if parts.query or parts.fragment:
            raise ConfigError(
                f"the label cache {url} has a ? or a # in its path, where a URL ends it; expected "
                "them as %3F and %23"
            )
        path = Path(unquote(parts.path[1:], errors="surrogateescape"))
        return SqliteLabelCache(path, max_bytes, ttl_seconds)
    if parts.scheme in {"redis", "rediss", "unix"}:
        return RedisLabelCache(url, ttl_seconds, timeout_ms)
    raise ConfigError(
        f"no label cache at {parts.scheme}://{parts.path}; expected memory://, sqlite:///path "
        "(four slashes before an absolute one) or redis://host:port/db"
    )

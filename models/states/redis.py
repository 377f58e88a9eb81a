"""States in Redis: shared by many machines, looked up in one round trip, and allowed to die."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import numpy as np
from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from models.errors import ConfigError
from models.states import redis_scripts as scripts
from models.states.draft import require_name
from models.states.guard import Guard
from models.states.protocol import Edition, Named, Stamped, StoreHealth
from models.states.records import RecordForm, blocks, read_digests
from models.states.redis_draft import Link, RedisDraft, RedisLock, flags
from models.vectors.source import Found, Keys

# Names our keys in a Redis that others use too.
_PREFIX: Final = "esci:state:"
# Looked up in one script, during which Redis answers nobody else.
_KEYS_PER_SCRIPT: Final = 1_000
# Connections are taken for about a millisecond each.
_MAX_CONNECTIONS: Final = 32
_ASK_SECONDS: Final = 2.0
_WRITE_SECONDS: Final = 10.0
_WRITE_TRIALS: Final = 4


class RedisSnapshot:
    """A snapshot, until some time after another has taken its place."""

    def __init__(self, store: "RedisStates", own: bytes, count: int) -> None:
        self.name = own.decode().rpartition(".")[0]
        self.identity = store.identity
        self._store = store
        self._own = own
        self._count = count

    def __len__(self) -> int:
        return self._count

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are here."""
        return self._store.look_up(keys, self._own).found

    def digests(self, keys: Keys) -> Stamped:
        """What the states of those of `keys` that are here were computed from."""
        return self._store.stamped(keys, self._own)


class RedisStates:
    """The store in one Redis; see models/states/redis_scripts.py for how it lies there.

    The current snapshot does not expire. Give it a Redis that evicts nothing, or only what expires
    (`maxmemory-policy noeviction` or `volatile-…`); what is evicted all the same is not known.
    """

    def __init__(
        self,
        url: str,
        member: str,
        identity: str,
        form: RecordForm,
        timeout_ms: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        lock_seconds: float = 15.0,
        kept_seconds: float = 7 * 86_400.0,  # a draft that nobody goes on with
        grace_seconds: float = 60.0,  # the snapshot before: whoever reads in it gets to the end
    ) -> None:
        self.where = _shown(url)
        self.identity = identity
        self._form = form
        self._root = f"{_PREFIX}{{{member}}}"
        self._lock_seconds = lock_seconds
        self._kept_seconds = kept_seconds
        self._grace_seconds = grace_seconds
        # A miss is cheaper than a second wait. Who starts waits a little, and who writes has time.
        self._reader = _client(url, timeout_ms / 1000)
        self._asker = _client(url, _ASK_SECONDS)
        self._writer = _client(url, _WRITE_SECONDS, _WRITE_TRIALS)
        self._read = self._reader.register_script(scripts.about_records(scripts.READ, form))
        self._guard = Guard("redis", self.where, (RedisError, OSError), clock)

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are in the current snapshot."""
        return self.get_named(keys).found

    def edition(self) -> Edition:
        """The snapshot that answers and who committed it, in one round trip."""
        return self._guard.ask(self._edition, None)

    def get_named(self, keys: Keys) -> Named:
        """As `get_many`, with the edition that answered."""
        return self.look_up(keys, b"")

    def look_up(self, keys: Keys, snapshot: bytes) -> Named:
        """The states of those of `keys` that are in that snapshot, or in the current without one.

        One round trip for every thousand keys. Of the current one the edition is told.
        """
        nothing = Named(self._form.nothing(keys), None)
        return (
            self._guard.ask(lambda: self._named(keys, snapshot), nothing) if len(keys) else nothing
        )

    def stamped(self, keys: Keys, snapshot: bytes) -> Stamped:
        """The digests of those of `keys` that are in that snapshot."""
        link = self._link(self._asker)
        known, digests = [np.zeros(0, bool)], [np.zeros(0, np.uint64)]
        for part in blocks(len(keys), RedisDraft.BLOCK):
            ones, found = link.run(scripts.DIGESTS, snapshot, keys[part].tobytes())
            known.append(flags(ones))
            digests.append(read_digests(found))
        return Stamped(np.concatenate(known), np.concatenate(digests))

    def current(self) -> RedisSnapshot | None:
        """The snapshot that answers."""
        own, count = self._link(self._asker).run(scripts.CURRENT)
        return RedisSnapshot(self, own, count) if own else None

    def begin(self, name: str) -> RedisDraft:
        """The draft of that name, new or as it was left.

        The lock of a writer that was killed is waited for, some seconds.
        """
        require_name(name)
        with ExitStack() as held:
            draft = RedisDraft(
                name,
                self._link(self._writer),
                held.enter_context(closing(self._locked())),
                identity=self.identity,
                identities=self._identities,
                kept_seconds=self._kept_seconds,
                grace_seconds=self._grace_seconds,
            )
            held.pop_all()
        return draft

    def forget_others(self) -> int:
        """Remove the keys of this member's other identities."""
        link = self._link(self._writer)
        with closing(self._locked()) as lock:
            with link.told():
                found: Any = self._writer.smembers(self._identities)
            others = [one.decode() for one in found if one != self.identity.encode()]
            for identity in others:
                other = self._link(self._writer, identity)
                other.run(scripts.FORGET, identity, self._identities, lock=lock)
        return len(others)

    def health(self) -> StoreHealth:
        """Unwell while Redis is not asked."""
        return self._guard.health()

    def close(self) -> None:
        """Close the connections."""
        for client in (self._reader, self._asker, self._writer):
            client.close()
            client.connection_pool.disconnect()

    def _edition(self) -> str:
        base = self._base(self.identity)
        found: Any = self._reader.mget(f"{base}:current", f"{base}:committer")
        return _edition(*(one or b"" for one in found))

    def _named(self, keys: Keys, snapshot: bytes) -> Named:
        """What is known of `keys`, all of one snapshot."""
        known, records, committers = [], [], []
        for part in blocks(len(keys), _KEYS_PER_SCRIPT):
            given = [snapshot, keys[part].tobytes()]
            snapshot, ones, found, committer = self._read(
                keys=[self._base(self.identity)], args=given
            )
            known.append(flags(ones))
            records.append(found)
            committers.append(committer)
            if not snapshot:  # nor do the keys that are left ask for one that came meanwhile
                return Named(self._form.nothing(keys), "")
        packed = self._form.read(b"".join(records))
        found = self._form.found(np.concatenate(known), packed)
        return Named(found, _edition(snapshot, committers[0]))

    def _link(self, client: Redis, identity: str | None = None) -> Link:
        return Link(client, self._base(identity or self.identity), self._form, self.where)

    def _locked(self) -> RedisLock:
        return RedisLock(self._link(self._writer), f"{self._root}:writer", self._lock_seconds)

    def _base(self, identity: str) -> str:
        return f"{self._root}:{identity}"

    @property
    def _identities(self) -> str:
        return f"{self._root}:identities"


def _edition(snapshot: bytes, committer: bytes) -> str:
    """What names a snapshot that this writer committed: the token of its lock comes once."""
    named = snapshot + b"@" + committer if snapshot else b""
    return named.decode(errors="backslashreplace")  # whatever another has put there


def _client(url: str, seconds: float, retries: int = 0) -> Redis:
    """A client that waits so long for each of a connection, an answer, and its turn."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.1), retries),
        protocol=2,  # no handshake beyond AUTH: a new connection is one round trip less
        driver_info=None,
    )
    return Redis(connection_pool=pool)


def _shown(url: str) -> str:
    """The address without user, password and options, of which nothing is ever said.

    One that cannot be read as an address may hold a password anywhere, so nothing of it is said.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            is_right = bool(parts.path) and not parts.hostname
            shown = f"unix://{unquote(parts.path)}"
        else:
            is_right = bool(parts.hostname) and parts.path.strip("/").isdecimal()
            is_right = is_right or (bool(parts.hostname) and parts.path in {"", "/"})
            shown = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        pool = BlockingConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)  # asks nothing; refuses unknown options
    except (ValueError, TypeError, RedisError):
        is_right = False
    if not is_right:
        raise ConfigError(
            "found a Redis address for states that is none; expected redis://host:6379/0, "
            "rediss://host:6379/0 for TLS or unix:///path (with a user and a password before "
            "host, user:password@, where %40 is an @ in them)"
        )
    return shown

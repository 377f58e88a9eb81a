"""Writing states to Redis: a lock that expires, and a draft that holds it."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Event, Thread
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.exceptions import RedisError

from models.errors import StoreError
from models.states import redis_scripts as scripts
from models.states.draft import LockedDraft
from models.states.protocol import Digests
from models.states.records import RecordForm, as_bytes
from models.vectors.packing import Packed
from models.vectors.source import Keys

_POLL_SECONDS: Final = 0.05


class Link:
    """Runs scripts for who writes: whatever goes wrong is an error that says where."""

    def __init__(self, client: Redis, base: str, form: RecordForm, where: str) -> None:
        self.client = client
        self.base = base
        self.form = form
        self.where = where
        self._registered = cache(
            lambda script: client.register_script(scripts.about_records(script, form))
        )

    def run(
        self, script: str, *arguments: bytes | str | int, lock: "RedisLock | None" = None
    ) -> Any:
        """What `script` answers about our keys, written under `lock` if it writes."""
        keys, given = [self.base], list(arguments)
        if lock is not None:
            keys, given = [self.base, lock.key], [lock.token, *arguments]
        with self.told():
            answer = self._registered(script)(keys=keys, args=given)
        if answer is None:
            raise StoreError(
                f"the lock on the states in {self.where} was lost: this process did not get to "
                "renew it; run the command again, what was written is kept"
            )
        return answer

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say of Redis's errors where they came from."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreError(
                f"the states in {self.where}: {error}; see that Redis answers and has room, and "
                "run it again"
            ) from error


class RedisLock:
    """Held until it is closed, or for some seconds after its process ended.

    A holder that lives renews it, so one that does not is waited for: until the lock expires.
    """

    def __init__(self, link: Link, key: str, seconds: float) -> None:
        self.key = key
        self.token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._link = link
        self._milliseconds = max(int(1000 * seconds), 1)
        with link.told():
            self._take()
            # Made here, so that renewing and letting go ask nothing but Redis.
            self._renewal, self._release = (
                link.client.register_script(script) for script in (scripts.RENEW, scripts.RELEASE)
            )
        self._closing = Event()
        self._thread = Thread(target=self._renew, args=(seconds / 3,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let others have it."""
        self._closing.set()
        self._thread.join()
        with suppress(RedisError, OSError):  # then it expires
            self._release(keys=[self.key], args=[self.token])

    def _take(self) -> None:
        client, left = self._link.client, self._milliseconds
        while not client.set(self.key, self.token, nx=True, px=self._milliseconds):
            if client.get(self.key) == self.token.encode():
                break  # taken by a trial of which the answer was lost
            found = int(client.pttl(self.key))  # -2 without the key, -1 if it never expires
            if found > left or found == -1:
                raise StoreError(
                    f"{self._holder()} is writing states to {self._link.where}; wait until it is "
                    "done, or end it"
                )
            left = found if found >= 0 else left
            time.sleep(_POLL_SECONDS)

    def _holder(self) -> str:
        """Who has it, as it may be said."""
        token: Any = self._link.client.get(self.key)
        machine, _, rest = (token or b"").decode(errors="replace").partition(":")
        return f"process {rest.partition(':')[0]} on {machine}" if rest else "another process"

    def _renew(self, pause: float) -> None:
        while not self._closing.wait(pause):
            with suppress(RedisError, OSError):  # the next writing tells of it
                self._renewal(keys=[self.key], args=[self.token, self._milliseconds])


class RedisDraft(LockedDraft):
    """Hashes of its own beside the current ones; records are taken over without leaving Redis."""

    # A script of so many takes some milliseconds, during which Redis answers nobody else.
    BLOCK: ClassVar[int] = 256

    def __init__(
        self,
        name: str,
        link: Link,
        lock: RedisLock,
        *,
        identity: str,
        identities: str,
        kept_seconds: float,
        grace_seconds: float,
    ) -> None:
        super().__init__(name, link.where, link.form, lock)
        self._link = link
        self._held = lock
        self._kept = int(1000 * kept_seconds)
        self._grace = int(1000 * grace_seconds)
        self._own, *self._sources = self._run(
            scripts.BEGIN, f"{name}.a", f"{name}.b", self._kept, identity, identities
        )

    def _known(self, keys: Keys) -> NDArray[np.bool_]:
        return flags(self._run(scripts.KNOWN, self._own, keys.tobytes()))

    def _taken(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]:
        wanted = (keys.tobytes(), as_bytes(digests).tobytes())
        return flags(self._run(scripts.TAKE_OVER, self._own, self._kept, *wanted, *self._sources))

    def _add(self, keys: Keys, records: Packed) -> None:
        given = (keys.tobytes(), records.tobytes())
        self._run(scripts.APPEND, self._own, self._kept, *given)

    def _switch(self, expected_count: int) -> int:
        return int(self._run(scripts.COMMIT, self._own, expected_count, self._grace))

    def _run(self, script: str, *arguments: bytes | str | int) -> Any:
        return self._link.run(script, *arguments, lock=self._held)


def flags(answer: bytes) -> NDArray[np.bool_]:
    """A script's ones and zeros."""
    return np.asarray(np.frombuffer(answer, np.uint8) == ord("1"))

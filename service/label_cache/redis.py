"""The label cache in Redis: shared by many machines, and allowed to die."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from models.breaker import Breaker
from models.errors import ConfigError
from service.label_cache.protocol import CacheHealth, lifetime

log = logging.getLogger("service.label_cache")

# Names our keys in a Redis that others use too.
_PREFIX: Final = b"esci:label:"
# Connections are taken for well under a millisecond each.
_MAX_CONNECTIONS: Final = 32

T = TypeVar("T")


class RedisLabelCache:
    """One MGET to read, one pipeline of SETs to write; any trouble is a miss, counted."""

    def __init__(
        self,
        url: str,
        ttl_seconds: float,
        timeout_ms: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._timeout_seconds = timeout_ms / 1000
        self._breaker = Breaker(clock)
        self._troubles = 0
        try:
            pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
                url,
                max_connections=_MAX_CONNECTIONS,
                timeout=self._timeout_seconds,
                socket_timeout=self._timeout_seconds,
                socket_connect_timeout=self._timeout_seconds,
                retry=Retry(NoBackoff(), 0),  # a miss is cheaper than a second wait
                protocol=2,  # no handshake beyond AUTH: a new connection is one round trip less
                driver_info=None,
            )
        except ValueError as error:
            raise ConfigError(
                f"{url.split('@')[-1]!r} is no Redis address: {error}; expected "
                "redis://host:6379/0, rediss:// for TLS or unix:///path"
            ) from error
        self._client: Redis = Redis(connection_pool=pool)
        self._pool = pool

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What Redis knows of `keys`; nothing when it is in trouble."""
        if not keys:
            return {}
        found: list[Any] = await self._ask(
            lambda: self._client.mget([_PREFIX + key for key in keys]), []
        )
        return {
            key: answer
            for key, answer in zip(keys, found or [None] * len(keys), strict=True)
            if answer is not None
        }

    async def put_many(self, answers: Mapping[bytes, bytes]) -> None:
        """Remember `answers`; lost when Redis is in trouble."""
        if not answers:
            return
        pipeline = self._client.pipeline(transaction=False)
        for key, answer in answers.items():
            milliseconds = max(1, int(1000 * lifetime(key, self._ttl_seconds)))
            pipeline.set(_PREFIX + key, answer, px=milliseconds)
        await self._ask(pipeline.execute, [])

    def health(self) -> CacheHealth:
        """Unwell while the breaker is open."""
        return CacheHealth("redis", healthy=self._breaker.closed, troubles=self._troubles)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._pool.aclose()

    async def _ask(self, ask: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """What Redis answers within the timeout, or `otherwise`."""
        if not self._breaker.lets_pass():
            return otherwise
        try:
            # Over all of it: waiting for a connection, making one, writing and reading.
            async with asyncio.timeout(self._timeout_seconds):
                answer = await ask()
        except ResponseError as error:
            # It answers, so asking on costs no wait: full of what may not be evicted, or read-only.
            self._troubles += 1
            log.warning("Redis refused the label cache", extra={"fields": {"error": repr(error)}})
            return otherwise
        except (RedisError, OSError, TimeoutError) as error:
            was_closed = self._breaker.closed
            self._breaker.failed()
            self._troubles += 1
            if was_closed:
                log.warning(
                    "the label cache in Redis failed", extra={"fields": {"error": repr(error)}}
                )
            return otherwise
        if not self._breaker.closed:
            log.warning("the label cache in Redis answers again")
        self._breaker.succeeded()
        return answer

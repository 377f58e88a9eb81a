"""What every label cache keeps, whatever stores it."""

import asyncio
import os
import socket
import sqlite3
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.breaker import Breaker
from models.errors import ConfigError
from models.member import Probabilities, softmax
from models.pairs import Pairs, Products, Queries
from service.label_cache import LabelCache, label_keys, open_label_cache, pack, sound, unpack
from service.label_cache.memory import MemoryLabelCache
from service.label_cache.redis import RedisLabelCache
from service.label_cache.sqlite import SqliteLabelCache
from tests.clock import Clock
from tests.redis_server import RedisServer

STORES = ("memory", "sqlite", "redis")
TTL_SECONDS = 100.0


@dataclass
class Store:
    """A kind of cache, and how to open it with a clock that the test moves."""

    kind: str
    folder: Path
    redis: RedisServer

    def open(
        self,
        clock: Callable[[], float] | None = None,
        max_bytes: int = 2**22,
        ttl_seconds: float = TTL_SECONDS,
    ) -> LabelCache:
        if self.kind == "memory":
            return MemoryLabelCache(max_bytes, ttl_seconds, clock or time.monotonic)
        if self.kind == "sqlite":
            path = self.folder / "labels.sqlite"
            return SqliteLabelCache(path, max_bytes, ttl_seconds, clock or time.time)
        return RedisLabelCache(self.redis.url, ttl_seconds, timeout_ms=2_000)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Store:
    return Store(request.param, tmp_path, redis_server)


def using(cache: LabelCache, work: Callable[[LabelCache], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        try:
            return await work(cache)
        finally:
            await cache.close()

    return asyncio.run(run())


def key(number: int) -> bytes:
    return os.urandom(8) + number.to_bytes(16, "big")


def answers(n: int, seed: int = 0) -> Probabilities:
    return softmax(np.random.default_rng(seed).normal(0, 5, (n, 4)))


def pairs_of(names: list[str], query: str = "mouse") -> Pairs:
    products = [{"product_id": name, "locale": "us", "title": name} for name in names]
    return Pairs.of_query(query, "us", Products.of(products))


class TestLabelCacheContract:
    def test_what_was_put_comes_back_to_the_last_bit(self, store):
        rows = answers(2_500)
        keys = [key(number) for number in range(len(rows))]

        async def work(cache: LabelCache) -> None:
            await cache.put_many(dict(zip(keys, pack(rows), strict=True)))
            known = await cache.get_many(keys)
            np.testing.assert_array_equal(unpack([known[one] for one in keys]), rows)

        using(store.open(), work)

    def test_absent_keys_are_absent_and_nothing_asked_is_nothing_answered(self, store):
        there, absent = key(1), key(2)

        async def work(cache: LabelCache) -> None:
            await cache.put_many({})
            await cache.put_many({there: b"1"})
            assert await cache.get_many([absent, there, absent, there]) == {there: b"1"}
            assert await cache.get_many([]) == {}

        using(store.open(), work)

    def test_a_later_answer_takes_the_place_of_an_earlier(self, store):
        one = key(1)

        async def work(cache: LabelCache) -> None:
            await cache.put_many({one: b"old"})
            await cache.put_many({one: b"new"})
            assert await cache.get_many([one]) == {one: b"new"}

        using(store.open(), work)

    def test_answers_expire_within_their_time_and_not_all_at_once(self, store):
        # The last two bytes decide, so these four expire from 90 to 100 hundredths of the TTL.
        keys = [os.urandom(22) + tail.to_bytes(2, "big") for tail in (0, 20_000, 40_000, 65_535)]
        clock = Clock()
        ttl = 1.0 if store.kind == "redis" else TTL_SECONDS

        async def move(share: float, since: float) -> None:
            clock.now = since + share * ttl
            if store.kind == "redis":  # which has a clock of its own
                await asyncio.sleep(max(0.0, started + share * ttl - time.monotonic()))

        started = time.monotonic()

        async def work(cache: LabelCache) -> None:
            nonlocal started
            since, started = clock.now, time.monotonic()
            await cache.put_many(dict.fromkeys(keys, b"x"))
            await move(0.85, since)
            assert len(await cache.get_many(keys)) == len(keys)
            await move(0.95, since)
            assert keys[0] in (left := await cache.get_many(keys))
            assert keys[3] not in left
            await move(1.02, since)
            assert await cache.get_many(keys) == {}

        using(store.open(clock, ttl_seconds=ttl), work)

    def test_no_release_reads_another_ones_answers(self, store):
        pairs = pairs_of([f"product {row} {os.urandom(4).hex()}" for row in range(50)])
        first, second = (label_keys(name, pairs) for name in ("aaaa", "bbbb"))

        async def work(cache: LabelCache) -> None:
            await cache.put_many(dict.fromkeys(first, b"first"))
            assert await cache.get_many(second) == {}
            await cache.put_many(dict.fromkeys(second, b"second"))
            assert set((await cache.get_many(first)).values()) == {b"first"}

        using(store.open(), work)

    def test_asked_by_many_at_once_every_one_gets_its_own(self, store):
        async def one(cache: LabelCache, number: int) -> None:
            mine = {key(number): bytes([number, row]) for row in range(40)}
            await cache.put_many(mine)
            assert await cache.get_many(list(mine)) == mine

        async def work(cache: LabelCache) -> None:
            await asyncio.gather(*(one(cache, number) for number in range(60)))
            assert cache.health().healthy

        using(store.open(), work)

    @given(data=st.data())
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_whatever_is_asked_in_whatever_order_the_cache_changes_no_answer(self, store, data):
        """Products whose texts change, releases that come and go, and room for a few pairs only."""
        clock = Clock()
        names = st.lists(st.sampled_from([f"mouse {row}" for row in range(60)]), max_size=60)
        request = st.tuples(
            st.sampled_from(["r1", "r2"]), st.sampled_from(["mouse", "Mouse ", "cat"]), names
        )

        def fresh(release: str, pairs: Pairs) -> Probabilities:
            seeds = [[len(release), release[1].encode()[0], *one] for one in pairs.fingerprints()]
            rows = [np.random.default_rng(seed).normal(0, 3, 4) for seed in seeds]
            return softmax(np.array(rows).reshape(-1, 4))

        async def work(cache: LabelCache) -> None:
            for release, query, products in data.draw(st.lists(request, max_size=8)):
                pairs = pairs_of(products, query)
                keys = label_keys(release, pairs)
                known = sound(await cache.get_many(keys))
                missing = [row for row, one in enumerate(keys) if one not in known]
                computed = fresh(release, pairs.take(np.array(missing, np.int32)))
                stored = dict(zip([keys[row] for row in missing], pack(computed), strict=True))
                await cache.put_many(stored)
                answered = unpack([(known | stored)[one] for one in keys])
                np.testing.assert_array_equal(answered, fresh(release, pairs))
                clock.now += data.draw(st.sampled_from([0.0, 50.0, 95.0]))

        # As little room as each allows, so that much is pruned: some 40 pairs in memory.
        using(store.open(clock, max_bytes=2**14 if store.kind == "memory" else 2**16), work)


class TestBudget:
    def test_memory_stays_within_its_bytes_as_python_counts_them(self):
        max_bytes = 2**20

        async def work(cache: LabelCache) -> None:
            for start in range(0, 20_000, 100):
                numbers = range(start, start + 100)
                await cache.put_many({key(number): os.urandom(16) for number in numbers})
                assert cache.bytes_used <= max_bytes
            held, _ = tracemalloc.get_traced_memory()
            assert 0.5 * max_bytes < held - before < 1.05 * max_bytes

        cache = MemoryLabelCache(max_bytes, TTL_SECONDS)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            using(cache, work)
        finally:
            tracemalloc.stop()

    def test_memory_forgets_what_was_used_least_recently(self):
        async def work(cache: LabelCache) -> None:
            first, second = key(1), key(2)
            await cache.put_many({first: b"1", second: b"2"})
            others = [key(number) for number in range(3, 40)]
            for one in others:
                await cache.get_many([first])
                await cache.put_many({one: b"x"})
            assert set(await cache.get_many([first, second])) == {first}

        using(MemoryLabelCache(4_000, TTL_SECONDS), work)

    def test_a_file_stays_within_its_bytes_and_keeps_the_newest(self, tmp_path):
        path, max_bytes = tmp_path / "labels.sqlite", 2**18

        async def work(cache: LabelCache) -> None:
            recent: dict[bytes, bytes] = {}
            for _ in range(150):
                newest = {key(row): os.urandom(16) for row in range(100)}
                await cache.put_many(newest)
                recent = dict([*recent.items(), *newest.items()][-500:])
                assert await cache.get_many(list(recent)) == recent
                assert path.stat().st_size <= max_bytes
            health = cache.health()
            assert (health.healthy, health.troubles) == (True, 0)
            (kept,) = sqlite3.connect(path).execute("SELECT count(*) FROM labels").fetchone()
            assert kept > 0.3 * max_bytes / 100  # pruned, not emptied

        using(SqliteLabelCache(path, max_bytes, TTL_SECONDS), work)


class TestFile:
    def test_answers_outlive_the_process(self, tmp_path):
        path, one = tmp_path / "labels.sqlite", key(1)
        using(SqliteLabelCache(path, 2**20, TTL_SECONDS), lambda cache: cache.put_many({one: b"1"}))
        known = using(SqliteLabelCache(path, 2**20, TTL_SECONDS), lambda c: c.get_many([one]))
        assert known == {one: b"1"}

    @pytest.mark.parametrize("damage", [b"not a database" * 500, b"SQLite format 3\0" + bytes(99)])
    def test_a_file_that_is_damaged_is_set_aside_at_the_start(self, tmp_path, damage):
        path, one = tmp_path / "labels.sqlite", key(1)
        path.write_bytes(damage)

        async def work(cache: LabelCache) -> None:
            assert await cache.get_many([one]) == {}
            await cache.put_many({one: b"1"})
            assert await cache.get_many([one]) == {one: b"1"}

        using(SqliteLabelCache(path, 2**20, TTL_SECONDS), work)
        assert path.read_bytes() == damage
        again = SqliteLabelCache(path, 2**20, TTL_SECONDS)
        assert using(again, lambda cache: cache.get_many([one])) == {one: b"1"}

    def test_a_file_that_is_damaged_under_two_processes_is_replaced_for_both(self, tmp_path):
        path = tmp_path / "labels.sqlite"
        before, after = key(1), key(2)
        first = SqliteLabelCache(path, 2**20, TTL_SECONDS)
        second = SqliteLabelCache(path, 2**20, TTL_SECONDS)

        async def work(cache: LabelCache) -> None:
            await first.put_many({before: b"1"})
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with path.open("r+b") as file:
                file.write(os.urandom(2**13))
            # Pages that SQLite holds in memory may still answer; writing meets the damage.
            await first.put_many({after: b"2"})
            await first.put_many({after: b"2"})
            for _ in range(2):
                await second.get_many([after])
                await second.put_many({key(3): b"3"})
            assert await first.get_many([before, after]) == {after: b"2"}
            assert await second.get_many([before, after]) == {after: b"2"}
            assert first.health().healthy
            assert first.health().troubles
            await second.close()

        using(first, work)
        assert {one.name for one in tmp_path.glob("*.sqlite")} == {
            "labels.sqlite",
            "labels-1.sqlite",
        }

    def test_somebody_elses_database_is_not_touched(self, tmp_path):
        path = tmp_path / "orders.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER)")
        connection.close()
        content = path.read_bytes()
        with pytest.raises(ConfigError, match="somebody else's"):
            SqliteLabelCache(path, 2**20, TTL_SECONDS)
        assert path.read_bytes() == content

    def test_a_place_that_cannot_be_written_is_told_at_the_start(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot be opened"):
            SqliteLabelCache(tmp_path / "file" / "labels.sqlite", 2**20, TTL_SECONDS)


class TestRedisTrouble:
    def test_an_absent_redis_is_a_miss_and_its_return_is_noticed(self, tmp_path):
        server, clock, one = RedisServer(tmp_path), Clock(), key(1)

        async def work(cache: LabelCache) -> None:
            for _ in range(5):
                assert await cache.get_many([one]) == {}
                await cache.put_many({one: b"1"})
            assert not cache.health().healthy
            assert cache.health().troubles == Breaker.FAILURES  # then it was not asked any more
            server.start()
            assert await cache.get_many([one]) == {}
            assert not cache.health().healthy
            clock.now += Breaker.FIRST_PAUSE_SECONDS + 0.01
            await cache.put_many({one: b"1"})
            assert await cache.get_many([one]) == {one: b"1"}
            assert cache.health().healthy
            server.stop()
            assert await cache.get_many([one]) == {}

        try:
            using(RedisLabelCache(server.url, TTL_SECONDS, timeout_ms=500, clock=clock), work)
        finally:
            server.stop()

    def test_a_redis_that_does_not_answer_costs_the_timeout_and_no_more(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

            async def work(cache: LabelCache) -> float:
                started = time.monotonic()
                assert await cache.get_many([key(1)]) == {}
                return time.monotonic() - started

            seconds = using(RedisLabelCache(url, TTL_SECONDS, timeout_ms=100), work)
        assert 0.09 < seconds < 0.4

    def test_a_redis_that_refuses_writes_still_answers_reads(self, redis_server):
        one = key(1)

        async def work(cache: RedisLabelCache) -> None:
            await cache.put_many({one: b"1"})
            await cache._client.config_set("maxmemory", "1")
            try:
                for number in range(2 * Breaker.FAILURES):
                    await cache.put_many({key(number): b"2"})
                assert await cache.get_many([one]) == {one: b"1"}
                assert cache.health().troubles == 2 * Breaker.FAILURES
            finally:
                await cache._client.config_set("maxmemory", "0")

        using(RedisLabelCache(redis_server.url, TTL_SECONDS, timeout_ms=2_000), work)

    def test_the_breaker_lets_one_trial_pass_per_pause_and_waits_longer_each_time(self):
        clock = Clock()
        breaker = Breaker(clock)
        for _ in range(Breaker.FAILURES):
            assert breaker.lets_pass()
            breaker.failed()
        pauses = []
        for _ in range(8):
            started = clock.now
            while not breaker.lets_pass():
                clock.now += 0.25
            assert not breaker.lets_pass()
            breaker.failed()
            pauses.append(clock.now - started)
        assert pauses == sorted(pauses)
        assert pauses[0] == Breaker.FIRST_PAUSE_SECONDS
        assert pauses[-1] == Breaker.LONGEST_PAUSE_SECONDS


class TestValues:
    @given(st.binary(max_size=40))
    def test_what_was_not_packed_here_is_no_answer(self, junk):
        good = pack(answers(1))[0]
        assert sound({b"good": good}) == {b"good": good}
        known = sound({b"junk": junk, b"good": good})
        assert known.pop(b"good") == good
        if known:
            row = unpack([known[b"junk"]])
            assert row.min() >= 0
            assert abs(row.sum() - 1) < 1e-3

    def test_a_flipped_bit_is_found_out(self):
        good = pack(answers(1))[0]
        flipped = bytearray(good)
        flipped[3] ^= 0x40
        assert sound({b"key": bytes(flipped)}) == {}

    def test_keys_follow_the_meaning_of_a_pair(self):
        pairs = Pairs(
            Queries.of(["mouse", " mouse ", "mouse", "mouse"], ["us", "us", "us", "us"]),
            Products.of(
                [
                    {"product_id": "1", "locale": "us", "title": "a"},
                    {"product_id": "1", "locale": "us", "title": "<b>a</b>"},
                    {"product_id": "1", "locale": "jp", "title": "a"},
                    {"product_id": "1", "locale": "us", "title": "a", "brand": "b"},
                ]
            ),
            np.arange(4, dtype=np.int32),
            np.arange(4, dtype=np.int32),
        )
        keys = label_keys("r", pairs)
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryLabelCache),
        ("sqlite:///{folder}/deep/labels.sqlite", SqliteLabelCache),
        ("redis://127.0.0.1:1/3", RedisLabelCache),
        ("unix:///nowhere.sock", RedisLabelCache),
    ],
)
def test_a_url_chooses_the_store(url, kind, tmp_path):
    cache = open_label_cache(url.format(folder=tmp_path), ttl_seconds=1, megabytes=1, timeout_ms=10)
    using(cache, lambda _: asyncio.sleep(0))
    assert isinstance(cache, kind)


@pytest.mark.parametrize("url", ["", "labels.sqlite", "sqlite://", "http://x", "redis://h:port/0"])
def test_a_url_that_leads_nowhere_is_told_at_the_start(url):
    with pytest.raises(ConfigError, match=r"expected .*redis://"):
        open_label_cache(url, ttl_seconds=1, megabytes=1, timeout_ms=10)

"""Labels and the states they were made of: what is remembered is what would be computed now."""

import asyncio
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis

from models.member import softmax
from models.pairs import Pairs, Products
from models.registry import KINDS
from models.release import load_release, write_release
from models.states import StateStore, open_states
from models.vectors.source import product_keys
from service import Settings, running
from service.editions import WatchedStates, watched
from service.label_cache import keys_amid, label_keys
from service.neighbourhoods import Neighbourhoods
from tests.redis_server import RedisServer
from tests.service.hashing_member import HashingMember
from tests.service.hearing_member import PACKING, HearingMember

STORED = range(6)  # products of which there are states; more are asked for
ASKED = range(8)


@pytest.fixture(scope="module")
def hearing_release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    KINDS["hearing"] = "tests.service.hearing_member:HearingMember"
    yield write_release(
        tmp_path_factory.mktemp("hearing"),
        [("hearing", HearingMember("hearing"))],
        Pairs.of_query("mouse", "us", products(ASKED)),
        metrics={},
        configuration={},
        versions={},
        data_fingerprint="none",
    )
    del KINDS["hearing"]


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("r"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["folder", "sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return str(tmp_path / ("states" if request.param == "folder" else "states.sqlite"))


def products(numbers: Sequence[int]) -> Products:
    named = [{"product_id": str(n), "locale": "us", "title": f"mouse {n}"} for n in numbers]
    return Products.of(named)


def states(numbers: Sequence[int], version: int) -> np.ndarray:
    """Other states for every product and version."""
    rows = [np.random.default_rng([number, version]).normal(0, 2, 4) for number in numbers]
    return np.array(rows, np.float32).reshape(-1, 4)


def opened(where: str) -> StateStore:
    member = HearingMember("hearing")
    return open_states(where, member.name, member.vectors_identity(), PACKING)


def commit(where: str, version: int, numbers: Sequence[int] = STORED, name: str = "") -> None:
    """Make the states of a version the current snapshot."""
    with closing(opened(where)) as store, store.begin(name or f"v{version}") as draft:
        digests = np.arange(len(numbers), dtype=np.uint64) + np.uint64(1_000 * version)
        packed = PACKING.pack(states(numbers, version))
        draft.append(product_keys(products(numbers)), digests, packed)
        draft.commit(len(numbers))


def answer(version: int | None, stored: Sequence[int] = STORED) -> np.ndarray:
    """What is computed of the states of a version, or without any."""
    pairs = Pairs.of_query("mouse", "us", products(ASKED))
    logits = HashingMember("hearing").predict_logits(pairs)
    if version is not None:
        logits[list(stored)] = states(stored, version)
    return softmax(logits)


@dataclass
class Asker:
    client: httpx.Client

    def ask(self, numbers: Sequence[int] = ASKED) -> tuple[np.ndarray, int]:
        """The probabilities of each product, and how many of them were remembered."""
        named = [{"product_id": str(n), "title": f"mouse {n}"} for n in numbers]
        asked = {"query": "mouse", "locale": "us", "products": named}
        response = self.client.post("/v1/classify", json=asked)
        response.raise_for_status()
        results = response.json()["results"]
        rows = [list(one["probabilities"].values()) for one in results]
        return np.array(rows, np.float32), sum(one["cached"] for one in results)

    def gets(self, expected: np.ndarray, cached: int) -> None:
        """What is answered to all is that, and so many were remembered."""
        found = self.ask()
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
        assert found[1] == cached

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        return float(line.split()[1])

    def waits_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@contextmanager
def serving(release: Path, states: str | None, **given: object) -> Iterator[Asker]:
    settings = {"cache": "memory://", "states_timeout_ms": 1_000.0, **given}
    with (
        running(Settings(release=release, port=0, states=states, **settings)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield Asker(client)


class TestEveryStore:
    def test_what_an_edition_answered_is_remembered(self, hearing_release, where):
        commit(where, 1)
        with serving(hearing_release, where) as asker:
            asker.gets(answer(1), cached=0)
            asker.gets(answer(1), cached=8)  # those that it does not hold too
            assert asker.metric("esci_labels_forgone_total") == 0

    def test_a_new_snapshot_is_answered_of_at_once(self, hearing_release, where):
        with serving(hearing_release, where) as asker:
            asker.gets(answer(None), cached=0)
            asker.gets(answer(None), cached=8)
            for version in (1, 2):
                commit(where, version)
                asker.gets(answer(version), cached=0)
                asker.gets(answer(version), cached=8)
            commit(where, 3, range(3))  # fewer: the others are computed again
            asker.gets(answer(3, range(3)), cached=0)

    def test_what_is_mended_under_its_old_name_is_answered_of(self, hearing_release, where):
        commit(where, 1, range(2), name="same")  # has lost the others
        with serving(hearing_release, where) as asker:
            asker.gets(answer(1, range(2)), cached=0)
            commit(where, 1, name="same")
            asker.gets(answer(1), cached=0)
            commit(where, 1, range(2), name="same")
            asker.gets(answer(1, range(2)), cached=0)
            commit(where, 1, name="same")
            asker.gets(answer(1), cached=0)

    def test_another_service_that_shares_the_cache_finds_what_is_remembered(
        self, hearing_release, where, tmp_path
    ):
        commit(where, 1)
        cache = f"sqlite:///{tmp_path}/labels.sqlite"
        with serving(hearing_release, where, cache=cache) as asker:
            asker.gets(answer(1), cached=0)
            with serving(hearing_release, where, cache=cache) as other:
                other.gets(answer(1), cached=8)
            # Who has no states finds nothing of it, nor leaves anything.
            with serving(hearing_release, None, cache=cache) as other:
                other.gets(answer(None), cached=0)
            commit(where, 2)
            with serving(hearing_release, where, cache=cache) as other:
                other.gets(answer(2), cached=0)
            asker.gets(answer(2), cached=8)

    def test_a_switch_between_key_and_look_up_is_not_remembered(self, hearing_release, where):
        commit(where, 1)
        with serving(hearing_release, where) as asker, ThreadPoolExecutor(1) as threads:
            HearingMember.gate.clear()
            try:
                asked = threads.submit(asker.ask)
                asker.waits_for(lambda: asker.metric("esci_queued_pairs") == 8)
                commit(where, 2)
            finally:
                HearingMember.gate.set()
            found, cached = asked.result()
            np.testing.assert_allclose(found, answer(2), rtol=1e-6)
            assert cached == 0
            assert asker.metric("esci_labels_forgone_total") == 8
            asker.gets(answer(2), cached=0)
            asker.gets(answer(2), cached=8)

    def test_whoever_asks_while_snapshots_come_and_go_gets_one_that_was_current(
        self, hearing_release, where
    ):
        versions = range(1, 16)
        current, seen = [1], set()
        commit(where, 1)
        with serving(hearing_release, where) as asker, ThreadPoolExecutor(1) as threads:

            def switch() -> None:
                for version in versions[1:]:
                    until = len(seen) + 1
                    commit(where, version)
                    current.append(version)
                    deadline = time.monotonic() + 10
                    while len(seen) < until and time.monotonic() < deadline:
                        time.sleep(0.001)

            switching = threads.submit(switch)
            answers = {version: answer(version)[0] for version in versions}
            while not switching.done():
                first = current[-1]
                ((found,), _) = asker.ask([0])
                (version,) = [v for v in versions if np.allclose(answers[v], found, rtol=1e-6)]
                assert first <= version <= current[-1] + 1
                seen.add(version)
            switching.result()
            assert len(seen) > 4
            asker.ask()
            asker.gets(answer(versions[-1]), cached=8)


class TestRedisAway:
    """A Redis that has stopped answers nobody; when it goes on, it has all that it had."""

    @contextmanager
    def away(self, server: RedisServer) -> Iterator[None]:
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            server.process.send_signal(signal.SIGCONT)

    def test_what_was_answered_meanwhile_is_not_remembered(self, hearing_release, redis_server):
        commit(redis_server.url, 1)
        # So long that only what is stopped takes it, on a machine that is busy too.
        given = {"states": redis_server.url, "states_timeout_ms": 500.0}
        with serving(hearing_release, **given) as asker:
            first, _ = asker.ask(range(4))
            np.testing.assert_allclose(first, answer(1)[:4], rtol=1e-6)
            with self.away(redis_server):
                for _ in range(4):  # by then it is left alone
                    asker.gets(answer(None), cached=0)
                assert asker.metric("esci_labels_forgone_total") == 4 * 8
            found = None
            deadline = time.monotonic() + 30
            while found is None or np.allclose(found, answer(None), rtol=1e-6):
                assert time.monotonic() < deadline
                found, cached = asker.ask()
                # Nothing is remembered but what was answered before, by the states that are back.
                assert cached == (0 if np.allclose(found, answer(None), rtol=1e-6) else 4)
            np.testing.assert_allclose(found, answer(1), rtol=1e-6)
            asker.gets(answer(1), cached=8)

    def test_one_that_goes_between_key_and_look_up_is_not_remembered(
        self, hearing_release, redis_server
    ):
        commit(redis_server.url, 1)
        given = {"states": redis_server.url, "states_timeout_ms": 500.0}
        with serving(hearing_release, **given) as asker, ThreadPoolExecutor(1) as threads:
            HearingMember.gate.clear()
            asked = threads.submit(asker.ask)
            asker.waits_for(lambda: asker.metric("esci_queued_pairs") == 8)
            with self.away(redis_server):
                HearingMember.gate.set()
                found, cached = asked.result()
            np.testing.assert_allclose(found, answer(None), rtol=1e-6)
            assert cached == 0
            asker.gets(answer(1), cached=0)
            asker.gets(answer(1), cached=8)

    def test_a_snapshot_that_somebody_puts_back_finds_its_own_labels(
        self, hearing_release, redis_server
    ):
        commit(redis_server.url, 1)
        with (
            serving(hearing_release, redis_server.url) as asker,
            ThreadPoolExecutor(1) as threads,
            redis.Redis.from_url(redis_server.url) as client,
        ):
            (current,) = client.keys("esci:state:*:current")
            (committer,) = client.keys("esci:state:*:committer")
            before = {key: client.get(key) for key in (current, committer)}
            HearingMember.gate.clear()
            try:
                asked = threads.submit(asker.ask)
                asker.waits_for(lambda: asker.metric("esci_queued_pairs") == 8)
                commit(redis_server.url, 2)
            finally:
                HearingMember.gate.set()
            np.testing.assert_allclose(asked.result()[0], answer(2), rtol=1e-6)
            client.mset(before)
            asker.gets(answer(1), cached=0)

    def test_a_request_costs_one_read_and_its_misses_one_look_up(
        self, hearing_release, redis_server
    ):
        commit(redis_server.url, 1)
        with (
            serving(hearing_release, redis_server.url) as asker,
            redis.Redis.from_url(redis_server.url) as client,
        ):
            asker.ask([0])  # connects, and brings the script
            client.config_resetstat()
            for _ in range(5):
                asker.ask(ASKED)
            stats = client.info("commandstats")
            # Reads by scripts are counted too: the look-up of the first request has one.
            assert stats["cmdstat_mget"]["calls"] == 5 + 1
            assert stats["cmdstat_evalsha"]["calls"] == 1
            assert set(stats) <= {f"cmdstat_{one}" for one in (
                "mget", "evalsha", "hget", "info", "config", "config|resetstat", "client",
            )}  # fmt: skip


class TestWhatIsSaid:
    def test_one_store_that_is_away_leaves_all_unsaid(self, tmp_path):
        commit(str(tmp_path), 1)
        with (
            closing(opened(str(tmp_path))) as here,
            closing(opened(f"unix://{tmp_path}/no")) as away,
        ):
            edition = here.edition()
            said = asyncio.run(Neighbourhoods([], {"a": here, "b": here}).editions())
            assert said == {"a": edition, "b": edition}
            assert asyncio.run(Neighbourhoods([], {"a": here, "b": away}).editions()) is None

    def test_work_is_made_of_what_every_member_was_answered_of(self, tmp_path):
        commit(str(tmp_path), 1)
        keys = product_keys(products(ASKED))
        with (
            closing(opened(str(tmp_path))) as here,
            closing(opened(f"unix://{tmp_path}/no")) as away,
        ):
            a, b = WatchedStates("a", here), WatchedStates("b", away)
            edition = here.edition()

            def of_two() -> None:
                a.get_many(keys)
                commit(str(tmp_path), 2)
                a.get_many(keys)

            found, said = watched(["a"], lambda: a.get_many(keys))
            assert found.known.tolist() == [number in STORED for number in ASKED]
            assert said == {"a": edition}
            assert watched([], lambda: a.get_many(keys))[1] == {}
            assert watched(["a", "b"], lambda: a.get_many(keys))[1] is None
            assert watched(["a", "b"], lambda: (a.get_many(keys), b.get_many(keys)))[1] is None
            assert watched(["a"], lambda: a.get_many(keys[:0]))[1] is None
            assert watched(["a"], of_two)[1] is None
            assert watched(["a"], lambda: None)[1] is None


class TestWithoutStates:
    def test_keys_are_those_of_the_release_alone(self, hearing_release, tmp_path):
        pairs = Pairs.of_query("mouse", "us", products(ASKED))
        keys = label_keys(load_release(hearing_release).release_id, pairs)
        with serving(hearing_release, None, cache=f"sqlite:///{tmp_path}/labels.sqlite") as asker:
            asker.gets(answer(None), cached=0)
            asker.gets(answer(None), cached=8)
            assert 'phase="cache_read"' in asker.client.get("/metrics").text
            assert 'phase="editions"' not in asker.client.get("/metrics").text
        with closing(sqlite3.connect(tmp_path / "labels.sqlite")) as file:
            found = {key for (key,) in file.execute("SELECT key FROM labels")}
        assert found == set(keys)

    def test_keys_amid_editions_tell_release_members_and_editions_apart(self):
        pairs = Pairs.of_query("mouse", "us", products(ASKED))
        seen: set[bytes] = set()
        amid = ({}, {"a": "x"}, {"a": "y"}, {"a": ""}, {"b": "x"}, {"a": "x", "b": "x"})
        for release in ("r", "s"):
            keys = label_keys(release, pairs)
            assert keys_amid(keys, {}) is keys
            assert keys_amid(keys, {"a": "1", "b": "2"}) == keys_amid(keys, {"b": "2", "a": "1"})
            for editions in amid:
                found = keys_amid(keys, editions)
                assert {key[:8] for key in found} == {keys[0][:8]}
                assert [key[-16:] for key in found] == [key[-16:] for key in keys]
                assert seen.isdisjoint(found)
                seen.update(found)

    def test_work_in_threads_that_nobody_watches_is_not_remembered(self, hearing_release, tmp_path):
        where = str(tmp_path / "states")
        commit(where, 1)
        predict = HearingMember.predict_logits

        def elsewhere(self: HearingMember, pairs: Pairs) -> np.ndarray:
            found: list[np.ndarray] = []
            thread = threading.Thread(target=lambda: found.append(predict(self, pairs)))
            thread.start()
            thread.join()
            return found[0]

        with pytest.MonkeyPatch.context() as patch, serving(hearing_release, where) as asker:
            patch.setattr(HearingMember, "predict_logits", elsewhere)
            asker.gets(answer(1), cached=0)
            asker.gets(answer(1), cached=0)

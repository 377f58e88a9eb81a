"""What every store of product states keeps, whatever it is stored in."""

import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from select import select

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from models.breaker import Breaker
from models.errors import ConfigError, DataError, ReleaseError, StoreError
from models.states import STATES, StateStore, StoreHealth, open_states
from models.states.folder import FolderStates
from models.states.records import RecordForm
from models.states.redis import RedisStates
from models.states.sqlite import SqliteStates
from models.states.sqlite_file import transaction
from models.vectors.packing import Packing
from models.vectors.source import KEY_BYTES, VectorSource
from models.vectors.store import ProductVectors
from tests.clock import Clock
from tests.redis_server import RedisServer

STORES = ("folder", "sqlite", "redis")
WIDTH = 6
PACKING = Packing("fp16", WIDTH)
FORM = RecordForm(PACKING)
IDENTITY, OTHER = "a" * 64, "b" * 64

_names = (f"m{number}" for number in itertools.count())


def keys(*numbers: int) -> np.ndarray:
    """A key per number; those below 4 are alike but for their last byte, and full of zeros."""
    digits = [
        number.to_bytes(KEY_BYTES, "big")
        if number < 4
        else blake2b(str(number).encode(), digest_size=KEY_BYTES).digest()
        for number in numbers
    ]
    return np.frombuffer(b"".join(digits), np.uint8).reshape(-1, KEY_BYTES)


def states(numbers, version: int = 0) -> np.ndarray:
    """Other states for every number and version."""
    rows = [np.random.default_rng([number, version]).normal(size=WIDTH) for number in numbers]
    return PACKING.pack(np.array(rows, np.float32).reshape(-1, WIDTH))


def digests(numbers, version: int = 0) -> np.ndarray:
    """Other digests for every number and version, some of them beyond an int64."""
    found = [
        int.from_bytes(blake2b(f"{number} {version}".encode(), digest_size=8).digest(), "big")
        for number in numbers
    ]
    return np.array(found, np.uint64)


def fill(store: StateStore, name: str, numbers, version: int = 0) -> None:
    """Make the states of `numbers` the current snapshot."""
    with store.begin(name) as draft:
        draft.append(keys(*numbers), digests(numbers, version), states(numbers, version))
        draft.commit(len(set(numbers)))


def answered(source: VectorSource, numbers) -> dict[int, bytes]:
    """The state of each of `numbers` that is known."""
    known, packed = source.get_many(keys(*numbers))
    assert known.shape == (len(numbers),)
    assert packed.shape == (known.sum(), PACKING.stride)
    there = [number for number, is_known in zip(numbers, known, strict=True) if is_known]
    return {number: row.tobytes() for number, row in zip(there, packed, strict=True)}


def expected(numbers, version: int = 0) -> dict[int, bytes]:
    rows = states(numbers, version)
    return {number: row.tobytes() for number, row in zip(numbers, rows, strict=True)}


@dataclass
class Place:
    """Where a kind of store is, and how to get at it behind the store's back."""

    kind: str
    folder: Path
    server: RedisServer
    member: str

    @property
    def where(self) -> str:
        if self.kind == "redis":
            return self.server.url
        return str(self.folder / ("states.sqlite" if self.kind == "sqlite" else "states"))

    def open(self, identity: str = IDENTITY, member: str | None = None) -> StateStore:
        return open_states(self.where, member or self.member, identity, PACKING, timeout_ms=2_000)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url)

    def shards(self) -> list[bytes]:
        """The hashes in Redis that hold records of the member."""
        found = self.client.scan_iter(f"esci:state:{{{self.member}}}:*:*.*:*", count=10_000)
        return sorted(found)

    def snapshots(self) -> int:
        """How many snapshots and drafts take up room."""
        if self.kind == "folder":
            return len([path for path in self._place().iterdir() if path.is_dir()])
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.where)) as file:
                tables = file.execute("SELECT name FROM sqlite_master WHERE name LIKE 'states%'")
                rows = file.execute("SELECT id FROM snapshots")
                named = {f"states_{number}" for (number,) in rows}
                assert named == {name for (name,) in tables}
                return len(named)
        # What goes by itself within the minute is as good as gone.
        kept = {shard.split(b":")[-2] for shard in self.shards() if not self._goes(shard)}
        return len(kept)

    def damage(self, number: int, record: bytes) -> None:
        """Put `record` where the current snapshot has that of `number`."""
        key = keys(number).tobytes()
        if self.kind == "folder":
            (rows,) = self._place().glob("*/*.rows.npy")
            content = bytearray(rows.read_bytes())
            at = content.index(digests([number]).tobytes())
            content[at : at + len(record)] = record
            with rows.open("r+b") as file:
                file.write(content)
        elif self.kind == "sqlite":
            with closing(sqlite3.connect(self.where)) as file:
                (table,) = file.execute("SELECT id FROM snapshots WHERE is_current").fetchone()
                file.execute(f"UPDATE states_{table} SET record = ? WHERE key = ?", (record, key))  # noqa: S608
                file.commit()
        else:
            (shard,) = (one for one in self.shards() if self.client.hexists(one, key))
            self.client.hset(shard, key, record)

    def _goes(self, shard: bytes) -> bool:
        left = self.client.pttl(shard)  # -1 of what stays, -2 of what is gone since it was listed
        return bool(left != -1 and left <= 60_000)

    def _place(self) -> Path:
        (place,) = Path(self.where).glob(f"{self.member}-{IDENTITY[:12]}")
        return place


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Place:
    return Place(request.param, tmp_path, redis_server, next(_names))


@pytest.fixture
def redis_place(tmp_path: Path, redis_server: RedisServer) -> Place:
    return Place("redis", tmp_path, redis_server, next(_names))


# Four catalogues that have much in common; a name says what is in it.
CATALOGUES = {
    "one": dict.fromkeys(range(8), 0),
    "two": {**dict.fromkeys(range(6), 0), 6: 1, 7: 1},
    "three": {number: number % 2 for number in range(2, 12)},
    "none": {},
}


class TestStateStoreContract:
    def test_nothing_is_known_or_made_before_something_is_written(self, place):
        with closing(place.open()) as store:
            assert store.current() is None
            assert answered(store, range(5)) == {}
            assert store.health() == StoreHealth(place.kind, healthy=True, troubles=0)
        assert not list(place.folder.iterdir())
        assert not place.shards()

    def test_what_was_committed_comes_back_to_the_last_bit(self, place):
        # More than any back-end does in one go, in another order, with repeats and absent ones.
        numbers = list(range(2_500))
        with closing(place.open()) as store:
            with store.begin("all") as draft:
                draft.append(keys(*numbers), digests(numbers), states(numbers))
                draft.commit(len(numbers))
            drawn = np.random.default_rng(0).integers(0, 3_000, 2_600)
            asked = drawn.tolist()
            known, packed = store.get_many(keys(*asked))
            np.testing.assert_array_equal(known, drawn < 2_500)
            there = drawn[known].tolist()
            np.testing.assert_array_equal(packed, states(there))
            current = store.current()
            assert (current.name, len(current)) == ("all", 2_500)
            stamped = current.digests(keys(*asked))
            np.testing.assert_array_equal(stamped.known, known)
            np.testing.assert_array_equal(stamped.digests, digests(there))
            assert answered(current, asked) == answered(store, asked)

    def test_store_and_snapshot_are_sources_and_nothing_asked_is_nothing_answered(self, place):
        with closing(place.open()) as store:
            fill(store, "one", range(3))
            current = store.current()
            for source in (store, current):
                asked: VectorSource = source
                assert asked.identity == IDENTITY
                assert answered(asked, []) == {}
            assert store.get_named(keys()).edition is None
            assert current.digests(keys()).digests.tolist() == []
            with store.begin("two") as draft:
                assert draft.known(keys()).tolist() == []
                assert draft.take_over(keys(), digests([])).tolist() == []
                draft.append(keys(), digests([]), states([]))
                draft.commit(0)
            assert (store.current().name, len(store.current())) == ("two", 0)

    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from(sorted(CATALOGUES)),
                st.sets(st.integers(0, 11)),
                st.booleans(),
                st.booleans(),
            ),
            max_size=6,
        )
    )
    @settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_is_begun_left_and_finished_readers_see_what_was_committed(self, place, steps):
        place.member = next(_names)
        shown: dict[int, int] = {}
        drafts: dict[str, dict[int, int]] = {}
        with closing(place.open()) as reader:
            for name, some, takes_over, finishes in steps:
                wanted = CATALOGUES[name]
                numbers = list(wanted)
                versions = [wanted[number] for number in numbers]
                own = drafts.setdefault(name, {})
                with closing(place.open()) as store, store.begin(name) as draft:
                    known = draft.known(keys(*numbers))
                    left = dict(zip(numbers, known, strict=True))
                    assert all(left[number] for number in own)
                    # A snapshot that has just been replaced may be taken up again by its name.
                    assert place.kind == "redis" or known.sum() == len(own)
                    if takes_over:
                        each = [digests([n], v) for n, v in wanted.items()]
                        stamps = np.concatenate([np.empty(0, np.uint64), *each])
                        taken = draft.take_over(keys(*numbers), stamps)
                        elsewhere = [shown, *drafts.values()]
                        for number, version, is_here in zip(numbers, versions, taken, strict=True):
                            assert is_here or not left[number]
                            there = any(one.get(number) == version for one in elsewhere)
                            assert is_here or not there
                            assert place.kind == "redis" or is_here == (left[number] or there)
                            if is_here:
                                own[number] = version
                    added = set(numbers) if finishes else some & set(numbers)
                    for version in (0, 1):
                        part = [number for number in sorted(added) if wanted[number] == version]
                        if part:
                            rows = digests(part, version), states(part, version)
                            draft.append(keys(*part), *rows)
                            own.update(dict.fromkeys(part, version))
                    if finishes:
                        draft.commit(len(numbers))
                        shown, drafts = dict(wanted), {}
                assert answered(reader, range(12)) == {
                    number: states([number], version).tobytes()
                    for number, version in sorted(shown.items())
                }
            assert reader.health().troubles == 0

    def test_nobody_sees_a_draft(self, place):
        with closing(place.open()) as store, closing(place.open()) as reader:
            fill(store, "one", range(4))
            with store.begin("two") as draft:
                draft.append(keys(*range(8)), digests(range(8), 1), states(range(8), 1))
                for each in (store, reader, place.open()):
                    assert answered(each, range(8)) == expected(range(4))
                    assert each.current().name == "one"
                draft.commit(8)
            for each in (store, reader, place.open()):
                assert answered(each, range(8)) == expected(range(8), 1)

    def test_readers_in_many_threads_see_one_snapshot_whole_at_any_time(self, place):
        numbers = list(range(40))
        versions = {expected(numbers, version)[0]: version for version in range(8)}
        seen: list[tuple[int, str | None]] = []
        done = threading.Event()
        with closing(place.open()) as store, closing(place.open()) as reader:
            fill(store, "v0", numbers, 0)

            def read() -> None:
                while not done.is_set():
                    found, edition = reader.get_named(keys(*numbers))
                    version = versions[found.packed[0].tobytes()]
                    np.testing.assert_array_equal(found.packed, states(numbers, version))
                    seen.append((version, edition))

            with ThreadPoolExecutor(4) as threads:
                reading = [threads.submit(read) for _ in range(4)]
                try:
                    for version in range(1, 8):
                        fill(store, f"v{version}", numbers, version)
                        until = len(seen) + 8
                        while len(seen) < until and not any(one.done() for one in reading):
                            time.sleep(0.001)
                finally:
                    done.set()
                for one in reading:
                    one.result()
            assert len(set(seen)) > 4
            # No answer bears the name of another.
            assert len(set(seen)) == len({version for version, _ in seen})
            assert len(set(seen)) == len({edition for _, edition in seen if edition})
            assert answered(reader, numbers) == expected(numbers, 7)
            assert reader.health().troubles == 0

    def test_every_commit_is_another_edition_and_all_readers_name_it_alike(self, place):
        with closing(place.open()) as store, closing(place.open()) as reader:
            assert reader.edition() == reader.get_named(keys(1)).edition == ""
            seen = [""]
            for name in ("one", "one", "two", "one", "one", "two"):
                with store.begin(name) as draft:
                    draft.append(keys(1), digests([1]), states([1]))
                    assert store.edition() == reader.edition() == seen[-1]
                    draft.commit(1)
                with closing(place.open()) as later:
                    every = (store, reader, later)
                    said = {one.edition() for one in every}
                    said |= {one.get_named(keys(1, 2)).edition for one in every}
                    assert not any(one.health().troubles for one in every)
                seen += said
            assert len(set(seen)) == len(seen) == 7
            assert None not in seen
            with (
                closing(place.open(member=next(_names))) as twin,
                closing(place.open(OTHER)) as other,
            ):
                assert twin.edition() == other.edition() == ""
                fill(twin, "one", [1])
                fill(other, "one", [1])
                assert reader.edition() == seen[-1]
                other.forget_others()
                assert reader.edition() == reader.get_named(keys(1)).edition == ""
            left = place.client.keys(f"esci:state:{{{place.member}}}:{IDENTITY}*")
            assert all(place.client.pttl(key) > 0 for key in left)  # of snapshots before

    def test_a_store_that_comes_later_is_noticed(self, place):
        with closing(place.open()) as reader:
            assert answered(reader, [1]) == {}
            with closing(place.open()) as store:
                fill(store, "one", [1])
            assert answered(reader, [1]) == expected([1])

    def test_what_has_not_changed_is_taken_over(self, place):
        with closing(place.open()) as store:
            fill(store, "one", range(600))
            stamps = digests(range(700))
            stamps[:5] += np.uint64(1)
            with store.begin("two") as draft:
                taken = draft.take_over(keys(*range(700)), stamps)
                assert np.flatnonzero(taken).tolist() == list(range(5, 600))
                np.testing.assert_array_equal(draft.known(keys(*range(700))), taken)
                draft.append(keys(*range(5)), stamps[:5], states(range(5), 1))
                draft.commit(600)
            found = answered(store, range(700))
            assert found == {**expected(range(600)), **expected(range(5), 1)}
            again = store.current().digests(keys(*range(600))).digests
            np.testing.assert_array_equal(again, stamps[:600])

    def test_what_another_draft_left_is_taken_over_as_well(self, place):
        with closing(place.open()) as store:
            with store.begin("one") as draft:
                draft.append(keys(*range(50)), digests(range(50)), states(range(50)))
            with store.begin("two") as draft:
                taken = draft.take_over(keys(*range(60)), digests(range(60)))
                assert np.flatnonzero(taken).tolist() == list(range(50))

    def test_a_wrong_count_is_refused_and_nothing_is_lost(self, place):
        with closing(place.open()) as store:
            fill(store, "one", range(4))
            for wrong in (5, 7):
                with store.begin("two") as draft:
                    draft.append(keys(*range(6)), digests(range(6), 1), states(range(6), 1))
                    with pytest.raises(StoreError, match=rf"are 6 and were to be {wrong}.*again"):
                        draft.commit(wrong)
                assert answered(store, range(6)) == expected(range(4))
            with store.begin("two") as draft:
                assert draft.known(keys(*range(6))).all()
                draft.commit(6)
            assert answered(store, range(6)) == expected(range(6), 1)

    def test_nothing_stays_but_what_is_current(self, place):
        with closing(place.open()) as store:
            for name in ("left", "also-left"):
                with store.begin(name) as draft:
                    draft.append(keys(*range(9)), digests(range(9)), states(range(9)))
            fill(store, "one", range(9))
            assert place.snapshots() == 1
            fill(store, "two", range(9))
            assert place.snapshots() == 1
            with store.begin("two") as draft:  # is another than what readers see
                assert not draft.known(keys(*range(9))).any()
                draft.append(keys(*range(9)), digests(range(9)), states(range(9)))
                assert place.snapshots() == 2
                draft.commit(9)
            assert place.snapshots() == 1
            assert answered(store, range(9)) == expected(range(9))

    def test_a_killed_writer_has_lost_nothing_and_locks_nobody_out(self, place):
        code = f"""
import sys
from tests.contracts.test_state_store import *
if {place.kind == "redis"}:
    store = RedisStates({place.where!r}, {place.member!r}, IDENTITY, FORM, 500, lock_seconds=2)
else:
    store = open_states({place.where!r}, {place.member!r}, IDENTITY, PACKING)
draft = store.begin("one")
for number in range(10**6):
    draft.append(keys(number), digests([number]), states([number]))
    print(number, flush=True)
"""
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            while int(writer.stdout.readline()) < 5:
                pass
            writer.send_signal(signal.SIGKILL)
            written = [5, *map(int, writer.stdout.read().split())]
        with closing(place.open()) as store:
            assert store.current() is None
            assert answered(store, range(6)) == {}
            with store.begin("one") as draft:
                known = draft.known(keys(*range(max(written) + 9)))
                assert known[: max(written) + 1].all()
                assert known.sum() <= max(written) + 2  # one that it could not tell of any more
                draft.commit(int(known.sum()))
            assert answered(store, range(6)) == expected(range(6))

    def test_a_second_writer_is_told_and_the_first_goes_on(self, place):
        lock_seconds = {"lock_seconds": 1.0} if place.kind == "redis" else {}
        kinds = {"folder": FolderStates, "sqlite": SqliteStates, "redis": RedisStates}
        where = place.where if place.kind == "redis" else Path(place.where)
        timeout = (2_000,) if place.kind == "redis" else ()
        made = kinds[place.kind]
        with closing(made(where, place.member, IDENTITY, FORM, *timeout, **lock_seconds)) as store:
            with store.begin("one") as draft:
                for name in ("one", "two"):
                    with pytest.raises(StoreError, match=rf"{os.getpid()}.* is writing .*wait"):
                        store.begin(name)
                with pytest.raises(StoreError, match="is writing"):
                    store.forget_others()
                # Another member is none of its business.
                with closing(place.open(member=next(_names))) as other:
                    fill(other, "one", [1])
                draft.append(keys(1), digests([1]), states([1]))
                draft.commit(1)
            with store.begin("two"):
                pass
            assert answered(store, [1]) == expected([1])

    def test_a_draft_that_was_closed_takes_nothing_any_more(self, place):
        with closing(place.open()) as store:
            with store.begin("one") as draft:
                draft.commit(0)
            for use in (
                lambda: draft.append(keys(1), digests([1]), states([1])),
                lambda: draft.known(keys(1)),
                lambda: draft.take_over(keys(1), digests([1])),
                lambda: draft.commit(0),
            ):
                with pytest.raises(StoreError, match="closed"):
                    use()

    def test_what_is_not_fit_to_be_stored_is_refused_whole(self, place):
        with closing(place.open()) as store, store.begin("one") as draft:
            rotten = states([1, 2])
            rotten[1, :2] = np.array([np.inf], "<f2").view(np.uint8)
            with pytest.raises(DataError, match="not finite"):
                draft.append(keys(1, 2), digests([1, 2]), rotten)
            for given_keys, stamps, packed in (
                (keys(1), digests([1, 2]), states([1])),
                (keys(1), digests([1]), states([1, 2])),
                (keys(1), digests([1]), states([1])[:, :-2]),
                (keys(1)[:, :-1], digests([1]), states([1])),
            ):
                with pytest.raises(DataError, match="expected"):
                    draft.append(given_keys, stamps, packed)
            assert not draft.known(keys(1, 2)).any()

    @pytest.mark.parametrize("wrong", [np.nan, -np.inf])
    def test_a_record_that_is_damaged_is_unknown_and_the_same_snapshot_mends_it(self, place, wrong):
        numbers = list(range(4, 24))
        with closing(place.open()) as reader, closing(place.open()) as store:
            fill(store, "one", numbers)
            assert answered(reader, numbers) == expected(numbers)
            rotten = states([10])
            rotten[0, -2:] = np.array([wrong], "<f2").view(np.uint8)
            place.damage(10, FORM.join(keys(10), digests([10]), states([10]))[:, :8].tobytes()
                         + rotten.tobytes())  # fmt: skip
            whole = [number for number in numbers if number != 10]
            assert answered(reader, numbers) == expected(whole)
            with place.open().begin("one") as draft:
                taken = draft.take_over(keys(*numbers), digests(numbers))
                assert not taken[numbers.index(10)]
                missing = [n for n, is_here in zip(numbers, taken, strict=True) if not is_here]
                draft.append(keys(*missing), digests(missing), states(missing))
                draft.commit(len(numbers))
            assert answered(reader, numbers) == expected(numbers)

    def test_what_was_made_by_another_is_nowhere(self, place):
        mine, other = place.open(), place.open(OTHER)
        twin = place.open(member=f"{place.member}-twin")
        with closing(mine), closing(other), closing(twin):
            fill(mine, "one", range(4))
            assert other.current() is None
            assert answered(other, range(4)) == answered(twin, range(4)) == {}
            fill(other, "one", range(4), version=1)
            fill(twin, "one", range(4), version=2)
            assert answered(mine, range(4)) == expected(range(4))
            assert answered(other, range(4)) == expected(range(4), 1)
            with other.begin("two") as draft:
                assert not draft.take_over(keys(*range(4)), digests(range(4))).any()

    def test_others_of_the_same_member_are_forgotten_when_asked(self, place):
        mine, other = place.open(), place.open(OTHER)
        twin = place.open(member=f"{place.member}-twin")
        third = place.open("c" * 64)
        twin_too = place.open(OTHER, f"{place.member}-twin")
        with closing(mine), closing(other), closing(twin), closing(third), closing(twin_too):
            assert mine.forget_others() == 0
            with third.begin("left") as draft:
                draft.append(keys(1), digests([1]), states([1]))
            for store in (mine, twin, twin_too, other):
                fill(store, "one", range(4))
            gone = other.current()
            assert mine.forget_others() == 2
            assert mine.forget_others() == 0
            fill(mine, "two", range(4))
            assert answered(other, range(4)) == {}
            assert other.current() is None
            if place.kind != "folder":  # where it is mapped
                assert answered(gone, range(4)) == {}
            with third.begin("left") as draft:
                assert not draft.known(keys(1)).any()
            for store in (mine, twin, twin_too):
                assert answered(store, range(4)) == expected(range(4))

    @pytest.mark.parametrize("name", ["", "a/b", "../up", "a.b", "a" * 129, "-a", "a\n"])
    def test_a_name_that_is_no_digest_is_refused(self, place, name):
        with closing(place.open()) as store, pytest.raises(ConfigError, match="snapshot name"):
            store.begin(name)

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_other_precisions_are_stored_and_checked_alike(self, place, precision):
        packing = Packing(precision, WIDTH)
        numbers = list(range(30))
        drawn = np.random.default_rng(3).normal(size=(30, WIDTH)).astype(np.float32)
        packed = packing.pack(drawn)
        with closing(open_states(place.where, place.member, IDENTITY, packing)) as store:
            with store.begin("one") as draft:
                draft.append(keys(*numbers), digests(numbers), packed)
                assert draft.known(keys(*numbers)).all()
                draft.commit(30)
            np.testing.assert_array_equal(store.get_many(keys(*numbers)).packed, packed)
            if place.kind == "folder":
                return  # what has rotted there is found by its checksum
            rotten = packed[[7]].copy()
            rotten[0, :4] = np.array([np.inf], "<f4").view(np.uint8)
            place.damage(7, digests([7]).astype("<u8").tobytes() + rotten.tobytes())
            with store.begin("two") as draft:
                taken = draft.take_over(keys(*numbers), digests(numbers))
                assert np.flatnonzero(~taken).tolist() == [7]


class TestFolder:
    def test_what_is_open_answers_on_when_everything_is_removed(self, tmp_path):
        store = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(store, "one", range(9))
        current = store.current()
        fill(store, "two", range(9), version=1)
        assert answered(current, range(9)) == expected(range(9))

    def test_a_snapshot_that_cannot_be_opened_leaves_the_one_before_and_is_tried_again(
        self, tmp_path
    ):
        clock = Clock()
        writer = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(writer, "one", range(9))
        reader = FolderStates(tmp_path, "gnn", IDENTITY, FORM, clock)
        assert answered(reader, range(9)) == expected(range(9))
        pointer = tmp_path / f"gnn-{IDENTITY[:12]}" / "current.json"
        fill(writer, "two", range(9), version=1)
        whole = pointer.read_text()
        pointer.write_text(json.dumps({**json.loads(whole), "snapshot": "absent.a"}))
        before = reader.edition()
        for _ in range(5):
            assert answered(reader, range(9)) == expected(range(9))
            assert reader.get_named(keys(1)).edition == reader.edition() == before
        assert reader.health() == StoreHealth("folder", healthy=False, troubles=Breaker.FAILURES)
        with pytest.raises(ReleaseError, match="esci precompute"):
            writer.current()
        pointer.write_text(whole)
        clock.now += Breaker.FIRST_PAUSE_SECONDS + 0.01
        assert answered(reader, range(9)) == expected(range(9), 1)
        assert reader.edition() not in {before, "", None}
        assert reader.health().healthy

    def test_a_folder_that_cannot_be_looked_into_names_no_edition(self, tmp_path):
        (tmp_path / "states").symlink_to(tmp_path / "states")
        store = open_states(str(tmp_path / "states"), "gnn", IDENTITY, PACKING)
        assert store.edition() is None
        assert store.get_named(keys(1)).edition is None
        assert answered(store, [1]) == {}
        assert store.health().troubles >= Breaker.FAILURES

    def test_states_that_have_rotted_are_served_to_nobody_and_computed_again(self, tmp_path):
        store = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(store, "one", range(9))
        (rows,) = tmp_path.glob("gnn-*/*/*.rows.npy")
        content = bytearray(rows.read_bytes())
        content[-3] ^= 1  # another number, and a finite one
        rows.write_bytes(content)
        again = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        found, edition = again.get_named(keys(*range(9)))
        assert not found.known.any()
        assert edition is None
        assert again.health().troubles > 0
        with again.begin("one") as draft:
            assert not draft.take_over(keys(*range(9)), digests(range(9))).any()
            draft.append(keys(*range(9)), digests(range(9)), states(range(9)))
            draft.commit(9)
        assert answered(again, range(9)) == expected(range(9))

    def test_states_that_have_rotted_are_copied_to_no_other_snapshot(self, tmp_path, monkeypatch):
        monkeypatch.setattr("models.vectors.segments._VERIFIED_BYTES", 0)  # all are large
        store = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(store, "one", range(9))
        with store.begin("two") as draft:
            draft.append(keys(*range(5)), digests(range(5)), states(range(5)))
        for rows in tmp_path.glob("gnn-*/*/*.rows.npy"):
            content = bytearray(rows.read_bytes())
            content[-3] ^= 1
            rows.write_bytes(content)
        with store.begin("two") as draft:
            assert not draft.known(keys(*range(9))).any()
            assert not draft.take_over(keys(*range(9)), digests(range(9))).any()
            draft.append(keys(*range(9)), digests(range(9)), states(range(9)))
            draft.commit(9)
        assert answered(store, range(9)) == expected(range(9))

    def test_a_switch_while_a_snapshot_is_opened_leads_to_the_new_one(self, tmp_path, monkeypatch):
        writer = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(writer, "one", range(9))
        opened = ProductVectors.open

        def switches_first(folder: Path) -> ProductVectors:
            if folder.name == "one.a":
                monkeypatch.setattr(ProductVectors, "open", opened)
                fill(writer, "two", range(9), version=1)
            return opened(folder)

        monkeypatch.setattr(ProductVectors, "open", switches_first)
        reader = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        assert answered(reader, range(9)) == expected(range(9), 1)
        assert reader.health().troubles == 0

    def test_threads_that_come_first_wait_for_what_one_of_them_opens(self, tmp_path, monkeypatch):
        fill(open_states(str(tmp_path), "gnn", IDENTITY, PACKING), "one", range(9))
        opened, count = ProductVectors.open, itertools.count()
        reader = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        reader.close()  # has let go of it

        def slowly(folder: Path) -> ProductVectors:
            time.sleep(0.1)
            next(count)
            return opened(folder)

        monkeypatch.setattr(ProductVectors, "open", slowly)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: answered(reader, range(9)), range(8)))
        assert found == [expected(range(9))] * 8
        assert next(count) == 1

    def test_a_place_where_nothing_can_be_is_told_to_writers_alone(self, tmp_path):
        (tmp_path / "file").write_text("")
        for name in ("states", "states.sqlite"):
            store = open_states(str(tmp_path / "file" / name), "gnn", IDENTITY, PACKING)
            assert answered(store, [1]) == {}
            with pytest.raises(StoreError, match="no states can be written"):
                store.begin("one")

    @pytest.mark.parametrize("content", ["", "{}", '{"format": 9}', "[1]"])
    def test_a_pointer_that_cannot_be_read_is_told_to_writers(self, tmp_path, content):
        store = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(store, "one", range(3))
        assert answered(store, range(3)) == expected(range(3))
        (pointer,) = tmp_path.glob("gnn-*/current.json")
        pointer.write_text(content)
        assert answered(store, range(3)) == expected(range(3))
        assert store.edition()
        later = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        assert answered(later, range(3)) == {}
        assert later.edition() is None
        for use in (store.current, lambda: store.begin("two")):
            with pytest.raises((ReleaseError, DataError), match=r"current\.json"):
                use()

    def test_identities_that_begin_alike_are_told_apart(self, tmp_path):
        alike = IDENTITY[:-1] + "0"
        fill(open_states(str(tmp_path), "gnn", IDENTITY, PACKING), "one", [1])
        other = open_states(str(tmp_path), "gnn", alike, PACKING)
        assert answered(other, [1]) == {}
        assert other.current() is None
        with pytest.raises(StoreError, match="another identity"):
            other.begin("one")

    def test_what_a_killed_switch_has_left_goes_with_the_next(self, tmp_path):
        store = open_states(str(tmp_path), "gnn", IDENTITY, PACKING)
        fill(store, "one", [1])
        (place,) = tmp_path.glob("gnn-*")
        (place / ".current.json.abc.part").write_text("half")
        (place / "zero.a").mkdir()
        fill(store, "two", [1])
        assert sorted(path.name for path in place.iterdir()) == ["current.json", "two.a"]


class TestSqlite:
    def path(self, tmp_path) -> Path:
        return tmp_path / "states.sqlite"

    def open(self, tmp_path, **more) -> SqliteStates:
        return SqliteStates(self.path(tmp_path), "gnn", IDENTITY, FORM, **more)

    def test_somebody_elses_database_is_not_touched(self, tmp_path):
        path = self.path(tmp_path)
        with closing(sqlite3.connect(path)) as file:
            file.execute("CREATE TABLE orders (id INTEGER)")
        content = path.read_bytes()
        with pytest.raises(ConfigError, match="somebody else's"):
            self.open(tmp_path)
        assert path.read_bytes() == content

    def test_a_file_that_is_damaged_is_unknown_to_readers_and_told_to_writers(self, tmp_path):
        self.path(tmp_path).write_bytes(b"not a database" * 500)
        clock = Clock()
        with closing(self.open(tmp_path, clock=clock)) as store:
            for _ in range(5):
                assert answered(store, [1]) == {}
                assert store.edition() is store.get_named(keys(1)).edition is None
            assert store.health() == StoreHealth("sqlite", False, Breaker.FAILURES)
            for use in (store.current, lambda: store.begin("one"), store.forget_others):
                with pytest.raises(StoreError, match=r"are damaged .*remove it"):
                    use()
            self.path(tmp_path).unlink()
            fill(store, "one", [1])
            clock.now += Breaker.FIRST_PAUSE_SECONDS + 0.01
            assert answered(store, [1]) == expected([1])
            assert store.health().healthy

    def test_a_file_of_another_format_is_told(self, tmp_path):
        with closing(self.open(tmp_path)) as store:
            fill(store, "one", [1])
        with closing(sqlite3.connect(self.path(tmp_path))) as file:
            file.execute("PRAGMA user_version = 9")
        with closing(self.open(tmp_path)) as store:
            assert answered(store, [1]) == {}
            with pytest.raises(StoreError, match=r"format 9 and this code has 1; remove it"):
                store.begin("two")

    def test_a_file_that_another_takes_the_place_of_is_followed(self, tmp_path):
        (tmp_path / "new").mkdir()
        with closing(self.open(tmp_path)) as store, closing(self.open(tmp_path / "new")) as other:
            fill(store, "one", [1])
            assert answered(store, [1]) == expected([1])
            fill(other, "one", [1], version=1)
            other.close()
            self.path(tmp_path / "new").replace(self.path(tmp_path))
            assert answered(store, [1]) == expected([1], 1)
            self.path(tmp_path).unlink()
            assert answered(store, [1]) == {}
            assert store.edition() == ""

    def test_a_record_of_another_length_or_kind_is_unknown(self, tmp_path):
        place = Place("sqlite", tmp_path, None, "gnn")
        with closing(self.open(tmp_path)) as store:
            fill(store, "one", range(9))
            place.damage(3, b"short")
            place.damage(4, "x" * FORM.stride)
            left = [0, 1, 2, 5, 6, 7, 8]
            assert answered(store, range(9)) == expected(left)
            with store.begin("two") as draft:
                taken = draft.take_over(keys(*range(9)), digests(range(9)))
                assert np.flatnonzero(taken).tolist() == left

    def test_a_disk_that_is_full_is_told_and_the_draft_goes_on_when_there_is_room(self, tmp_path):
        numbers = list(range(2_000))
        given = keys(*numbers), digests(numbers), states(numbers)
        with closing(self.open(tmp_path)) as store, store.begin("one") as draft:
            draft._connection.execute("PRAGMA max_page_count = 12")
            with pytest.raises(StoreError, match="full"):
                draft.append(*given)
            draft._connection.execute("PRAGMA max_page_count = 100000")
            draft.append(*given)
            draft.commit(2_000)
            assert len(store.current()) == 2_000

    def test_what_is_interrupted_is_undone(self, tmp_path):
        with closing(sqlite3.connect(self.path(tmp_path), isolation_level=None)) as file:
            file.execute("CREATE TABLE one (number INTEGER)")

            def interrupted() -> None:
                with transaction(file):
                    file.execute("INSERT INTO one VALUES (1)")
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                interrupted()
            with transaction(file):
                assert file.execute("SELECT * FROM one").fetchall() == []

    def test_a_snapshot_that_has_gone_knows_nothing(self, tmp_path):
        with closing(self.open(tmp_path)) as store:
            fill(store, "one", [1])
            before = store.current()
            fill(store, "two", [1])
            assert answered(before, [1]) == {}
            assert not before.digests(keys(1)).known.any()
            assert store.health().troubles == 0

    def test_threads_that_end_leave_no_connection_behind(self, tmp_path):
        with closing(self.open(tmp_path)) as store:
            fill(store, "one", [1])
            before = len(list(Path("/proc/self/fd").iterdir()))
            for _ in range(40):
                thread = threading.Thread(target=lambda: answered(store, [1]))
                thread.start()
                thread.join()
            assert len(list(Path("/proc/self/fd").iterdir())) < before + 10


class Wire:
    """Stands between a client and a Redis, and counts what passes."""

    def __init__(self, path: str, server: RedisServer) -> None:
        self.url = f"unix://{path}"
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._server = f"{server.folder}/redis.sock"
        self.forget()
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        self.before: Callable[[int], None] | None = None
        self.lost = 0  # the round trip of which the answer does not arrive
        self.round_trips, self.asked_bytes, self.answered_bytes = 0, 0, 0

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            asking = False
            while True:
                for ready in select([client, server], [], [])[0]:
                    content = ready.recv(1 << 16)
                    if not content:
                        return
                    if ready is client:
                        self.round_trips += not asking
                        if self.before and not asking:
                            self.before(self.round_trips)
                        self.asked_bytes += len(content)
                        server.sendall(content)
                    elif self.round_trips == self.lost:
                        self.lost = 0
                        return
                    else:
                        self.answered_bytes += len(content)
                        client.sendall(content)
                    asking = ready is client


@contextmanager
def wired(place: Place) -> Iterator[tuple[Wire, RedisStates]]:
    wire = Wire(f"{place.server.folder}/{place.member}.sock", place.server)
    store = RedisStates(wire.url, place.member, IDENTITY, FORM, 2_000)
    try:
        yield wire, store
    finally:
        store.close()
        wire.close()


class TestRedis:
    def open(self, place: Place, **more) -> RedisStates:
        return RedisStates(place.where, place.member, IDENTITY, FORM, 2_000, **more)

    def test_a_hundred_states_are_looked_up_in_one_round_trip(self, redis_place):
        with closing(redis_place.open()) as store:
            fill(store, "one", range(500))
            with wired(redis_place) as (wire, reader):
                answered(reader, [1])  # connects, and brings the script
                for start in (0, 100, 450):
                    wire.forget()
                    numbers = range(start, start + 100)
                    assert answered(reader, numbers) == expected([n for n in numbers if n < 500])
                    assert wire.round_trips == 1
                reader.edition()
                wire.forget()
                assert reader.edition() == store.edition()
                assert wire.round_trips == 1
                assert wire.asked_bytes + wire.answered_bytes < 600
                # A switch in between costs none either.
                fill(store, "two", range(500), version=1)
                wire.forget()
                assert answered(reader, range(100)) == expected(range(100), 1)
                assert wire.round_trips == 1

    @pytest.mark.parametrize("first", ["one", None])
    def test_a_look_up_of_many_round_trips_is_answered_by_one_snapshot(self, redis_place, first):
        numbers = range(1_500)
        with closing(redis_place.open()) as store, wired(redis_place) as (wire, reader):
            if first:
                fill(store, first, numbers)
            answered(reader, [1])
            wire.forget()

            def switch(round_trip: int) -> None:
                if round_trip == 2:
                    fill(store, "two", numbers, version=1)

            wire.before = switch
            before = store.edition()
            found, edition = reader.get_named(keys(*numbers))
            np.testing.assert_array_equal(found.packed, states(numbers if first else []))
            assert edition == before
            assert wire.round_trips == (2 if first else 1)
            wire.before = None
            if first:
                assert answered(reader, numbers) == expected(numbers, 1)

    def test_a_writer_repeats_what_it_has_no_answer_to(self, redis_place):
        started, lost = time.monotonic(), 0
        while True:
            lost += 1
            redis_place.member = next(_names)
            with wired(redis_place) as (wire, store):
                fill(store, "one", range(9))
                wire.forget()
                wire.lost = lost
                with store.begin("two") as draft:
                    assert not draft.known(keys(*range(9))).any()
                    assert draft.take_over(keys(*range(9)), digests(range(9))).all()
                    draft.append(keys(9), digests([9]), states([9]))
                    draft.commit(10)
                was_lost, wire.lost = not wire.lost, 0
                assert answered(store, range(10)) == expected(range(10))
            shards = [shard for shard in redis_place.shards() if b":two." in shard]
            assert {redis_place.client.pttl(shard) for shard in shards} == {-1}
            if not was_lost:  # there were fewer answers
                break
        assert lost > 6
        assert time.monotonic() - started < 12  # no lock was waited for

    def test_records_are_taken_over_within_redis(self, redis_place):
        numbers = range(1_000)
        with wired(redis_place) as (wire, store):
            fill(store, "one", numbers)
            wire.forget()
            with store.begin("two") as draft:
                assert draft.take_over(keys(*numbers), digests(numbers)).all()
                assert draft.known(keys(*numbers)).all()
                draft.commit(len(numbers))
            # A key and a digest each to ask, and a byte each to answer; twice for keys.
            assert wire.asked_bytes < 1_000 * (2 * KEY_BYTES + 8) + 12_000
            assert wire.answered_bytes < 1_000 * 2 + 8_000
            assert answered(store, numbers) == expected(numbers)

    def test_what_is_current_never_expires_and_what_is_not_does(self, redis_place):
        def lives() -> dict[bytes, set[bool]]:
            found: dict[bytes, set[bool]] = {}
            for shard in redis_place.shards():
                found.setdefault(shard.split(b":")[-2], set()).add(client.pttl(shard) < 0)
            return found

        with closing(self.open(redis_place)) as store, redis_place.client as client:
            with store.begin("one") as draft:
                draft.append(keys(*range(600)), digests(range(600)), states(range(600)))
                assert lives() == {b"one.a": {False}}
                draft.commit(600)
            assert lives() == {b"one.a": {True}}
            with store.begin("two") as draft:
                draft.take_over(keys(*range(600)), digests(range(600)))
                assert lives() == {b"one.a": {True}, b"two.a": {False}}
                draft.commit(600)
            assert lives() == {b"one.a": {False}, b"two.a": {True}}
            with store.begin("one") as draft:  # what goes is gone on with
                draft.commit(600)
            assert lives() == {b"one.a": {True}, b"two.a": {False}}
            root = f"esci:state:{{{redis_place.member}}}:".encode()
            mine = [key for key in client.scan_iter(count=10_000) if key.startswith(root)]
            assert len({key_slot(key) for key in mine}) == 1  # a script reads all of them
            assert all(key.startswith(b"esci:state:{") for key in client.scan_iter(count=10_000))
            assert not client.exists(root + b"writer")

    def test_a_reader_in_the_midst_gets_to_the_end_within_the_grace(self, redis_place):
        with closing(self.open(redis_place, grace_seconds=1.0)) as store:
            fill(store, "one", range(9))
            before = store.current()
            fill(store, "two", range(9), version=1)
            fill(store, "three", range(9), version=1)
            assert answered(before, range(9)) == expected(range(9))
            deadline = time.monotonic() + 10
            while answered(before, range(9)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert redis_place.snapshots() == 1
            assert answered(store, range(9)) == expected(range(9), 1)

    def test_what_is_taken_up_again_within_the_grace_stays(self, redis_place):
        with closing(self.open(redis_place, grace_seconds=1.0)) as store:
            fill(store, "one", range(9))
            fill(store, "two", range(9), version=1)
            with store.begin("one") as draft:
                assert draft.known(keys(*range(9))).all()
                time.sleep(1.1)
                assert draft.known(keys(*range(9))).all()
                draft.commit(9)
            assert answered(store, range(9)) == expected(range(9))

    def test_a_draft_that_nobody_goes_on_with_goes(self, redis_place):
        with closing(self.open(redis_place, kept_seconds=0.2)) as store:
            with store.begin("one") as draft:
                draft.append(keys(*range(9)), digests(range(9)), states(range(9)))
            deadline = time.monotonic() + 10
            while redis_place.shards():
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def test_a_lock_that_was_lost_is_told_and_nothing_is_written_any_more(self, redis_place):
        with closing(self.open(redis_place)) as store, redis_place.client as client:
            fill(store, "zero", [1])
            with store.begin("one") as draft:
                client.set(f"esci:state:{{{redis_place.member}}}:writer", "somebody:1:else")
                for use in (
                    lambda: draft.append(keys(1), digests([1]), states([1])),
                    lambda: draft.known(keys(1)),
                    lambda: draft.take_over(keys(1), digests([1])),
                    lambda: draft.commit(0),
                ):
                    with pytest.raises(StoreError, match=r"lock .*was lost"):
                        use()
            assert client.get(f"esci:state:{{{redis_place.member}}}:writer") == b"somebody:1:else"
            assert {shard.split(b":")[-2] for shard in redis_place.shards()} == {b"zero.a"}
            assert answered(store, [1]) == expected([1])

    def test_a_lock_is_renewed_for_as_long_as_its_holder_lives(self, redis_place):
        with closing(self.open(redis_place, lock_seconds=0.6)) as store:
            with store.begin("one") as draft:
                time.sleep(1.5)
                draft.append(keys(1), digests([1]), states([1]))
                draft.commit(1)
            assert answered(store, [1]) == expected([1])

    def test_what_redis_evicted_is_unknown_and_the_same_snapshot_mends_it(self, redis_place):
        with closing(self.open(redis_place)) as store, redis_place.client as client:
            fill(store, "one", range(4, 104))
            client.delete(*redis_place.shards()[:20])
            left = answered(store, range(4, 104))
            assert 0 < len(left) < 100
            assert len(store.current()) == len(left)
            with store.begin("one") as draft:
                taken = draft.take_over(keys(*range(4, 104)), digests(range(4, 104)))
                assert taken.sum() == len(left)
                missing = [number for number in range(4, 104) if number not in left]
                draft.append(keys(*missing), digests(missing), states(missing))
                draft.commit(100)
            assert answered(store, range(4, 104)) == expected(range(4, 104))

    def test_a_record_of_another_length_is_unknown(self, redis_place):
        with closing(self.open(redis_place)) as store:
            fill(store, "one", range(9))
            redis_place.damage(3, b"short")
            left = [number for number in range(9) if number != 3]
            assert answered(store, range(9)) == expected(left)
            assert store.current().digests(keys(*range(9))).known.sum() == 8
            with store.begin("two") as draft:
                assert draft.take_over(keys(*range(9)), digests(range(9))).sum() == 8

    def test_an_absent_redis_is_a_miss_and_its_return_is_noticed(self, tmp_path):
        server, clock = RedisServer(tmp_path), Clock()
        store = RedisStates(server.url, "gnn", IDENTITY, FORM, 500, clock=clock)
        try:
            for _ in range(5):
                assert answered(store, [1]) == {}
                assert store.edition() is store.get_named(keys(1)).edition is None
            assert store.health() == StoreHealth("redis", False, Breaker.FAILURES)
            server.start()
            fill(store, "one", [1])
            assert answered(store, [1]) == {}
            assert store.edition() is None
            clock.now += Breaker.FIRST_PAUSE_SECONDS + 0.01
            assert store.edition()
            assert answered(store, [1]) == expected([1])
            assert store.health().healthy
            server.stop()
            assert answered(store, [1]) == {}
        finally:
            store.close()
            server.stop()

    def test_a_redis_that_does_not_answer_costs_the_timeout_and_no_more(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            with closing(RedisStates(url, "gnn", IDENTITY, FORM, 100)) as store:
                started = time.monotonic()
                assert answered(store, [1]) == {}
                assert 0.09 < time.monotonic() - started < 0.4
                assert store.edition() is None
                assert time.monotonic() - started < 0.8

    def test_a_writer_is_told_that_redis_is_away_and_no_password(self, monkeypatch):
        monkeypatch.setattr("models.states.redis._WRITE_TRIALS", 1)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        url = f"redis://user:se%40cret@127.0.0.1:{port}/0"
        with closing(RedisStates(url, "gnn", IDENTITY, FORM, 100)) as store:
            assert store.where == f"redis://127.0.0.1:{port}/0"
            for use in (store.current, lambda: store.begin("one"), store.forget_others):
                with pytest.raises(StoreError, match=rf"redis://127.0.0.1:{port}/0: ") as told:
                    use()
                assert "cret" not in str(told.value)

    def test_a_redis_without_room_is_told_and_readers_go_on(self, redis_place):
        with closing(self.open(redis_place)) as store, redis_place.client as client:
            fill(store, "one", [1])
            draft = store.begin("two")
            client.config_set("maxmemory", "1")
            try:
                with pytest.raises(StoreError, match="has room"):
                    draft.append(keys(1), digests([1], 1), states([1], 1))
                assert answered(store, [1]) == expected([1])
            finally:
                client.config_set("maxmemory", "0")
                draft.close()
            assert store.health().troubles == 0

    def test_scripts_that_redis_has_forgotten_are_brought_again(self, redis_place):
        with closing(self.open(redis_place)) as store, redis_place.client as client:
            with store.begin("one") as draft:
                draft.append(keys(1), digests([1]), states([1]))
                client.script_flush()
                draft.append(keys(2), digests([2]), states([2]))
                draft.commit(2)
            client.script_flush()
            assert answered(store, [1, 2]) == expected([1, 2])
            assert store.health().troubles == 0


class TestRecords:
    def test_a_record_is_a_digest_and_a_state(self, redis_place, tmp_path):
        stamp, state = np.array([0x0102030405060708], np.uint64), states([5])
        wanted = bytes([8, 7, 6, 5, 4, 3, 2, 1]) + state.tobytes()
        file = Place("sqlite", tmp_path, redis_place.server, redis_place.member)
        for place in (redis_place, file):
            with closing(place.open()) as store, store.begin("one") as draft:
                draft.append(keys(5), stamp, state)
                draft.commit(1)
        with closing(sqlite3.connect(file.where)) as connection:
            assert connection.execute("SELECT * FROM states_1").fetchall() == [
                (keys(5).tobytes(), wanted)
            ]
        with redis_place.client as client:
            (shard,) = redis_place.shards()
            assert client.hgetall(shard) == {keys(5).tobytes(): wanted}

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
    def test_a_heading_changes_nothing_of_the_vectors_behind_it(self, precision):
        plain, headed = Packing(precision, WIDTH), Packing(precision, WIDTH, heading=8)
        vectors = np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)
        packed = headed.pack(vectors)
        assert packed.shape == (5, headed.stride)
        np.testing.assert_array_equal(packed[:, :8], 0)
        np.testing.assert_array_equal(packed[:, 8:], plain.pack(vectors))
        packed[:, :8] = 255  # not a number, were they numbers
        assert headed.is_finite(packed).all()
        np.testing.assert_array_equal(headed.unpack(packed), plain.unpack(plain.pack(vectors)))


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("{folder}/states", FolderStates),
        ("{folder}/deep/states.sqlite", SqliteStates),
        ("redis://127.0.0.1:1/3", RedisStates),
        ("redis://user:p%40ss@localhost", RedisStates),
        ("rediss://localhost:6380/0", RedisStates),
        ("unix:///nowhere.sock?db=2", RedisStates),
    ],
)
def test_an_address_chooses_the_store(where, kind, tmp_path):
    store = open_states(where.format(folder=tmp_path), "gnn", IDENTITY, PACKING)
    assert isinstance(store, kind)
    assert "ss@" not in store.where
    store.close()
    assert STATES == "states"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "where",
    [
        "",
        "http://user:hunter2@host/0",
        "sqlite:///states.sqlite",
        "redis:/user:hunter2@host",
        "redis://",
        "redis://:hunter2@/0",
        "redis://user:hunter2/0",
        "redis://user:hunter2@host:port/0",
        "redis://host:99999/hunter2",
        "redis://host:6379/hunter2",
        "redis://[hunter2/0",
        "redis://host:6379/0?hunter2=1",
        "redis://host:6379/0?db=hunter2",
        "unix://",
        "unix://user:hunter2@",
        "user:hunter2@host:6379",
        ":hunter2@host:6379",
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_what_may_be_a_password(where):
    with pytest.raises(ConfigError, match=r"expected .*redis://") as told:
        open_states(where, "gnn", IDENTITY, PACKING)
    error: BaseException | None = told.value
    assert "hunter2" not in str(error)
    assert error is not None
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_a_place_that_something_else_takes_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.sqlite").mkdir()
    for name in ("file", "folder.sqlite"):
        with pytest.raises(ConfigError, match="expected a"):
            open_states(str(tmp_path / name), "gnn", IDENTITY, PACKING)


@pytest.mark.parametrize(
    ("member", "identity", "packing"),
    [
        ("", IDENTITY, PACKING),
        ("a/b", IDENTITY, PACKING),
        ("{a}", IDENTITY, PACKING),
        ("gnn", "", PACKING),
        ("gnn", "../x", PACKING),
        ("gnn", IDENTITY, Packing("fp16", 0)),
        ("gnn", IDENTITY, Packing("fp16", 4, heading=8)),
    ],
)
def test_what_cannot_be_a_store_is_told(tmp_path, member, identity, packing):
    with pytest.raises(ConfigError, match="expected"):
        open_states(str(tmp_path), member, identity, packing)


def test_redis_is_not_needed_for_files():
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from models.errors import EsciError\n"
        "from models.states import open_states\n"
        "from models.vectors.packing import Packing\n"
        "open_states('x.sqlite', 'gnn', 'a', Packing('fp16', 4))\n"
        "try:\n    open_states('redis://h', 'gnn', 'a', Packing('fp16', 4))\n"
        "except EsciError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'.[serving]'" in done.stdout

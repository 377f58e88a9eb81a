"""The label cache in one SQLite file: nothing to install, shared by workers, kept over restarts."""

import asyncio
import fcntl
import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from models.errors import ConfigError
from service.label_cache.protocol import CacheHealth, lifetime

log = logging.getLogger("service.label_cache")

# "ESCI" in ASCII: tells our files from other SQLite databases, which are not ours to touch.
_APPLICATION_ID: Final = 0x45534349
_FORMAT: Final = 1
_PAGE_BYTES: Final = 4096
# The write-ahead log beside the file is folded into it when it reaches this: about a megabyte.
_LOG_PAGES: Final = 256
# Below SQLite's limit on variables in every build; a request rarely has more pairs.
_KEYS_PER_STATEMENT: Final = 1_000
# Pruning takes this share of the pairs at a time: seldom, yet over in a moment.
_PRUNED_SHARE: Final = 1 / 64

T = TypeVar("T")


class SqliteLabelCache:
    """The oldest goes first when the bytes run out.

    Several processes may have the file open. A damaged file is left where it is and a new one
    begun under the next number (labels.sqlite, labels-1.sqlite): it must not get the name of the
    old one, because SQLite finds the log of a file by name, and whoever still has the old file
    open would remove the new one's log when closing.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = path
        self._max_pages = max_bytes // _PAGE_BYTES
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._troubles = 0
        self._healthy = True
        # One thread: SQLite writes one at a time anyway, and the connection has one owner.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="label-cache")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._number, self._connection = self._open()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"the label cache {path} cannot be opened: {error}; expected a path where this "
                "process may create and write files"
            ) from error

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is known of `keys`."""
        return await self._in_thread(lambda: self._read(keys), {}) if keys else {}

    async def put_many(self, answers: Mapping[bytes, bytes]) -> None:
        """Remember `answers` in one transaction."""
        if answers:
            await self._in_thread(lambda: self._write(answers), None)

    def health(self) -> CacheHealth:
        """Unwell after an operation that failed, until one works."""
        return CacheHealth("sqlite", healthy=self._healthy, troubles=self._troubles)

    async def close(self) -> None:
        """Fold the log into the file and close it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T], otherwise: T) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._guarded, work, otherwise)

    def _guarded(self, work: Callable[[], T], otherwise: T) -> T:
        try:
            result = work()
        except (sqlite3.Error, OSError) as error:
            self._troubles += 1
            self._healthy = False
            log.warning("the label cache file failed", extra={"fields": {"error": repr(error)}})
            self._recover(error)
            return otherwise
        self._healthy = True
        return result

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        now = int(self._clock())
        known: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _KEYS_PER_STATEMENT):
            some = keys[start : start + _KEYS_PER_STATEMENT]
            marks = ",".join("?" * len(some))
            statement = f"SELECT key, answer FROM labels WHERE key IN ({marks}) AND expires > ?"  # noqa: S608
            known.update(self._connection.execute(statement, (*some, now)))
        return known

    def _write(self, answers: Mapping[bytes, bytes]) -> None:
        now = self._clock()
        rows = [
            (key, answer, int(now + lifetime(key, self._ttl_seconds)))
            for key, answer in answers.items()
        ]
        room = len(rows)
        while True:
            try:
                return self._insert(rows)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._prune(room):
                    raise
            room *= 2  # emptied pages may not be the ones that these keys need

    def _insert(self, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")  # waits its turn instead of failing later
            self._connection.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", rows)

    def _prune(self, room: int) -> int:
        """Delete at least `room` of the oldest pairs, and return how many.

        They also expire first, all having one TTL. Emptied pages are used again, so the file stays
        at its limit.
        """
        with self._connection:
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            oldest, newest = execute("SELECT min(rowid), max(rowid) FROM labels").fetchone()
            span = 0 if oldest is None else newest - oldest + 1
            gone = execute(
                "DELETE FROM labels WHERE rowid IN "
                "(SELECT rowid FROM labels ORDER BY rowid LIMIT ?)",
                (max(room, int(span * _PRUNED_SHARE)),),
            ).rowcount
        log.debug("pruned the label cache", extra={"fields": {"pairs": gone}})
        return gone

    def _open(self) -> tuple[int, sqlite3.Connection]:
        """The newest file and a connection to it; begins a new one where that is damaged."""
        with self._alone():
            number = self._newest()
            try:
                return number, self._connect(number)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                return self._begin_anew(number, error)

    def _begin_anew(self, damaged: int, error: Exception) -> tuple[int, sqlite3.Connection]:
        """The next file, new or begun by another process.

        The damaged one stays for whoever wants to know why; those before it go.
        """
        for path in self._name.parent.iterdir():
            if (number := self._number_of(path)) is not None and number < damaged:
                for tail in ("", "-wal", "-shm"):
                    path.with_name(path.name + tail).unlink(missing_ok=True)
        log.warning(
            "left a damaged label cache and went on to the next file",
            extra={"fields": {"error": repr(error), "file": self._path(damaged).name}},
        )
        return damaged + 1, self._connect(damaged + 1)

    def _connect(self, number: int) -> sqlite3.Connection:
        path = self._path(number)
        connection = sqlite3.connect(
            path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, path: Path) -> None:
        execute = connection.execute
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application_id,) = execute("PRAGMA application_id").fetchone()
        (found,) = execute("PRAGMA user_version").fetchone()
        if tables and application_id != _APPLICATION_ID:
            raise ConfigError(
                f"{path} is somebody else's SQLite database; expected a label cache or no file: "
                "choose another path with ESCI_CACHE=sqlite:///path"
            )
        if tables and found != _FORMAT:
            raise sqlite3.DatabaseError(f"label cache format {found}, and this code has {_FORMAT}")
        execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last answers, which can be computed again.
        execute("PRAGMA synchronous = OFF")
        execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * _PAGE_BYTES}")
        execute(f"PRAGMA max_page_count = {self._max_pages}")
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        execute(f"PRAGMA user_version = {_FORMAT}")
        # A rowid says how old a pair is, without an index on the time.
        execute(
            "CREATE TABLE IF NOT EXISTS labels "
            "(key BLOB PRIMARY KEY, answer BLOB NOT NULL, expires INTEGER NOT NULL)"
        )

    def _recover(self, error: Exception) -> None:
        """Go on to the next file where this is damaged; another process may have begun it.

        Anything else (locked, a full disk) may pass by itself, and the next request tries again.
        """
        if not _is_damage(error):
            return
        try:
            with self._alone():
                opened = self._begin_anew(self._number, error)
            self._connection.close()
            self._number, self._connection = opened
        except (sqlite3.Error, OSError, ConfigError) as again:
            log.warning("no new label cache file", extra={"fields": {"error": repr(again)}})

    def _path(self, number: int) -> Path:
        name = self._name
        return name.with_stem(f"{name.stem}-{number}") if number else name

    def _number_of(self, path: Path) -> int | None:
        if path == self._name:
            return 0
        stem, suffix = re.escape(self._name.stem), re.escape(self._name.suffix)
        found = re.fullmatch(rf"{stem}-([1-9]\d*){suffix}", path.name)
        return int(found[1]) if found else None

    def _newest(self) -> int:
        return max((self._number_of(path) or 0 for path in self._name.parent.iterdir()), default=0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens or begins a file meanwhile."""
        with self._name.with_name(self._name.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_damage(error: Exception) -> bool:
    """Whether SQLite says that the file is not what it should be; its other errors may pass."""
    return type(error) is sqlite3.DatabaseError

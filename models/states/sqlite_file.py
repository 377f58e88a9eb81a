"""The SQLite file that states are in: its connections, and the statements both ends share."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, StoreError
from models.states.records import RecordForm, blocks, cut
from models.vectors.packing import Packed
from models.vectors.source import Keys

# "ESST" in ASCII: tells our files from other SQLite databases, which are not ours to touch.
_APPLICATION_ID: Final = 0x45535354
_FORMAT: Final = 1
# Below SQLite's limit on variables in every build.
_KEYS_PER_STATEMENT: Final = 1_000
_READ_SECONDS: Final = 1.0  # readers wait for no writer, but for one that mends after a crash
_WRITE_SECONDS: Final = 60.0  # writers of other members take turns
_IDLE_READERS: Final = 32
_LOG_BYTES: Final = 1 << 24  # kept of the write-ahead log between writes
_REBUILD: Final = "remove it, and compute the states again with esci precompute"


class Readers:
    """Connections that read, each lent to one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._mark: tuple[int, int] | None = None
        self._lock = Lock()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection in a transaction: what is read in it is of one moment. None without a file.

        Whoever removes the file and makes another is followed to that.
        """
        mark = self._looked()
        connection = self._taken(mark)
        if connection is None and mark is not None:
            connection = _opened_to_read(self._path)
        if connection is None:
            yield None
            return
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._put_back(connection, mark)

    def close(self) -> None:
        """Close those that nobody has."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _looked(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _taken(self, mark: tuple[int, int] | None) -> sqlite3.Connection | None:
        if mark != self._mark:
            self.close()
        with self._lock:
            self._mark = mark
            return self._idle.pop() if self._idle else None

    def _put_back(self, connection: sqlite3.Connection, mark: tuple[int, int] | None) -> None:
        with self._lock:
            if mark == self._mark and len(self._idle) < _IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()


def _opened_to_read(path: Path) -> sqlite3.Connection | None:
    """A connection that writes nothing; None to a file in which nothing was begun."""
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(
        address, uri=True, timeout=_READ_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if not _is_begun(connection, path):
            connection.close()
            return None
    except BaseException:
        connection.close()
        raise
    return connection


def opened_to_write(path: Path) -> sqlite3.Connection:
    """A connection that writes, to a file that is begun where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=_WRITE_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        is_begun = _is_begun(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last states, which can be computed again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if not is_begun:
            with transaction(connection):
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS snapshots (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "member TEXT NOT NULL, identity TEXT NOT NULL, name TEXT NOT NULL, "
                    "is_current INTEGER NOT NULL)"
                )
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_begun(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether states were ever stored there; somebody else's database is an error."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if not tables:
        return False
    if application_id != _APPLICATION_ID:
        raise ConfigError(
            f"{path} is somebody else's SQLite database; expected product states or no file: "
            "choose another path"
        )
    if found != _FORMAT:
        raise StoreError(f"{path} has format {found} and this code has {_FORMAT}; {_REBUILD}")
    return True


def look_up(
    connection: sqlite3.Connection, number: int, keys: Keys, form: RecordForm
) -> tuple[NDArray[np.bool_], Packed]:
    """Which keys a table has a record of the right length for, and those."""
    asked = cut(keys)
    found: dict[bytes, bytes] = {}
    for part in blocks(len(asked), _KEYS_PER_STATEMENT):
        some = asked[part]
        marks = ",".join("?" * len(some))
        found.update(
            connection.execute(
                f"SELECT key, record FROM states_{number} WHERE key IN ({marks}) "  # noqa: S608
                f"AND typeof(record) = 'blob' AND length(record) = {form.stride}",
                some,
            )
        )
    known = np.fromiter((key in found for key in asked), bool, len(asked))
    return known, form.read(b"".join(found[key] for key in asked if key in found))


def drop(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Remove snapshots, in a transaction. Whoever reads one at this moment reads on."""
    for number in numbers:
        connection.execute("DELETE FROM snapshots WHERE id = ?", (number,))
        connection.execute(f"DROP TABLE states_{number}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, written in its turn."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has ended it itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say of SQLite's errors which file they are about, and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, full, not to be written
        raise StoreError(f"the states in {path}: {error}; see to it and run it again") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"the states in {path} are damaged ({error}); {_REBUILD}") from error
    except OSError as error:
        raise StoreError(f"no states can be stored in {path}: {error}") from error

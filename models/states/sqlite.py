"""States in one SQLite file: a single thing to copy, shared by all processes of a machine.

A snapshot is a table of its own, so that it goes in one piece, and `INSERT ... SELECT` takes
records over. A row of `snapshots` says which answers; readers look at it in the very transaction
they look states up in. They need a folder that may be written in, where SQLite keeps what they
share; on a read-only file system a folder of states is the one to have.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.errors import EsciError, StoreError
from models.states.draft import LockedDraft, require_name
from models.states.file_lock import FileLock
from models.states.guard import Guard
from models.states.protocol import Digests, Edition, Named, Stamped, StoreHealth
from models.states.records import DIGEST_BYTES, RecordForm, as_bytes, cut
from models.states.sqlite_file import Readers, drop, look_up, opened_to_write, told, transaction
from models.vectors.packing import Packed
from models.vectors.source import Found, Keys


class SqliteSnapshot:
    """A snapshot, until another has taken its place."""

    def __init__(self, store: "SqliteStates", number: int, name: str, count: int) -> None:
        self.name = name
        self.identity = store.identity
        self._store = store
        self._number = number
        self._count = count

    def __len__(self) -> int:
        return self._count

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are here."""
        return self._store.look_up(keys, self._number)

    def digests(self, keys: Keys) -> Stamped:
        """What the states of those of `keys` that are here were computed from."""
        return self._store.stamped(keys, self._number)


class SqliteStates:
    """The store in one file."""

    def __init__(
        self,
        path: Path,
        member: str,
        identity: str,
        form: RecordForm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where = str(path)
        self.identity = identity
        self._path = path
        self._member = member
        self._form = form
        self._readers = Readers(path)
        self._guard = Guard("sqlite", self.where, (sqlite3.Error, OSError, EsciError), clock)
        # Told at the start if it is somebody else's; any other trouble may pass.
        with suppress(sqlite3.Error, OSError, StoreError), self._readers.reading():
            pass

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are in the current snapshot."""
        return self.get_named(keys).found

    def edition(self) -> Edition:
        """The name and number of the snapshot that answers."""
        return self._guard.ask(self._edition, None)

    def get_named(self, keys: Keys) -> Named:
        """As `get_many`, with the edition that answered."""
        nothing = self._form.nothing(keys)
        if not len(keys):
            return Named(nothing, None)
        return self._guard.ask(lambda: self._named(keys), Named(nothing, None))

    def look_up(self, keys: Keys, number: int) -> Found:
        """The states of those of `keys` that are in the snapshot of that number.

        Nothing of one that has gone.
        """
        return self._guard.ask(
            lambda: self._form.found(*self._records(keys, number)), self._form.nothing(keys)
        )

    def stamped(self, keys: Keys, number: int) -> Stamped:
        """The digests of those of `keys` that are in the snapshot of that number."""
        with told(self._path):
            return self._form.stamped(*self._records(keys, number))

    def current(self) -> SqliteSnapshot | None:
        """The snapshot that answers."""
        with told(self._path), self._readers.reading() as connection:
            if connection is None or (current := self._current(connection)) is None:
                return None
            number, name = current
            (count,) = connection.execute(
                f"SELECT count(*) FROM states_{number}"  # noqa: S608
            ).fetchone()
        return SqliteSnapshot(self, number, name, count)

    def begin(self, name: str) -> "SqliteDraft":
        """The draft of that name, new or as it was left."""
        require_name(name)
        with told(self._path), ExitStack() as held:
            lock = held.enter_context(closing(self._locked()))
            connection = held.enter_context(closing(opened_to_write(self._path)))
            draft = SqliteDraft(self._path, connection, self._own, name, self._form, lock)
            held.pop_all()
        return draft

    def forget_others(self) -> int:
        """Remove the tables of this member's other identities."""
        if not self._path.exists():
            return 0
        with (
            told(self._path),
            closing(self._locked()),
            closing(opened_to_write(self._path)) as connection,
            transaction(connection),
        ):
            others = connection.execute(
                "SELECT id, identity FROM snapshots WHERE member = ? AND identity <> ?",
                self._own,
            ).fetchall()
            drop(connection, [number for number, _ in others])
        return len({identity for _, identity in others})

    def health(self) -> StoreHealth:
        """Unwell while the file cannot be read."""
        return self._guard.health()

    def close(self) -> None:
        """Close the connections that wait for work."""
        self._readers.close()

    @property
    def _own(self) -> tuple[str, str]:
        return self._member, self.identity

    def _locked(self) -> FileLock:
        return FileLock(self._path.with_name(f".{self._path.name}.{self._member}.lock"), self.where)

    def _current(self, connection: sqlite3.Connection) -> tuple[int, str] | None:
        """Number and name of the snapshot that answers, out of a few rows."""
        found: tuple[int, str] | None = connection.execute(
            "SELECT id, name FROM snapshots WHERE member = ? AND identity = ? AND is_current",
            self._own,
        ).fetchone()
        return found

    def _edition(self) -> str:
        with self._readers.reading() as connection:
            return _edition(self._current(connection) if connection else None)

    def _named(self, keys: Keys) -> Named:
        with self._readers.reading() as connection:
            if connection is None or (current := self._current(connection)) is None:
                return Named(self._form.nothing(keys), "")
            records = look_up(connection, current[0], keys, self._form)
        return Named(self._form.found(*records), _edition(current))

    def _records(self, keys: Keys, number: int) -> tuple[NDArray[np.bool_], Packed]:
        """Which keys are known in the snapshot of that number, and their records."""
        with self._readers.reading() as connection:
            if connection is not None:
                there = _only(connection, "SELECT id FROM snapshots WHERE id = ?", number)
                if there is not None:
                    return look_up(connection, there, keys, self._form)
        return np.zeros(len(keys), bool), self._form.read(b"")


class SqliteDraft(LockedDraft):
    """A table of its own beside the current one."""

    BLOCK: ClassVar[int] = 1 << 14

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        own: tuple[str, str],
        name: str,
        form: RecordForm,
        lock: FileLock,
    ) -> None:
        super().__init__(name, str(path), form, lock)
        self._path = path
        self._connection = connection
        self._own = own
        self._number = self._resumed()

    def close(self) -> None:
        """Let go of the file and the lock."""
        self._connection.close()
        super().close()

    def _known(self, keys: Keys) -> NDArray[np.bool_]:
        with told(self._path):
            return self._form.found(
                *look_up(self._connection, self._number, keys, self._form)
            ).known

    def _taken(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]:
        here = self._known(keys)
        for source in self._sources:
            rows = np.flatnonzero(~here)
            wanted = zip(cut(keys[rows]), cut(as_bytes(digests[rows])), strict=True)
            with told(self._path), transaction(self._connection):
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO states_{self._number} "  # noqa: S608
                    f"SELECT key, record FROM states_{source} WHERE key = ? "
                    f"AND substr(record, 1, {DIGEST_BYTES}) = ?",
                    wanted,
                )
            here[rows] = self._known(keys[rows])
        return here

    def _add(self, keys: Keys, records: Packed) -> None:
        with told(self._path), transaction(self._connection):
            self._connection.executemany(
                f"INSERT OR REPLACE INTO states_{self._number} VALUES (?, ?)",  # noqa: S608
                zip(cut(keys), cut(records), strict=True),
            )

    def _switch(self, expected_count: int) -> int:
        execute = self._connection.execute
        with told(self._path), transaction(self._connection):
            (count,) = execute(f"SELECT count(*) FROM states_{self._number}").fetchone()  # noqa: S608
            if count == expected_count:
                drop(self._connection, self._sources)
                execute("UPDATE snapshots SET is_current = 1 WHERE id = ?", (self._number,))
        return int(count)

    def _resumed(self) -> int:
        """The number of the table, which is made if there is none."""
        execute = self._connection.execute
        with transaction(self._connection):
            number = _only(
                self._connection,
                "SELECT id FROM snapshots WHERE member = ? AND identity = ? AND name = ? "
                "AND NOT is_current",
                *self._own,
                self._name,
            )
            if number is not None:
                return number
            execute(
                "INSERT INTO snapshots (member, identity, name, is_current) VALUES (?, ?, ?, 0)",
                (*self._own, self._name),
            )
            (number,) = execute("SELECT last_insert_rowid()").fetchone()
            execute(f"CREATE TABLE states_{number} (key BLOB PRIMARY KEY, record BLOB NOT NULL)")
        return int(number)

    @cached_property
    def _sources(self) -> Sequence[int]:
        """The other snapshots of this identity, the current one first."""
        found = self._connection.execute(
            "SELECT id FROM snapshots WHERE member = ? AND identity = ? AND id <> ? "
            "ORDER BY is_current DESC",
            (*self._own, self._number),
        )
        return [number for (number,) in found]


def _edition(current: tuple[int, str] | None) -> str:
    """What names a snapshot of that number and name; no number comes twice in a file."""
    return f"{current[1]}.{current[0]}" if current else ""


def _only(connection: sqlite3.Connection, statement: str, *values: str | int | None) -> int | None:
    """The number that `statement` finds, if any."""
    found = connection.execute(statement, values).fetchone()
    return int(found[0]) if found else None

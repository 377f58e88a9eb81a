"""States in a folder, memory-mapped: looked up without a system call, shared by all processes.

    <folder>/
      .<member>.lock               held by who writes
      <member>-<identity>/         the start of the identity: another is another place
        current.json               whose states these are, and which snapshot answers
        <name>.a/ or <name>.b/     a snapshot or draft; see models/vectors/store.py

The draft of a name is the one of the two that does not answer. Replacing current.json switches over
in one step; whoever has opened what was there before goes on with it, since files that are mapped
stay until they are let go of.
"""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import EsciError, MissingDataError, ReleaseError, StoreError
from models.files import read_json, write_json
from models.states.draft import LockedDraft, require_name
from models.states.file_lock import FileLock
from models.states.guard import Guard
from models.states.protocol import Digests, Edition, Named, Stamped, StoreHealth
from models.states.records import RecordForm, digests_in
from models.typed import STRICT, complaints, parse, plain
from models.vectors.packing import Packed
from models.vectors.source import Found, Keys
from models.vectors.store import ProductVectors

_FORMAT: Final = 1
_POINTER: Final = "current.json"
_SLOTS: Final = ("a", "b")
_DIGITS: Final = 12
_BLOCK: Final = 1 << 16
# The mark of a current.json that cannot be looked at, which no file has.
_UNSEEN: Final = (-1, -1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pointer:
    """What current.json says."""

    __pydantic_config__ = STRICT

    format: int
    member: str
    identity: str
    snapshot: str | None  # the name of a folder beside it; None until the first is committed


class FolderSnapshot:
    """A snapshot that is mapped, and stays so."""

    def __init__(self, folder: Path, form: RecordForm, identity: str) -> None:
        self.folder = folder.name
        self.name = folder.name.rpartition(".")[0]
        self.identity = identity
        self._form = form
        self._vectors = ProductVectors.open(folder)
        if (self._vectors.identity, self._vectors.packing) != (identity, form.records):
            raise ReleaseError(
                f"{folder} holds states of another member, or packed otherwise; remove it and "
                "compute them again, with esci precompute"
            )

    def __len__(self) -> int:
        return len(self._vectors)

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are here."""
        return self._form.states_in(*self._vectors.get_many(keys))

    def digests(self, keys: Keys) -> Stamped:
        """What the states of those of `keys` that are here were computed from."""
        return self._form.stamped(*self._vectors.get_many(keys))


class FolderStates:
    """The store in one folder."""

    def __init__(
        self,
        folder: Path,
        member: str,
        identity: str,
        form: RecordForm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where = str(folder)
        self.identity = identity
        self._folder = folder
        self._place = folder / f"{member}-{identity[:_DIGITS]}"
        self._about = _Pointer(_FORMAT, member, identity, None)
        self._form = form
        self._guard = Guard("folder", self.where, (EsciError, OSError), clock)
        self._answering: tuple[FolderSnapshot, str] | None = None  # with its edition
        self._mark: tuple[int, int] | None = None
        self._opening = Lock()
        self._follow()

    def get_many(self, keys: Keys) -> Found:
        """The states of those of `keys` that are in the current snapshot."""
        return self.get_named(keys).found

    def edition(self) -> Edition:
        """The edition of what is mapped; looks at current.json, and opens another that it names."""
        self._follow()
        answering = self._answering
        return answering[1] if answering else self._absent()

    def get_named(self, keys: Keys) -> Named:
        """As `get_many`, with the edition that answered."""
        self._follow()
        answering = self._answering  # once: another thread may be opening the next
        if answering is None:
            return Named(self._form.nothing(keys), self._absent() if len(keys) else None)
        snapshot, edition = answering
        return Named(snapshot.get_many(keys), edition if len(keys) else None)

    def current(self) -> FolderSnapshot | None:
        """The snapshot that answers."""
        while True:
            pointer = self._pointer()
            if pointer.snapshot is None or pointer.identity != self.identity:
                return None
            try:
                return FolderSnapshot(self._place / pointer.snapshot, self._form, self.identity)
            except ReleaseError:
                # A writer that has switched over meanwhile removes what answered before.
                if self._pointer() == pointer:
                    raise

    def begin(self, name: str) -> "FolderDraft":
        """The draft of that name, new or as it was left; a damaged one is begun anew."""
        require_name(name)
        with ExitStack() as held:
            lock = held.enter_context(closing(self._locked()))
            draft = FolderDraft(name, self._place, self._form, lock, self._begun())
            held.pop_all()
        return draft

    def forget_others(self) -> int:
        """Remove the places of this member's other identities."""
        forgotten = 0
        with closing(self._locked()):
            for path in self._folder.glob(f"*/{_POINTER}"):
                found = _read_pointer(path)
                if found.member == self._about.member and found.identity != self.identity:
                    path.unlink()  # first, so that nobody opens half of it
                    shutil.rmtree(path.parent)
                    forgotten += 1
        return forgotten

    def health(self) -> StoreHealth:
        """Unwell while a snapshot cannot be opened."""
        return self._guard.health()

    def close(self) -> None:
        """Let go of what is mapped."""
        self._answering, self._mark = None, None

    def _locked(self) -> FileLock:
        return FileLock(self._folder / f".{self._about.member}.lock", self.where)

    def _begun(self) -> _Pointer:
        """What current.json says, which is written where there is none."""
        pointer = self._pointer()
        if pointer.identity != self.identity:
            raise StoreError(
                f"{self._place} holds states of another identity that begins alike; give another "
                "folder, or remove this one"
            )
        if pointer == self._about:
            write_json(self._place / _POINTER, plain(pointer))
        return pointer

    def _pointer(self) -> _Pointer:
        """What current.json says now."""
        try:
            return _read_pointer(self._place / _POINTER)
        except MissingDataError:
            return self._about

    def _follow(self) -> None:
        """Open what current.json names, if that was replaced since the last look at it.

        One thread does. Others answer from what is open meanwhile, and wait if that is nothing.
        """
        if self._looked() != self._mark and self._opening.acquire(blocking=self._answering is None):
            try:
                if self._looked() != self._mark:
                    self._guard.ask(self._reopen, None)
            finally:
                self._opening.release()

    def _reopen(self) -> None:
        mark = self._looked()  # before it is read: one that is replaced meanwhile is read again
        snapshot = self.current()
        if snapshot is None:
            self._answering = None
        else:
            # The time tells commits of one name apart, and machines that have a copy agree on it.
            self._answering = snapshot, f"{snapshot.folder}@{mark[1] if mark else 0}"
        self._mark = mark

    def _absent(self) -> Edition:
        """The edition where nothing is mapped: empty if that is as current.json has it."""
        return "" if self._looked() == self._mark else None

    def _looked(self) -> tuple[int, int] | None:
        """What tells one current.json from the one that replaces it; None without one."""
        try:
            found = (self._place / _POINTER).stat()
        except (FileNotFoundError, NotADirectoryError):  # which is no trouble
            return None
        except OSError:  # comes up again on opening it
            return _UNSEEN
        return found.st_ino, found.st_mtime_ns


class FolderDraft(LockedDraft):
    """A ProductVectors of its own beside the current one."""

    BLOCK: ClassVar[int] = _BLOCK

    def __init__(
        self, name: str, place: Path, form: RecordForm, lock: FileLock, pointer: _Pointer
    ) -> None:
        super().__init__(name, str(place), form, lock)
        self._place = place
        self._pointer = pointer
        first, second = (f"{name}.{slot}" for slot in _SLOTS)
        self._own = second if pointer.snapshot == first else first
        self._vectors = ProductVectors.mended(place / self._own, pointer.identity, form.records)

    def _known(self, keys: Keys) -> NDArray[np.bool_]:
        return self._vectors.get_many(keys).known

    def _taken(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]:
        here = self._known(keys)
        for source in self._sources:
            rows = np.flatnonzero(~here)
            known, records = source.get_many(keys[rows])
            rows = rows[known]
            same = digests_in(records) == digests[rows]
            self._add(keys[rows[same]], records[same])
            here[rows[same]] = True
        return here

    def _add(self, keys: Keys, records: Packed) -> None:
        if len(keys):
            self._vectors.append(keys, records)

    def _switch(self, expected_count: int) -> int:
        if len(self._vectors) == expected_count:
            self._vectors.merge()
            about = replace(self._pointer, snapshot=self._own)
            write_json(self._place / _POINTER, plain(about))
            for other in self._others():
                shutil.rmtree(other, ignore_errors=True)  # what stays goes the next time
            for left in self._place.glob(f".{_POINTER}.*.part"):  # by writers that were killed
                left.unlink()
        return len(self._vectors)

    @cached_property
    def _sources(self) -> Sequence[ProductVectors]:
        """The other snapshots here, the current one first, but for any that has rotted.

        Read from end to end: what is copied gets a checksum of its own.
        """
        found = []
        for folder in sorted(self._others(), key=lambda path: path.name != self._pointer.snapshot):
            try:
                source = ProductVectors.open(folder)
                source.verify()
            except ReleaseError as error:
                log.warning("nothing is taken over from there: %s", error)
                continue
            if (source.identity, source.packing) == (self._vectors.identity, self._form.records):
                found.append(source)
        return found

    def _others(self) -> list[Path]:
        return [path for path in self._place.iterdir() if path.is_dir() and path.name != self._own]


def _read_pointer(path: Path) -> _Pointer:
    found = read_json(path)
    number = found.get("format") if isinstance(found, dict) else None
    if number != _FORMAT:
        raise ReleaseError(
            f"{path} names states in format {number!r} and this code reads {_FORMAT}; remove "
            f"{path.parent} and compute them again, with esci precompute"
        )
    try:
        return parse(_Pointer, found)
    except ValidationError as error:
        raise ReleaseError(
            f"{path}: {complaints(error)}; remove {path.parent} and compute the states again, "
            "with esci precompute"
        ) from error

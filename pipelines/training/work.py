"""The work folder beside a target: what a long command would not do twice after a kill.

    .<target>.work/
      parts/<name>/      a finished part each, whole or not there, with its identity and digests
      benches/<name>/    what the part in progress keeps for itself, with the identity it is for
      common/<digest>/   what several parts start from, whole or not there, by all that decides it

One process at a time works in it. It is gone once the target is there.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import ConfigError, DataError
from models.files import SCRATCH, atomic_folder, file_digests, read_json, write_json
from pipelines.console import note

_PARTS: Final = "parts"
_BENCHES: Final = "benches"
_COMMON: Final = "common"
_PART_FILE: Final = "part.json"
_IDENTITY_FILE: Final = "identity.json"
_BENCH: Final = "bench"

Identity = Mapping[str, Any]
"""Everything that decides what a part will be, as JSON."""


@dataclass(frozen=True)
class Work:
    """An open work folder."""

    folder: Path

    def folder_of(self, name: str) -> Path:
        """Where the part `name` lies once it is finished."""
        return self.folder / _PARTS / name

    def finished(self, name: str, identity: Identity) -> Path | None:
        """The folder of a part that was finished as this very `identity`; None without one.

        One of another identity, or one that is damaged, is removed.
        """
        folder = self.folder_of(name)
        if not folder.is_dir():
            return None
        try:
            record = read_json(folder / _PART_FILE)
            known, digests = record["identity"], record["files"]
        except (DataError, KeyError, TypeError):
            trouble = "is damaged"
        else:
            if known != identity:
                trouble = f"was made with {_differences(known, identity)}"
            elif file_digests(folder, but=_PART_FILE) != digests:
                trouble = "is damaged"
            else:
                return folder
        note(f"{name}: what was finished before {trouble}; it is made afresh")
        shutil.rmtree(folder)
        return None

    @contextmanager
    def part(self, name: str, identity: Identity) -> Iterator[Path]:
        """An empty folder to make a part in, kept when the block ends without an error."""
        with atomic_folder(self.folder_of(name)) as scratch:
            yield scratch
            digests = file_digests(scratch, but=_PART_FILE)
            write_json(scratch / _PART_FILE, {"identity": identity, "files": digests})
        _remove_bench(self.folder / _BENCHES / name)

    def bench(self, name: str, identity: Identity) -> Path:
        """The folder where the part in progress keeps what it would go on from.

        It holds what an earlier process left there for this very `identity`, or nothing.
        """
        around = self.folder / _BENCHES / name
        bench, known = around / _BENCH, None
        if (around / _IDENTITY_FILE).is_file():
            known = read_json(around / _IDENTITY_FILE)
        if known != identity or not bench.is_dir():
            if known != identity and bench.is_dir() and any(bench.iterdir()):
                note(
                    f"{name}: what was begun before was made with {_differences(known, identity)};"
                    " it begins afresh"
                )
            _remove_bench(around)
            bench.mkdir(parents=True)
            # Last: a folder without it belongs to nobody.
            write_json(around / _IDENTITY_FILE, identity)
        return bench

    @property
    def common(self) -> Path:
        """The folder of what parts have in common."""
        return self.folder / _COMMON

    def is_worth_keeping(self) -> bool:
        """Whether anything in it would be missed, which what is being written is not."""
        kept = self.folder.glob(f"{_BENCHES}/*/{_BENCH}/*")
        is_begun = any(not path.match(SCRATCH) for path in kept)
        return is_begun or any(self.folder.glob(f"{_PARTS}/*/{_PART_FILE}"))


@contextmanager
def open_work(target: Path) -> Iterator[Work]:
    """The work folder of `target`, removed when the block ends without an error.

    After an error it stays if there is anything in it to go on from, and a note says so.
    """
    target = target.resolve()
    folder = target.with_name(f".{target.name}.work")
    lock = _locked(folder, target)
    work = Work(folder)
    _remove_scratch(folder)
    try:
        yield work
    except BaseException:
        if work.is_worth_keeping():
            note(f"what is done so far is kept in {folder}: the same command goes on from there")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def copy_file(source: Path, target: Path) -> None:
    """A file of a finished part to `target`; both share their bytes where the system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def copy_folder(source: Path, target: Path) -> None:
    """A folder of a finished part to `target`, file by file as `copy_file` does."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            copy_file(path, target / path.relative_to(source))


def _locked(folder: Path, target: Path) -> int:
    """A lock on `folder` that ends with the process, whatever ends it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # its owner was done with it just now
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), folder.stat()):
                    lock, held = -1, lock
                    return held
            except BlockingIOError as error:
                raise ConfigError(
                    f"another process is making {target}; wait for it, or name another folder"
                ) from error
            finally:
                if lock >= 0:
                    os.close(lock)


def _remove_scratch(folder: Path) -> None:
    """What a kill left half written; nobody else is at work here."""
    for path in list(folder.rglob(SCRATCH)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_bench(around: Path) -> None:
    # First: what a kill leaves of the rest must belong to nobody.
    (around / _IDENTITY_FILE).unlink(missing_ok=True)
    shutil.rmtree(around, ignore_errors=True)


def _differences(known: Any, identity: Identity) -> str:
    """What tells two identities apart, as in "another versions.torch (2.8 → 2.9)"."""
    before, now = dict(_leaves(known)), dict(_leaves(identity))
    changed = [
        f"{key} {before.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return f"other settings ({', '.join(changed[:3])}{', …' if len(changed) > 3 else ''})"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, child in value.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value

"""Writing files and folders so that an interruption leaves the old or the new, never half."""

import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from models.errors import DataError, MissingDataError

SCRATCH: Final = ".*.part"  # what files and folders are called here while they are written
_ABANDONED_SECONDS: Final = 60.0


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder below `parent` that is gone when the block ends, unless it was moved.

    What a killed process left of an earlier one is removed.
    """
    parent = parent.resolve()
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, name)
    scratch = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}.", suffix=".part"))
    scratch.chmod(0o755)
    # Held while we live, whatever ends us: it tells our folder from an abandoned one.
    lock = os.open(scratch, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(parent: Path, name: str) -> None:
    for path in parent.glob(f".{glob.escape(name)}.*.part"):
        with suppress(OSError):  # another process is using it, or has just removed it
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # A folder of this minute may be one whose owner is about to lock it.
                if time.time() - os.fstat(lock).st_mtime > _ABANDONED_SECONDS:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(lock)


def replace_folder(written: Path, path: Path) -> None:
    """Move the folder `written` to `path`; a folder that was there before is gone as a whole."""
    path = path.resolve()
    if not path.exists():
        written.rename(path)
        return
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder is to go", str(path))
    if _exchange(written, path):
        shutil.rmtree(written, ignore_errors=True)
        return
    old = written.with_name(f"{written.stem}.old.part")
    path.rename(old)
    try:
        written.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A scratch folder beside `path` that takes its place when the block ends without an error."""
    path = path.resolve()
    with scratch_folder(path.parent, path.name) as scratch:
        yield scratch
        replace_folder(scratch, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a person can read it and two runs agree to the byte."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file; absent or broken is an error that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there; expected a JSON file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}; restore it from where it came") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_digests(folder: Path, *, but: str) -> dict[str, str]:
    """SHA-256 of every file below `folder` by its path there, of all `but` one."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / but
    }


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among all that lock `folder`, this process too; waits for them, and a kill lets go."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)

"""A lock on a file, which the system takes back from a process that ends, however it ends."""

import fcntl
import os
from pathlib import Path

from models.errors import StoreError


class FileLock:
    """Held from its making until it is closed; a second one is refused at once."""

    def __init__(self, path: Path, where: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"no states can be written to {where}: {error}; expected a place where this "
                "process may create and write files"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode(errors="replace")
            os.close(self._file)
            raise StoreError(
                f"another process{f', {holder},' if holder else ''} is writing states to {where}; "
                "wait until it is done, or end it"
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())

    def close(self) -> None:
        """Let others have it. The file stays: another may be waiting at it by now."""
        os.close(self._file)

"""What drafts of all back-ends share: their lock, their blocks, and what they refuse."""

import re
from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, StoreError
from models.states.protocol import Digests
from models.states.records import RecordForm, blocks, require_keys
from models.vectors.packing import Packed
from models.vectors.source import Keys

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Lock(Protocol):
    """What keeps other writers away until it is closed."""

    def close(self) -> None:
        """Let others write."""
        ...


class LockedDraft(ABC):
    """A draft that does block by block what its back-end says how to do."""

    # Keys done together: what a back-end does for them it does at once.
    BLOCK: ClassVar[int]

    def __init__(self, name: str, where: str, form: RecordForm, lock: Lock) -> None:
        self._name = name
        self._where = where
        self._form = form
        self._lock: Lock | None = lock

    def known(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` are here, whole."""
        self._require_open(keys)
        parts = [self._known(keys[part]) for part in blocks(len(keys), self.BLOCK)]
        return np.concatenate([np.zeros(0, bool), *parts])

    def take_over(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]:
        """Which of `keys` are here, once states were copied that have these digests elsewhere."""
        self._require_open(keys)
        parts = [self._taken(keys[part], digests[part]) for part in blocks(len(keys), self.BLOCK)]
        return np.concatenate([np.zeros(0, bool), *parts])

    def append(self, keys: Keys, digests: Digests, packed: Packed) -> None:
        """Add states; nothing of them where one is not fit to be stored."""
        self._require_open(keys)
        records = self._form.join(keys, digests, packed)
        for part in blocks(len(keys), self.BLOCK):
            self._add(keys[part], records[part])

    def commit(self, expected_count: int) -> None:
        """Make this the current snapshot, in one step, and have all others go."""
        self._require_open()
        count = self._switch(expected_count)
        if count != expected_count:
            raise StoreError(
                f"the states {self._name} in {self._where} are {count:,} and were to be "
                f"{expected_count:,}, so what was there before stays; run the command again, "
                "which computes what is missing"
            )
        self.close()

    def close(self) -> None:
        """Let go of the lock; what is here stays."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_open(self, keys: Keys | None = None) -> None:
        if self._lock is None:
            raise StoreError(
                f"the draft {self._name} in {self._where} was closed, so another may write by now; "
                "begin it again"
            )
        if keys is not None:
            require_keys(keys)

    @abstractmethod
    def _known(self, keys: Keys) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _taken(self, keys: Keys, digests: Digests) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _add(self, keys: Keys, records: Packed) -> None: ...

    @abstractmethod
    def _switch(self, expected_count: int) -> int:
        """How many states are here; if as many as expected, they are current from now on."""


def require_name(name: str) -> str:
    """`name`, which becomes part of paths and keys."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"found the snapshot name {name!r}; expected up to 128 letters, digits, _ and - that "
            "begin with a letter or digit, such as a digest"
        )
    return name

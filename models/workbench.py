"""Where a long fit keeps what it would not lose, and whom it tells how far it is."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from models.errors import DataError
from models.files import (
    atomic_folder,
    file_digests,
    locked,
    read_json,
    scratch_folder,
    write_json,
)
from models.surroundings import Surroundings
from models.versions import code_digest

_WHOLE: Final = "whole.json"  # written last: the digests of all that is shared beside it


@dataclass(frozen=True)
class Standing:
    """How far a fit is: steps done of all, and what it would say of itself, as in "loss 0.83"."""

    done: int
    total: int
    note: str = ""


def _unseen(standing: Standing) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Workbench:
    """Given to `Member.fit` by whoever runs it.

    What a fit writes to `folder` lets it go on after a kill, with the result it would have had; it
    must check itself that what it finds there belongs to this very fit. The folder is removed by
    its owner once the member is saved and has answered: until then it may lie there. Without one, a
    fit keeps nothing.

    Where several processes fit together, all of them are given the folder of the first, which alone
    keeps anything there.
    """

    folder: Path | None = None
    report: Callable[[Standing], None] = _unseen
    # What the dataset holds besides the pairs, read when it is asked for; None: nothing.
    surroundings: Callable[[], Surroundings] | None = None
    # Where members lie that the same run has trained before, on the same pairs.
    members: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    # Where the fits of one run leave what they have in common; None: each makes its own.
    common: Path | None = None

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """An empty folder for what takes room meanwhile, gone when the block ends.

        It lies within `folder`, with the temporary files where there is none; what a kill left of
        an earlier one is removed by the next.
        """
        return scratch_folder(self.folder or Path(tempfile.gettempdir()), name)

    def shared(self, identity: str, write: Callable[[Path], None]) -> Path:
        """The folder of what `write` puts into an empty one, which happens once for `identity`.

        It must name all that decides what is written. Others that ask meanwhile wait. What a kill
        left is made again, and so is what is damaged. Only where there is something in common.
        """
        if self.common is None:
            raise ValueError("this bench has no folder for what fits have in common")
        identity = f"{identity}-{code_digest()}"  # other code may make another thing of the same
        folder = self.common / identity
        lock = self.common / f"{identity}.lock"
        lock.mkdir(parents=True, exist_ok=True)
        with locked(lock):
            if not _is_whole(folder):
                with atomic_folder(folder) as scratch:
                    write(scratch)
                    write_json(scratch / _WHOLE, file_digests(scratch, but=_WHOLE))
        return folder


def _is_whole(folder: Path) -> bool:
    """Whether a folder that is shared holds what was written to it."""
    try:
        return bool(read_json(folder / _WHOLE) == file_digests(folder, but=_WHOLE))
    except DataError:
        return False


NO_WORKBENCH: Final = Workbench()

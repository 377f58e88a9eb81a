"""Where a long fit keeps what it would not lose, and whom it tells how far it is."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from models.files import scratch_folder
from models.surroundings import Surroundings


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

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """An empty folder for what takes room meanwhile, gone when the block ends.

        It lies within `folder`, with the temporary files where there is none; what a kill left of
        an earlier one is removed by the next.
        """
        return scratch_folder(self.folder or Path(tempfile.gettempdir()), name)


NO_WORKBENCH: Final = Workbench()

"""Where a long fit keeps what it would not lose, and whom it tells how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


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
    its owner once the member is saved. Without one, a fit keeps nothing.
    """

    folder: Path | None = None
    report: Callable[[Standing], None] = _unseen


NO_WORKBENCH: Final = Workbench()

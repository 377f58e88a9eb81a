"""The processes of a launch (torchrun, accelerate launch): the first leads, the others help it fit.

The first reads the configuration, locks, reports, writes and publishes, and tells the others what
to do. They learn of nothing else, and so have nothing to say or to get wrong but what they help
with.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from models.errors import ConfigError, EsciError
from pipelines.console import note

_INTERRUPTED: Final = 130
_FIRST_SECONDS: Final = 3.0
_MEETING: Final = ("MASTER_ADDR", "MASTER_PORT")  # where the processes find each other


@dataclass(frozen=True)
class Team:
    """One process and how many there are."""

    index: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether it leads."""
        return self.index == 0

    def in_words(self, threads: int) -> str:
        """How many processes and threads, as a person would say it."""
        of_each = f"{threads} thread{'s' if threads > 1 else ''}"
        return of_each if self.count == 1 else f"{self.count} processes of {of_each}"

    def tell(self, what: Any) -> None:
        """Tell the others, who `hear` it: plain values, None when there is nothing more to do."""
        if self.count > 1:
            from models.training.steps.processes import tell

            tell(what)

    def hear(self) -> Any:
        """What the first tells next, however long it takes."""
        from models.training.steps.processes import hear

        return hear()


ALONE: Final = Team(0, 1)


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Team]:
    """This process among those that were launched with it; alone where no launcher started it.

    Of the others an error names which one it was. They are silent otherwise, and when another
    process is at fault they just end.
    """
    team = _launched(environment)
    if team == ALONE:
        yield team
        return
    # Loaded by those alone who need it.
    from models.training.steps.processes import is_loss_of_a_process, join, part

    _heed_one_interrupt()
    if not team.is_first:
        logging.disable(logging.WARNING)
    try:
        join()
        yield team
        if team.is_first:
            team.tell(None)
    except KeyboardInterrupt:
        if team.is_first:
            raise
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if is_loss_of_a_process(error):
            if not team.is_first:
                sys.exit(1)
            raise EsciError(
                f"one of the {team.count} processes that train together has ended; what it said is "
                "above, and one that said nothing was killed, as for lack of memory. The same "
                "command goes on from what is kept"
            ) from error
        if not team.is_first:
            # What all of them meet with, the first says, and the launcher then ends the others.
            time.sleep(_FIRST_SECONDS)
            note(f"in process {team.index + 1} of {team.count}:")
        raise
    part()


def _launched(environment: Mapping[str, str]) -> Team:
    """Which process of a launch this is by what the launcher says; alone without one."""
    if "RANK" not in environment or environment.get("WORLD_SIZE", "1") == "1":
        return ALONE
    said = [environment[name] for name in ("RANK", "WORLD_SIZE")]
    index, count = (int(word) if word.isdecimal() else -1 for word in said)
    if not 0 <= index < count or not all(environment.get(name) for name in _MEETING):
        found = ", ".join(
            f"{name} {environment.get(name, 'absent')}"
            for name in ("RANK", "WORLD_SIZE", *_MEETING)
        )
        raise ConfigError(
            f"found {found} in the environment, which is no launch; expected what torchrun or "
            "accelerate launch sets, or no RANK, to train alone"
        )
    return Team(index, count)


def _heed_one_interrupt() -> None:
    """A terminal interrupts all processes, and then their launcher does, while they clean up."""

    def interrupted(*_: Any) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)

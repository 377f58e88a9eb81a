"""`esci` as one process of a launch, with what a test wants to see or to go wrong.

LAUNCH_LOG is a folder: a file for each process there has a line for each batch it learns from, and
a process that exports leaves a file too, and each says how many threads it would take of eight
cores if it were not told. At the batch LAUNCH_BREAK, as in "1:5", process 1 meets with an error.
A batch takes LAUNCH_PAUSE seconds longer.
"""

import os
import time
from pathlib import Path

import esci
from models.cores import Cores
from models.errors import MemberError
from models.language.pretraining.masked import MaskedTask
from models.language.serving import export
from models.language.training.pair_task import PairTask
from pipelines.training.threads import choose_threads


def main() -> None:
    """Watch the two tasks that tests launch, and run the command."""
    rank, folder = int(os.environ["RANK"]), Path(os.environ["LAUNCH_LOG"])
    told = os.environ.get("OMP_NUM_THREADS")
    chosen = choose_threads(None, Cores(8, 8, None))
    (folder / f"threads-{rank}").write_text(f"OMP_NUM_THREADS={told}: {chosen} of 8")
    who, _, when = os.environ.get("LAUNCH_BREAK", "-1:0").partition(":")
    pause = float(os.environ.get("LAUNCH_PAUSE", "0"))
    learned = 0

    def watched(loss):
        def watching(*arguments):
            nonlocal learned
            learned += 1
            with (folder / f"{rank}-{os.getpid()}").open("a") as log:
                log.write(f"{learned}\n")
            if (rank, learned) == (int(who), int(when)):
                raise MemberError("this one broke")
            time.sleep(pause)
            return loss(*arguments)

        return watching

    for task in (PairTask, MaskedTask):
        task.loss = watched(task.loss)
    export_form = export.export_form

    def exporting(*arguments, **keys):
        (folder / f"exported-{rank}").touch()
        return export_form(*arguments, **keys)

    export.export_form = exporting
    esci.main()


if __name__ == "__main__":
    main()

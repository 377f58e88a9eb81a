"""Trains the toy task in a process of its own, which a test kills: `killed.py <folder> <pause>`."""

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.training.loop import train
from models.training.options import TrainingOptions
from models.workbench import Workbench
from tests.models.training.toy import ToyTask


class SlowTask(ToyTask):
    """Takes its time over every batch, and says which it is."""

    pause = 0.0

    def loss(self, rows, device):
        time.sleep(self.pause)
        print(f"batch {len(self.losses) + 1}", flush=True)  # noqa: T201 (read by the test)
        return super().loss(rows, device)


def main(folder: Path, pause: float) -> None:
    """Train with everything on that has a state."""
    torch.set_num_threads(1)
    task = SlowTask()
    task.pause = pause
    options = TrainingOptions(
        epochs=3,
        learning_rate=1e-2,
        accumulation=2,
        ema=0.9,
        fgm=0.1,
        checkpoint_seconds=0.0,
        evaluations_per_epoch=1,
    )
    curve = train(task, options, 5, Workbench(folder / "bench"), "toy")
    save_file(task.weights(), folder / "weights.safetensors")
    (folder / "curve.txt").write_text(repr(curve))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))

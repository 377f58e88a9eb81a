"""Trains the toy task in as many processes as it is launched with: `shared_out.py <folder>`.

Each has scores of its own: what the first finds ever better, the others find ever worse.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from models.training.loop import train
from models.training.options import TrainingOptions
from models.training.steps.processes import is_first, told_by_first
from models.workbench import Workbench
from tests.models.training.toy import ToyTask

SCORES = [0.25, 0.5]  # after each epoch


class SeededTask(ToyTask):
    """Notes what torch was seeded with for each batch."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.seeds: list[int] = []

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        self.seeds.append(torch.initial_seed())
        return super().loss(rows, device)


def main(folder: Path, accumulation: int) -> None:
    """Train without dropout, which every process draws for itself."""
    torch.set_num_threads(1)
    first = is_first()
    # Six batches, the last of five: one has none left.
    task = SeededTask(examples=45, dropout=0.0, scores=SCORES if first else SCORES[::-1])
    options = TrainingOptions(epochs=2, learning_rate=1e-2, accumulation=accumulation, fgm=0.1)
    curve = train(task, options, 5, Workbench(folder / "bench"), "toy")
    state = PartialState()
    found = {"curve": curve.plain(), "seeds": task.seeds}
    (folder / f"found-{state.process_index}.json").write_text(json.dumps(found))
    # What is said by all but the first is nowhere heard.
    assert told_by_first(lambda: {"by": state.process_index}) == {"by": 0}
    assert is_first() == (state.process_index == 0)
    name = f"weights-{state.num_processes}-{state.process_index}.safetensors"
    save_file(task.weights(), folder / name)
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

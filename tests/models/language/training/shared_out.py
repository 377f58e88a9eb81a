"""Trains the toy task in as many processes as it is launched with: `shared_out.py <folder>`."""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file

from models.language.training.loop import train
from models.language.training.options import TrainingOptions
from models.language.training.steps.processes import is_first, told_by_first
from models.workbench import Workbench
from tests.models.language.training.toy import ToyTask


def main(folder: Path, accumulation: int) -> None:
    """Train without dropout, which every process draws for itself."""
    torch.set_num_threads(1)
    task = ToyTask(examples=45, dropout=0.0)  # six batches, the last of five: one has none left
    options = TrainingOptions(epochs=2, learning_rate=1e-2, accumulation=accumulation, fgm=0.1)
    train(task, options, 5, Workbench(folder / "bench"), "toy")
    state = PartialState()
    # What is said by all but the first is nowhere heard.
    assert told_by_first(lambda: {"by": state.process_index}) == {"by": 0}
    assert is_first() == (state.process_index == 0)
    name = f"weights-{state.num_processes}-{state.process_index}.safetensors"
    save_file(task.weights(), folder / name)
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

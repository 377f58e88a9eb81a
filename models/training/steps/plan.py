"""How many steps a training has, and after which of them it is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.training.options import TrainingOptions
from models.training.task import Task

_POINTS: Final = 100  # of loss, in a curve
Batches = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Plan:
    """Steps count from 0; "after step n" is when n of them are done."""

    steps_of_epoch: Sequence[int]
    total: int
    evaluations: frozenset[int]  # after which steps
    points: frozenset[int]  # after which steps the curve has a point; evaluations among them

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and how many steps of that epoch come before it."""
        for epoch, steps in enumerate(self.steps_of_epoch):
            if step < steps:
                return epoch, step
            step -= steps
        return len(self.steps_of_epoch), step

    def passes(self, step: int) -> float:
        """How often the examples have been seen once `step` steps are done."""
        epoch, within = self.place(step)
        return epoch + (within / self.steps_of_epoch[epoch] if within else 0.0)


def plan_of(task: Task, options: TrainingOptions, seed: int, processes: int) -> Plan:
    """The plan of training `task`: a step takes `accumulation` batches in each process."""
    taken = options.accumulation * processes
    steps_of_epoch = [
        -(-len(task.batches(epoch, epoch_generator(seed, epoch))) // taken)
        for epoch in range(options.epochs)
    ]
    ends = np.cumsum(steps_of_epoch).tolist()
    total = ends[-1] if options.max_steps is None else min(ends[-1], options.max_steps)
    parts = options.evaluations_per_epoch
    evaluations = {
        end - steps + max(steps * part // parts, 1)
        for end, steps in zip(ends, steps_of_epoch, strict=True)
        for part in range(1, parts + 1)
        if steps
    }
    evaluations = {step for step in evaluations if step <= total} | {total}
    every = max(total // _POINTS, 1)
    points = evaluations | set(range(every, total + 1, every))
    return Plan(steps_of_epoch, total, frozenset(evaluations), frozenset(points))


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Where the batches of an epoch are drawn from: known from its number, and never stored."""
    return np.random.default_rng([seed, epoch])


def step_seed(seed: int, step: int, process: int) -> int:
    """What torch is seeded with before a step, so that its dropout is known from its number.

    No generator's state has to survive a kill, of one process or of many.
    """
    words = np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def shares(batches: Batches, step: int, accumulation: int, processes: int, process: int) -> Batches:
    """The batches that one process takes in one step of an epoch; as many in every process.

    At the end of an epoch some processes may have none left: they get an empty one, so that all
    of them come to the same exchange of gradients.
    """
    taken = accumulation * processes
    of_step = batches[step * taken : (step + 1) * taken]
    mine = list(of_step[process::processes])
    most = -(-len(of_step) // processes)
    return mine + [np.empty(0, np.int64)] * (most - len(mine))

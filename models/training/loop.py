"""The one training loop: any task, resumable after a kill, on whatever device accelerate finds."""

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from math import isfinite
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import ConfigError, MemberError
from models.training.curve import Curve, Point
from models.training.identity import deciding_training
from models.training.options import Precision, TrainingOptions
from models.training.steps.adversary import pushed
from models.training.steps.average import WeightAverage, copy_weights
from models.training.steps.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from models.training.steps.optimiser import (
    adamw,
    optimiser_tensors,
    rate_factor,
    restore_optimiser,
    set_rates,
)
from models.training.steps.plan import (
    Batches,
    Plan,
    epoch_generator,
    plan_of,
    shares,
    step_seed,
)
from models.training.steps.precision import mixed_precision
from models.training.steps.processes import told_by_first, training_device
from models.training.steps.progress import Progress
from models.training.task import Task
from models.typed import plain
from models.workbench import NO_WORKBENCH, Workbench

__all__ = ["CHECKPOINT_FILE", "train", "training_device"]

CHECKPOINT_FILE: Final = "checkpoint.safetensors"

_REPLICATED: Final = {
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
}


def train(
    task: Task,
    options: TrainingOptions,
    seed: int,
    bench: Workbench = NO_WORKBENCH,
    identity: str = "",
) -> Curve:
    """Train `task.module` in place and leave it, in evaluation mode, with the weights that count.

    Those are the best by `score` where the task measures one (unless `keep_best` is off), else the
    last; of the running mean where there is one. `identity` is a digest of whatever decides the
    result besides options and seed: data, starting weights. A checkpoint in the bench's folder of
    the same identity is gone on with, and on a CPU, with as many threads, the weights are then to
    the bit those of a training that was never interrupted. The module stays on the device it was
    trained on.

    In a launch of several processes every one calls this; batches are shared out among them, and
    the first alone writes to the bench.
    """
    accelerator = _accelerator(options.precision)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    # Steps seed torch; whoever draws from it elsewhere should not notice.
    with torch.random.fork_rng(devices):
        return _Run(task, options, seed, bench, identity, accelerator).go()


def _accelerator(precision: Precision) -> Accelerator:
    """An accelerator of `precision`, whatever one in this process had before."""
    wanted = mixed_precision(precision, training_device())
    # Its precision is kept in the class, and making a second accelerator of another one is an
    # error; members of one run may well differ in it. Nothing else is kept there that we set.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=wanted)
    if accelerator.distributed_type not in _REPLICATED:
        raise ConfigError(
            f"accelerate is set up for {accelerator.distributed_type}; expected one process, or "
            "several with a whole copy of the network each (MULTI_GPU): run `accelerate config`"
        )
    return accelerator


class _Loss(nn.Module):
    """A task's loss as the forward pass of a module, which is what accelerate wraps."""

    def __init__(self, task: Task, device: torch.device) -> None:
        super().__init__()
        self.network = task.module
        self._task, self._device = task, device

    def forward(self, rows: NDArray[np.int64]) -> Tensor:
        return self._task.loss(rows, self._device)


class _Run:
    """One training from its first step, or from where a checkpoint left it, to its end."""

    def __init__(
        self,
        task: Task,
        options: TrainingOptions,
        seed: int,
        bench: Workbench,
        identity: str,
        accelerator: Accelerator,
    ) -> None:
        options.check_pushable(embeddings_learn=bool(task.adversarial()))
        self.task, self.options, self.seed, self.bench = task, options, seed, bench
        self.accelerator, self.device = accelerator, accelerator.device
        self.plan: Plan = plan_of(task, options, seed, accelerator.num_processes)
        self.module = task.module.to(self.device)
        self.parameters = {
            name: parameter
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
        }
        self.identity = self._identity(identity)
        # Before they exchange anything else, for which the wait is short.
        if told_by_first(lambda: self.identity) != self.identity:
            raise MemberError(
                "this process would train something else than the first; expected the same data, "
                "backbone, options and libraries for all"
            )
        # Ours, beneath what accelerate wraps around it: its state goes into checkpoints.
        self.optimiser = adamw(self.module, task.groups(), options)
        self.loss, self.stepper = accelerator.prepare(_Loss(task, self.device), self.optimiser)
        self.average = WeightAverage(self.parameters, options.ema) if options.ema else None

        self.step = 0
        self.finished = False
        self.curve = Curve()
        self.best_weights: dict[str, Tensor] = {}
        self.best_score = -np.inf
        self.since_best = 0  # evaluations
        # Summed on the device: to ask for it at every step would wait for every step.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.loss_steps = 0

    def go(self) -> Curve:
        self._resume()
        progress = Progress(self.bench, self.plan)
        saved = time.monotonic()
        epoch, batches = -1, self.task.batches(0, epoch_generator(self.seed, 0))
        self.module.train()
        while self.step < self.plan.total and not self.finished:
            now_in, within = self.plan.place(self.step)
            if now_in != epoch:
                epoch = now_in
                batches = self.task.batches(epoch, epoch_generator(self.seed, epoch))
            of_step = shares(
                batches,
                within,
                self.options.accumulation,
                self.accelerator.num_processes,
                self.accelerator.process_index,
            )
            everywhere = self.options.accumulation * self.accelerator.num_processes
            examples = sum(map(len, batches[within * everywhere : (within + 1) * everywhere]))
            self._learn(of_step, examples, batches[0])
            self.step += 1
            if self.step in self.plan.points:
                self._mark()
            overdue = time.monotonic() - saved >= self.options.checkpoint_seconds
            if self.step in self.plan.evaluations or overdue:
                self._save()
                saved = time.monotonic()
            if progress.is_due():
                progress.report(self.step, self._mean_loss(), self.curve)
        if not self.finished:
            self.finished = True
            self._save()
        progress.report(self.step, self._mean_loss(), self.curve)
        return self._end()

    def _learn(self, batches: Batches, examples: int, other: NDArray[np.int64]) -> None:
        """One step on `batches`, as if they were one; `examples` are those of all processes."""
        torch.manual_seed(step_seed(self.seed, self.step, self.accelerator.process_index))
        warmup = round(self.options.warmup * self.plan.total)
        set_rates(
            self.optimiser,
            rate_factor(self.step, self.plan.total, warmup, self.options.schedule),
        )
        self.stepper.zero_grad(set_to_none=True)
        self.loss_sum += self._backward(batches, examples, other)
        self.loss_steps += 1
        if self.options.fgm:
            with pushed(self.task.adversarial(), self.options.fgm) as is_pushed:
                if is_pushed:
                    self._backward(batches, examples, other)
        self.accelerator.clip_grad_norm_(self.parameters.values(), self.options.clip_norm)
        self.stepper.step()
        if self.average:
            self.average.update()

    def _backward(self, batches: Batches, examples: int, other: NDArray[np.int64]) -> Tensor:
        """Add the gradient of the mean loss over the step's examples; returns our part of it."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for at, rows in enumerate(batches):
            is_last = at == len(batches) - 1
            # Gradients are exchanged once per step; accelerate's mean over processes becomes the
            # mean over examples.
            share = len(rows) * self.accelerator.num_processes / examples
            with nullcontext() if is_last else self.accelerator.no_sync(self.loss):
                # A process without a batch still has to take part in the exchange.
                loss = self.loss(rows if len(rows) else other) * share
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _mark(self) -> None:
        """A point of the curve, with metrics where they are due."""
        loss = self._mean_loss()
        if loss is not None and not isfinite(loss):
            raise MemberError(
                f"the loss is {loss} after {self.step} steps; expected a number: lower the "
                "learning rate, or train in fp32"
            )
        self.loss_sum.zero_()
        self.loss_steps = 0
        metrics = self._evaluate() if self.step in self.plan.evaluations else {}
        point = Point(self.step, round(self.plan.passes(self.step), 4), loss, metrics)
        self.curve = replace(self.curve, points=(*self.curve.points, point))
        score = metrics.get("score")
        if score is None:
            return
        if score > self.best_score:
            self.best_score, self.since_best = score, 0
            if self.options.keep_best:
                self.curve = replace(self.curve, best_step=self.step)
                kept = self.average.means if self.average else self.parameters
                self.best_weights = {name: p.detach().cpu().clone() for name, p in kept.items()}
        else:
            self.since_best += 1
            self.finished = 0 < self.options.patience <= self.since_best

    def _evaluate(self) -> Mapping[str, float]:
        self.module.eval()
        with (
            self.average.in_place() if self.average else nullcontext(),
            torch.no_grad(),
            self.accelerator.autocast(),
        ):
            found = dict(self.task.evaluate(self.device))
        self.module.train()
        # The last digits may differ between processes, and they must agree on when to stop.
        return told_by_first(lambda: found)

    def _mean_loss(self) -> float | None:
        if not self.loss_steps:
            return self.curve.points[-1].loss if self.curve.points else None
        return float(self.loss_sum.item()) / self.loss_steps

    def _end(self) -> Curve:
        if self.best_weights:
            copy_weights(self.parameters, self.best_weights)
        elif self.average:
            copy_weights(self.parameters, self.average.means)
        self.stepper.zero_grad(set_to_none=True)
        self.module.eval()
        self.accelerator.free_memory()
        return self.curve

    def _identity(self, of_task: str) -> str:
        """A digest of everything that decides the result, as far as it can be known."""
        decides: dict[str, Any] = {
            "task": of_task,
            "options": deciding_training(plain(self.options)),
            "seed": self.seed,
            "steps": list(self.plan.steps_of_epoch),
            "processes": self.accelerator.num_processes,
            "device": self.device.type,
            "precision": self.accelerator.mixed_precision,
            "torch": torch.__version__,
            "parameters": {name: list(p.shape) for name, p in self.parameters.items()},
        }
        return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _save(self) -> None:
        """Write a checkpoint, where there is a folder for it."""
        if self.bench.folder is None or not self.accelerator.is_main_process:
            return
        tensors = {"loss_sum": self.loss_sum}
        for prefix, found in self._parts().items():
            tensors |= {f"{prefix}:{name}": tensor for name, tensor in found.items()}
        scaler = self.accelerator.scaler
        about = {
            "step": self.step,
            "finished": self.finished,
            "curve": self.curve.plain(),
            "best_score": self.best_score if isfinite(self.best_score) else None,
            "since_best": self.since_best,
            "loss_steps": self.loss_steps,
            "averaged": self.average.updates if self.average else 0,
            "scaler": scaler.state_dict() if scaler else {},
        }
        path = self.bench.folder / CHECKPOINT_FILE
        write_checkpoint(path, Checkpoint(about, tensors), self.identity)

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        """Everything that training changes; what is frozen is made again by whoever made it."""
        return {
            "weight": self.parameters,
            "buffer": _buffers(self.module),
            "optimiser": optimiser_tensors(self.optimiser, self.module),
            "mean": self.average.means if self.average else {},
            "best": self.best_weights,
        }

    def _resume(self) -> None:
        """Go on from the checkpoint, where there is one of this very training."""
        if self.bench.folder is None:
            return
        path = self.bench.folder / CHECKPOINT_FILE
        found = read_checkpoint(path, self.identity)
        step = None if found is None else found.about["step"]
        # The first writes another only after a step that all have taken.
        if (first := told_by_first(lambda: step)) != step:
            raise MemberError(
                f"the first process goes on from step {first} by {path}, and this one found "
                f"{'none' if step is None else f'step {step}'} there; expected processes that "
                "share their folders"
            )
        if found is None:
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in found.tensors.items():
            prefix, _, name = key.partition(":")
            parts.setdefault(prefix, {})[name] = tensor
        copy_weights(self.parameters, parts["weight"])
        for name, buffer in _buffers(self.module).items():
            buffer.copy_(parts["buffer"][name])
        restore_optimiser(self.optimiser, self.module, parts.get("optimiser", {}))
        if self.average:
            self.average.restore(parts["mean"], found.about["averaged"])
        self.best_weights = parts.get("best", {})
        self.loss_sum.copy_(found.tensors["loss_sum"])
        about = found.about
        self.step, self.finished = about["step"], about["finished"]
        self.curve = Curve.of_plain(about["curve"])
        self.best_score = -np.inf if about["best_score"] is None else about["best_score"]
        self.since_best, self.loss_steps = about["since_best"], about["loss_steps"]
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(about["scaler"])


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """What a module keeps besides parameters and would save."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return {name: t for name, t in module.state_dict().items() if name not in parameters}

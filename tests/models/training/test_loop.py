import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.errors import ConfigError, MemberError
from models.files import read_json
from models.training.loop import CHECKPOINT_FILE, train
from models.training.options import TrainingOptions
from models.training.steps.precision import mixed_precision
from models.workbench import Workbench
from tests.gpu import needs_gpu, using_gpu
from tests.models.training.shared_out import SCORES
from tests.models.training.toy import ToyTask, same

ROOT = Path(__file__).parents[3]
OPTIONS = TrainingOptions(epochs=3, learning_rate=1e-2, checkpoint_seconds=0.0)
SWITCHES = {
    "plain": {},
    "mean": {"ema": 0.9},
    "adversary": {"fgm": 0.2},
    "accumulation": {"accumulation": 3},
    "layer decay": {"layer_decay": 0.5, "head_learning_rate": 0.1},
    "last weights": {"keep_best": False, "schedule": "cosine"},
    "several evaluations": {"evaluations_per_epoch": 3, "patience": 5},
    "bf16": {"precision": "bf16"},
}


def trained(options: TrainingOptions = OPTIONS, seed: int = 5, **task) -> ToyTask:
    made = ToyTask(**task)
    train(made, options, seed)
    return made


class TestLearning:
    def test_the_task_is_learnt(self):
        task = ToyTask()
        curve = train(task, replace(OPTIONS, epochs=20, learning_rate=5e-2), 5)
        assert curve.best["accuracy"] > 0.95
        assert curve.points[0].loss > 3 * curve.points[-1].loss
        assert not task.module.training

    def test_the_same_seed_gives_the_same_weights_and_another_others(self):
        assert same(trained().weights(), trained().weights())
        assert not same(trained().weights(), trained(seed=6).weights())

    def test_every_example_is_seen_once_an_epoch(self):
        seen = [row for rows, _ in trained().losses for row in rows]
        assert sorted(seen) == sorted(list(range(60)) * 3)

    def test_fewer_steps_stop_there(self):
        curve = train(task := ToyTask(), replace(OPTIONS, max_steps=5), 5)
        assert len(task.losses) == 5
        assert curve.points[-1].step == 5
        assert curve.points[-1].metrics

    def test_torchs_generator_is_left_as_it_was(self):
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        trained()
        assert torch.equal(torch.rand(3), expected)

    def test_a_step_is_that_of_plain_torch(self):
        # No dropout, one batch, no warm-up: what AdamW does with it.
        options = TrainingOptions(
            epochs=1, learning_rate=1e-2, batch_size=60, warmup=0.0, clip_norm=0.5
        )
        ours = trained(options, batch_size=60, dropout=0.0)
        theirs = ToyTask(batch_size=60, dropout=0.0)
        theirs.module.train()
        matrices = [p for p in theirs.module.parameters() if p.ndim > 1]
        vectors = [p for p in theirs.module.parameters() if p.ndim < 2]
        optimiser = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=1e-2
        )
        theirs.loss(np.arange(60), torch.device("cpu")).backward()
        nn.utils.clip_grad_norm_(theirs.module.parameters(), 0.5)
        optimiser.step()
        for name, parameter in theirs.module.named_parameters():
            torch.testing.assert_close(dict(ours.module.named_parameters())[name], parameter)

    @pytest.mark.parametrize("switch", [{}, {"fgm": 0.3}])
    def test_accumulated_batches_are_one_large_batch(self, switch):
        class InOrder(ToyTask):
            def batches(self, *_):
                return self.order

        # Batches are not all of a size, nor do they come out even: their examples have to count.
        small = np.array_split(np.arange(60), 23)
        large = [np.concatenate(small[at : at + 5]) for at in range(0, 23, 5)]
        found = []
        for order, accumulation in ((large, 1), (small, 5)):
            task = InOrder(dropout=0.0)
            task.order = order
            train(task, replace(OPTIONS, accumulation=accumulation, epochs=2, **switch), 5)
            found.append(task.weights())
        for name in found[0]:
            if name != "seen":
                torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)

    def test_the_adversary_takes_every_batch_twice(self):
        task = trained(replace(OPTIONS, fgm=0.5, epochs=1), dropout=0.0)
        rows = [rows for rows, _ in task.losses]
        assert rows[::2] == rows[1::2]
        clean, pushed = ([loss for _, loss in task.losses[at::2]] for at in (0, 1))
        assert all(one < other for one, other in zip(clean, pushed, strict=True))

    def test_an_adversary_without_embeddings_that_learn_is_refused(self):
        class Frozen(ToyTask):
            def adversarial(self):
                return []

        with pytest.raises(ConfigError, match=r"fgm 0\.5 pushes embeddings, and none learn"):
            train(task := Frozen(), replace(OPTIONS, fgm=0.5), 5)
        assert task.losses == []
        train(task, OPTIONS, 5)

    def test_a_loss_that_is_no_number_stops_it(self):
        task = ToyTask()
        with torch.no_grad():
            task.module.head.bias.fill_(torch.nan)
        with pytest.raises(MemberError, match="loss is nan"):
            train(task, OPTIONS, 5)


class TestChoosing:
    def test_the_best_weights_are_restored(self):
        scores = [0.1, 0.9, 0.3]
        task = ToyTask(scores=scores)
        curve = train(task, OPTIONS, 5)
        assert curve.best_step == 16
        assert curve.best == {"score": 0.9}
        # The schedule is that of three epochs, of which the weights of two are kept.
        until_then = ToyTask(scores=[0.1, 0.9], breaks_after=16)
        with pytest.raises(InterruptedError):
            train(until_then, OPTIONS, 5)
        assert same(
            {**task.weights(), "seen": torch.zeros(())},
            {**until_then.weights(), "seen": torch.zeros(())},
        )
        assert not same(
            task.weights(), trained(replace(OPTIONS, keep_best=False), scores=scores).weights()
        )

    def test_without_a_validation_side_the_last_are_kept(self):
        curve = train(task := ToyTask(scores=[]), OPTIONS, 5)
        assert curve.best_step is None
        assert curve.best == {}
        assert same(task.weights(), trained(replace(OPTIONS, keep_best=False)).weights())

    def test_patience_ends_it(self):
        scores = [0.5, 0.6, 0.6, 0.2, 0.9]
        curve = train(task := ToyTask(scores=scores), replace(OPTIONS, epochs=5, patience=2), 5)
        assert len(task.losses) == 4 * 8  # an equal score is not a better one
        assert curve.best_step == 16
        assert len([point for point in curve.points if point.metrics]) == 4

    def test_the_mean_of_the_weights_is_what_is_measured_and_kept(self):
        options = replace(OPTIONS, ema=0.95, keep_best=False)
        with_mean, without = trained(options), trained(replace(OPTIONS, keep_best=False))
        assert [loss for _, loss in with_mean.losses] == [loss for _, loss in without.losses]
        assert not same(with_mean.weights(), without.weights())

        class Watching(ToyTask):
            measured = None

            def evaluate(self, device):
                self.measured = self.weights()
                assert not self.module.training
                return super().evaluate(device)

        task = Watching()
        train(task, options, 5)
        assert same(task.measured, task.weights())

    def test_the_best_mean_is_kept_as_it_was_measured(self):
        class Watching(ToyTask):
            def __init__(self, **how):
                super().__init__(**how)
                self.measured = []

            def evaluate(self, device):
                self.measured.append(self.weights())
                return super().evaluate(device)

        task = Watching(scores=[0.1, 0.9, 0.3])
        curve = train(task, replace(OPTIONS, ema=0.95), 5)
        assert curve.best_step == 16
        kept = task.weights()
        of_weights = [{**found, "seen": kept["seen"]} for found in task.measured]
        assert [same(kept, found) for found in of_weights] == [False, True, False]


class TestResuming:
    @pytest.mark.parametrize("name", SWITCHES)
    @pytest.mark.parametrize("breaks_after", [1, 13, 22])
    def test_gives_the_weights_of_an_uninterrupted_training(self, tmp_path, name, breaks_after):
        options = replace(OPTIONS, **SWITCHES[name])
        whole = ToyTask()
        expected = train(whole, options, 5)
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=breaks_after), options, 5, Workbench(tmp_path), "toy")
        again = ToyTask()
        if (tmp_path / CHECKPOINT_FILE).exists():  # not where the first step was cut off
            # Whoever resumes made their network anew: nothing of it may stay.
            with torch.no_grad():
                for parameter in again.module.parameters():
                    parameter.add_(1)
        found = train(again, options, 5, Workbench(tmp_path), "toy")
        assert same(again.weights(), whole.weights())
        assert found.plain() == expected.plain()
        steps = len(whole.losses) - breaks_after
        assert len(again.losses) <= steps + 2 * options.accumulation * (2 if options.fgm else 1)

    def test_patience_counts_from_before_the_break(self, tmp_path):
        options = replace(OPTIONS, epochs=6, patience=3)
        scores = [0.5, 0.4, 0.3, 0.2, 0.9, 0.9]
        with pytest.raises(InterruptedError):
            train(
                ToyTask(scores=scores, breaks_after=3 * 8 + 2), options, 5, Workbench(tmp_path), ""
            )
        again = ToyTask(scores=scores[3:])  # three evaluations were before the break
        curve = train(again, options, 5, Workbench(tmp_path), "")
        assert curve.points[-1].step == 4 * 8
        assert curve.best_step == 8
        whole = ToyTask(scores=scores)
        assert train(whole, options, 5).plain() == curve.plain()
        assert same(again.weights(), whole.weights())

    def test_a_finished_training_is_not_done_again(self, tmp_path):
        first = ToyTask()
        expected = train(first, OPTIONS, 5, Workbench(tmp_path), "toy")
        again = ToyTask()
        found = train(again, OPTIONS, 5, Workbench(tmp_path), "toy")
        assert again.losses == []
        assert same(again.weights(), first.weights())
        assert found.plain() == expected.plain()

    @pytest.mark.parametrize(
        ("identity", "seed", "changes"),
        [("other", 5, {}), ("toy", 6, {}), ("toy", 5, {"ema": 0.5}), ("toy", 5, {"epochs": 4})],
    )
    def test_another_training_starts_anew(self, tmp_path, caplog, identity, seed, changes):
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=9), OPTIONS, 5, Workbench(tmp_path), "toy")
        options = replace(OPTIONS, **changes)
        with caplog.at_level(logging.WARNING):
            train(task := ToyTask(), options, seed, Workbench(tmp_path), identity)
        assert "another training" in caplog.text
        assert same(task.weights(), trained(options, seed).weights())

    def test_a_torn_checkpoint_starts_anew(self, tmp_path, caplog):
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=9), OPTIONS, 5, Workbench(tmp_path), "toy")
        path = tmp_path / CHECKPOINT_FILE
        path.write_bytes(path.read_bytes()[:-10])
        with caplog.at_level(logging.WARNING):
            train(task := ToyTask(), OPTIONS, 5, Workbench(tmp_path), "toy")
        assert "cannot be read" in caplog.text or "not used" in caplog.text
        assert same(task.weights(), trained().weights())

    def test_how_often_it_is_saved_changes_nothing(self, tmp_path):
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=21), OPTIONS, 5, Workbench(tmp_path), "toy")
        rarely = replace(OPTIONS, checkpoint_seconds=3600.0)
        train(task := ToyTask(), rarely, 5, Workbench(tmp_path), "toy")
        assert len(task.losses) == 3
        assert same(task.weights(), trained().weights())

    def test_between_two_points_of_the_curve_too(self, tmp_path):
        options = replace(OPTIONS, epochs=50)  # 400 steps, a point every four
        expected = train(ToyTask(), options, 5)
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=50), options, 5, Workbench(tmp_path), "toy")
        found = train(ToyTask(), options, 5, Workbench(tmp_path), "toy")
        assert found.plain() == expected.plain()
        assert len(found.points) < 200

    def test_frozen_weights_are_not_written(self, tmp_path):
        class Frozen(ToyTask):
            def groups(self):
                return super().groups()[:2]

        task = Frozen()
        task.module.words.requires_grad_(False)
        train(task, OPTIONS, 5, Workbench(tmp_path), "toy")
        assert not [name for name in load_file(tmp_path / CHECKPOINT_FILE) if "words" in name]

    def test_what_another_process_would_not_go_on_from_is_refused(self, tmp_path, monkeypatch):
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=9), OPTIONS, 5, Workbench(tmp_path), "toy")
        first = iter(["the same", 3])  # of the first process: what it trains, its step

        def told_by_first(say):
            mine, theirs = say(), next(first)
            return mine if theirs == "the same" else theirs

        monkeypatch.setattr("models.training.loop.told_by_first", told_by_first)
        with pytest.raises(MemberError, match=r"goes on from step 3 .* this one found step 9 "):
            train(ToyTask(), OPTIONS, 5, Workbench(tmp_path), "toy")

    @pytest.mark.slow
    def test_a_killed_process_goes_on_to_the_same_weights(self, tmp_path):
        def start(name: str, pause: float) -> subprocess.Popen:
            (tmp_path / name).mkdir(exist_ok=True)
            return subprocess.Popen(
                [sys.executable, "-m", "tests.models.training.killed",
                 str(tmp_path / name), str(pause)],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip

        with start("whole", 0.0) as whole:
            batches = whole.stdout.read().count("batch")
        assert whole.returncode == 0
        killed = 0
        for _ in range(2):
            with start("killed", 0.02) as process:
                for said in process.stdout:
                    if said.strip() == "batch 21":  # in mid-epoch: an epoch has 16, two a step
                        os.kill(process.pid, signal.SIGKILL)
                        killed += 1
                        break
            assert process.returncode == -signal.SIGKILL
            assert not (tmp_path / "killed" / "weights.safetensors").exists()
        with start("killed", 0.0) as process:
            rest = process.stdout.read().count("batch")
        assert process.returncode == 0
        assert killed == 2
        assert rest < batches - 30
        one, other = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "killed"))
        assert same(one, other)
        curves = [(tmp_path / name / "curve.txt").read_text() for name in ("whole", "killed")]
        assert curves[0] == curves[1]


@pytest.mark.slow
def test_processes_share_the_work_and_agree_with_one(tmp_path):
    """Two processes are one that takes twice the batches in a step."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "tests.models.training.shared_out", str(tmp_path), "2",
    ]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one = ToyTask(examples=45, dropout=0.0, scores=SCORES)
    train(one, TrainingOptions(epochs=2, learning_rate=1e-2, accumulation=4, fgm=0.1), 5)
    found = [read_json(tmp_path / f"found-{process}.json") for process in (0, 1)]
    # Dropout of their own, and one verdict on what came of it.
    assert not set(found[0]["seeds"]) & set(found[1]["seeds"])
    for process in found:
        curve = process["curve"]
        scored = [point for point in curve["points"] if point["metrics"]]
        assert [point["metrics"]["score"] for point in scored] == SCORES
        assert curve["best_step"] == scored[-1]["step"]
    two = [load_file(tmp_path / f"weights-2-{process}.safetensors") for process in (0, 1)]
    for name in set(one.weights()) - {"seen"}:
        assert torch.equal(two[0][name], two[1][name])
        torch.testing.assert_close(two[0][name], one.weights()[name], rtol=1e-4, atol=1e-6)


def test_processes_that_would_train_something_else_are_refused(monkeypatch):
    monkeypatch.setattr("models.training.loop.told_by_first", lambda _: "another")
    with pytest.raises(MemberError, match="something else than the first"):
        trained()


class TestReporting:
    def test_says_loss_and_metric(self, monkeypatch):
        monkeypatch.setattr("models.training.steps.progress._SECONDS", 0.0)
        told = []
        train(ToyTask(), OPTIONS, 5, Workbench(None, told.append))
        assert [standing.done for standing in told] == [*range(1, 25), 24]
        assert {standing.total for standing in told} == {24}
        assert told[-1].note.startswith("loss 0.")
        assert "score 0." in told[-1].note

    def test_is_done_about_once_a_second(self):
        told = []
        train(ToyTask(), OPTIONS, 5, Workbench(None, told.append))
        assert len(told) < 24


class TestPrecision:
    def test_is_single_on_a_processor_unless_asked(self):
        cpu = torch.device("cpu")
        assert mixed_precision("auto", cpu) == "no"
        assert mixed_precision("fp32", cpu) == "no"
        assert mixed_precision("bf16", cpu) == "bf16"
        with pytest.raises(ConfigError, match="fp16 needs a GPU"):
            mixed_precision("fp16", cpu)

    def test_trainings_of_several_follow_each_other_in_one_process(self):
        half, full = trained(replace(OPTIONS, precision="bf16")), trained()
        assert not same(half.weights(), full.weights())
        assert same(full.weights(), trained().weights())
        assert all(t.dtype == torch.float32 for t in half.weights().values())

    @needs_gpu
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_a_gpu_learns_it_too_and_resumes(self, precision, tmp_path):
        options = replace(OPTIONS, epochs=20, learning_rate=5e-2, precision=precision)
        with pytest.raises(InterruptedError):
            train(ToyTask(breaks_after=50), options, 5, Workbench(tmp_path), "toy")
        with using_gpu():
            curve = train(task := ToyTask(), options, 5, Workbench(tmp_path), "toy")
        assert next(task.module.parameters()).device.type == "cuda"
        assert curve.best["accuracy"] > 0.95
        assert len(task.losses) < 20 * 8 - 45

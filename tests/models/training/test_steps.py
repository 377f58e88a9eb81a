import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from models.errors import ConfigError, MemberError
from models.training.options import TrainingOptions
from models.training.steps.adversary import pushed
from models.training.steps.average import WeightAverage
from models.training.steps.optimiser import adamw, rate_factor, rate_of, set_rates
from models.training.steps.plan import plan_of, shares, step_seed
from models.training.task import ParameterGroup
from tests.models.training.toy import ToyTask, same

CPU = torch.device("cpu")


class TestRates:
    @given(
        total=st.integers(1, 300),
        share=st.floats(0, 0.99),
        schedule=st.sampled_from(["linear", "cosine", "constant"]),
    )
    def test_rise_to_one_in_the_warm_up_and_never_rise_again(self, total, share, schedule):
        warmup = round(share * total)
        factors = [rate_factor(step, total, warmup, schedule) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)
        rising, falling = factors[: warmup + 1], factors[warmup:]
        assert rising == sorted(rising)
        assert falling == sorted(falling, reverse=True)
        if warmup < total:
            assert factors[warmup] == 1

    def test_are_those_of_transformers(self):
        theirs = {
            "linear": get_linear_schedule_with_warmup,
            "cosine": get_cosine_schedule_with_warmup,
        }
        for name, schedule in theirs.items():
            optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            scheduler = schedule(optimiser, 10, 100)
            for step in range(100):
                # They start at 0 and reach 1 a step later: a first step that changes nothing.
                if step >= 10:
                    factor = rate_factor(step, 100, 10, name)
                    assert factor == pytest.approx(optimiser.param_groups[0]["lr"])
                optimiser.step()
                scheduler.step()

    def test_of_a_linear_decay_end_one_step_above_zero(self):
        assert rate_factor(99, 100, 0, "linear") == pytest.approx(0.01)
        assert rate_factor(9, 10, 9, "linear") == 1

    @given(decay=st.floats(0.1, 1), depth=st.integers(1, 30))
    def test_fall_with_the_depth(self, decay, depth):
        options = TrainingOptions(learning_rate=1e-3, layer_decay=decay, head_learning_rate=0.5)
        assert rate_of(depth, options) == pytest.approx(1e-3 * decay ** (depth - 1))
        assert rate_of(0, options) == 0.5
        assert rate_of(0, TrainingOptions(learning_rate=1e-3, layer_decay=decay)) == 1e-3

    def test_must_be_given(self):
        with pytest.raises(ConfigError, match="learning_rate is not set"):
            rate_of(0, TrainingOptions())


class TestOptimiser:
    def test_every_parameter_has_the_rate_of_its_depth_and_only_matrices_decay(self):
        task = ToyTask()
        options = TrainingOptions(
            learning_rate=1e-3, layer_decay=0.5, head_learning_rate=1e-2, weight_decay=0.1
        )
        optimiser = adamw(task.module, task.groups(), options)
        set_rates(optimiser, 0.5)
        found = {
            name: (group["lr"], group["weight_decay"])
            for group in optimiser.param_groups
            for parameter in group["params"]
            for name, known in task.module.named_parameters()
            if known is parameter
        }
        assert found == {
            "head.weight": (5e-3, 0.1),
            "head.bias": (5e-3, 0.0),
            "norm.weight": (5e-4, 0.0),
            "norm.bias": (5e-4, 0.0),
            "words.weight": (2.5e-4, 0.1),
        }

    def test_a_forgotten_parameter_is_named(self):
        task = ToyTask()
        with pytest.raises(MemberError, match=r"words\.weight"):
            adamw(task.module, task.groups()[:2], TrainingOptions(learning_rate=1e-3))
        task.module.words.weight.requires_grad_(False)
        adamw(task.module, task.groups()[:2], TrainingOptions(learning_rate=1e-3))

    def test_there_must_be_something_to_train(self):
        module = nn.Linear(2, 2).requires_grad_(False)
        with pytest.raises(MemberError, match="no parameter"):
            adamw(module, [ParameterGroup(0, [])], TrainingOptions(learning_rate=1e-3))


class TestAverage:
    def test_is_the_closed_form(self):
        weight = nn.Parameter(torch.tensor([0.5, -1.0]))
        average = WeightAverage({"w": weight}, 0.6)
        history = [weight.detach().clone()]
        for step in range(12):
            weight.data += step
            history.append(weight.detach().clone())
            average.update()
        decays = [min(0.6, (1 + t) / (10 + t)) for t in range(1, 13)]
        assert decays[0] < 0.2
        assert decays[-1] == (1 + 12) / (10 + 12)
        # θ̄ = Π d_t θ_0 + Σ (1 - d_t) Π_{s > t} d_s θ_t
        expected = math.prod(decays) * history[0] + sum(
            (1 - decays[t]) * math.prod(decays[t + 1 :]) * history[t + 1] for t in range(12)
        )
        torch.testing.assert_close(average.means["w"], expected)

    def test_stands_in_for_the_weights_and_leaves_them_as_they_were(self):
        task = ToyTask()
        average = WeightAverage(dict(task.module.named_parameters()), 0.9)
        before, means = task.weights(), {name: t.clone() for name, t in average.means.items()}
        with torch.no_grad():
            task.module.head.weight += 1
        changed = task.weights()
        with average.in_place():
            assert same(task.weights(), before)
        assert same(task.weights(), changed)
        with pytest.raises(InterruptedError), average.in_place():
            raise InterruptedError
        assert same(task.weights(), changed)
        assert same(average.means, means)


class TestAdversary:
    def task(self) -> ToyTask:
        task = ToyTask(dropout=0.0)
        task.module.train()
        task.loss(task.batches(0, self.random())[0], CPU).backward()
        return task

    def random(self):
        return np.random.default_rng(3)

    def test_raises_the_loss_along_the_gradient_and_restores_exactly(self):
        task = self.task()
        rows = task.batches(0, self.random())[0]
        table = task.module.words.weight
        before, gradient = table.detach().clone(), table.grad.clone()
        clean = float(task.loss(rows, CPU).detach())
        with pushed(task.adversarial(), 0.1) as is_pushed:
            assert is_pushed
            moved = (table.detach() - before).clone()
            assert float(task.loss(rows, CPU).detach()) > clean
        assert torch.equal(table, before)
        assert float(moved.norm()) == pytest.approx(0.1, rel=1e-4)
        torch.testing.assert_close(moved, 0.1 * gradient / gradient.norm(), rtol=1e-3, atol=1e-6)
        # To first order the loss rises by ε ‖g‖.
        with pushed(task.adversarial(), 1e-3):
            rise = float(task.loss(rows, CPU).detach()) - clean
        assert rise == pytest.approx(1e-3 * float(gradient.norm()), rel=0.05)

    def test_restores_when_the_block_fails(self):
        task = self.task()
        before = task.weights()
        with pytest.raises(InterruptedError), pushed(task.adversarial(), 5.0):
            raise InterruptedError
        assert same(task.weights(), before)

    def test_gradients_are_taken_inside_the_block(self):
        task = self.task()
        with pushed(task.adversarial(), 0.1):
            assert torch.is_grad_enabled()
            task.loss(task.batches(0, self.random())[0], CPU).backward()

    @pytest.mark.parametrize("gradient", [None, 0.0, math.inf, math.nan])
    def test_without_a_direction_nobody_is_pushed(self, gradient):
        task = self.task()
        table = task.module.words.weight
        table.grad = None if gradient is None else torch.full_like(table, gradient)
        before = table.detach().clone()
        with pushed(task.adversarial(), 0.1) as is_pushed:
            assert not is_pushed
            assert torch.equal(table, before)


class TestPlan:
    @given(
        examples=st.integers(1, 60),
        accumulation=st.integers(1, 4),
        processes=st.integers(1, 4),
        epochs=st.integers(1, 3),
        evaluations=st.integers(1, 5),
    )
    def test_steps_of_all_processes_cover_every_batch_once(
        self, examples, accumulation, processes, epochs, evaluations
    ):
        task = ToyTask(examples=examples, batch_size=4)
        options = TrainingOptions(
            epochs=epochs, accumulation=accumulation, evaluations_per_epoch=evaluations
        )
        plan = plan_of(task, options, 5, processes)
        assert plan.total == sum(plan.steps_of_epoch)
        batches = task.batches(0, np.random.default_rng([5, 0]))
        seen = []
        for step in range(plan.steps_of_epoch[0]):
            of = [shares(batches, step, accumulation, processes, p) for p in range(processes)]
            # All come to the exchange of gradients as often as the others.
            assert len({len(mine) for mine in of}) == 1
            assert 1 <= len(of[0]) <= accumulation
            seen += [row for mine in of for rows in mine for row in rows]
        assert sorted(seen) == list(range(examples))

    def test_places_and_passes(self):
        plan = plan_of(ToyTask(), TrainingOptions(epochs=2, evaluations_per_epoch=2), 0, 1)
        assert plan.steps_of_epoch == [8, 8]
        assert [plan.place(step) for step in (0, 7, 8, 15)] == [(0, 0), (0, 7), (1, 0), (1, 7)]
        assert [plan.passes(step) for step in (0, 4, 8, 16)] == [0.0, 0.5, 1.0, 2.0]
        assert plan.evaluations == {4, 8, 12, 16}

    def test_fewer_steps_end_with_an_evaluation(self):
        plan = plan_of(ToyTask(), TrainingOptions(epochs=2, max_steps=11), 0, 1)
        assert plan.total == 11
        assert plan.evaluations == {8, 11}
        assert max(plan.points) == 11

    def test_every_step_and_process_has_a_seed_of_its_own(self):
        seeds = {step_seed(7, step, process) for step in range(100) for process in range(4)}
        assert len(seeds) == 400
        assert seeds.isdisjoint(step_seed(8, step, 0) for step in range(100))
        assert all(0 <= seed < 2**63 for seed in seeds)

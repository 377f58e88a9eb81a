from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import nn

from models.member import softmax
from models.training.classification import (
    classification_loss,
    classification_metrics,
    dropout_distance,
    pointwise_loss,
    targets_of,
    weights_of,
)
from models.training.options import ClassificationOptions

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 3], np.int8)
QUERIES = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PLAIN = ClassificationOptions()


def logits(seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)) * 3
    return drawn.requires_grad_()


def teach(options: ClassificationOptions, found: torch.Tensor) -> float:
    targets = torch.from_numpy(targets_of(LABELS, options))
    weights = torch.from_numpy(weights_of(LABELS, QUERIES, options))
    return float(classification_loss(lambda: found.detach(), targets, weights, options))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_smoothing_are_torchs_own(smoothing):
    options = ClassificationOptions(label_smoothing=smoothing)
    labels = torch.from_numpy(LABELS).long()
    expected = F.cross_entropy(logits(), labels, label_smoothing=smoothing)
    assert teach(options, logits()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_smoothing_moves_the_best_answer_off_the_label():
    options = ClassificationOptions(label_smoothing=0.2)
    for loss in ("ce", "bce"):
        found = nn.Parameter(torch.zeros(1, 4))
        optimiser = torch.optim.LBFGS([found], max_iter=200, tolerance_grad=1e-9)

        def step(loss=loss, found=found, optimiser=optimiser):
            optimiser.zero_grad()
            value = pointwise_loss(found, torch.eye(4)[:1], replace(options, loss=loss)).mean()
            value.backward()
            return value

        optimiser.step(step)
        answers = found.softmax(1) if loss == "ce" else found.sigmoid()
        torch.testing.assert_close(
            answers.detach(), torch.tensor([[0.85, 0.05, 0.05, 0.05]]), atol=1e-4, rtol=0
        )


def test_bce_is_torchs_own_on_one_hot_labels():
    options = ClassificationOptions(loss="bce")
    one_hot = torch.eye(4)[torch.from_numpy(LABELS).long()]
    expected = F.binary_cross_entropy_with_logits(logits(), one_hot)
    assert teach(options, logits()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_soft_labels_are_a_mean_of_label_and_answer():
    soft = softmax(logits(1).detach().numpy())
    options = ClassificationOptions(distil_weight=0.25)
    found = targets_of(LABELS, options, soft)
    np.testing.assert_allclose(found, 0.75 * np.eye(4)[LABELS] + 0.25 * soft, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(
        targets_of(LABELS, ClassificationOptions(distil_weight=0.0), soft), np.eye(4)[LABELS]
    )


@pytest.mark.parametrize(
    ("class_weight", "expected"),
    [
        ("none", [4, 2, 1, 1]),
        ("sqrt", [2, 2**0.5, 1, 1]),
        ("balanced", [1, 1, 1, 1]),
        (0.25, [4**0.75, 2**0.75, 1, 1]),
    ],
)
def test_class_weights_change_the_priors_that_are_learnt(class_weight, expected):
    # A bias alone learns how often each label comes, by weight.
    options = ClassificationOptions(class_weight=class_weight)
    bias = nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.LBFGS([bias], max_iter=200, tolerance_grad=1e-9)
    targets = torch.from_numpy(targets_of(LABELS, options))
    weights = torch.from_numpy(weights_of(LABELS, QUERIES, options))

    def step():
        optimiser.zero_grad()
        loss = classification_loss(lambda: bias.expand(8, 4), targets, weights, options)
        loss.backward()
        return loss

    optimiser.step(step)
    np.testing.assert_allclose(
        bias.softmax(0).detach().numpy(), np.array(expected) / np.sum(expected), atol=1e-4
    )


@given(
    class_weight=st.sampled_from(["none", "sqrt", "balanced"]) | st.floats(0, 1),
    list_weight=st.floats(0, 1),
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
def test_weights_are_one_in_the_mean(class_weight, list_weight, labels):
    options = ClassificationOptions(class_weight=class_weight, list_weight=list_weight)
    codes = np.array(labels, np.int8)
    weights = weights_of(codes, np.arange(len(labels)) % 3, options)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert (weights > 0).all()


def test_with_full_list_weight_every_query_weighs_the_same():
    weights = weights_of(LABELS, QUERIES, ClassificationOptions(list_weight=1.0))
    by_query = np.bincount(QUERIES, weights)
    np.testing.assert_allclose(by_query, by_query[0], rtol=1e-6)


def test_weights_of_a_loss_are_those_of_torch_up_to_the_mean():
    options = ClassificationOptions(class_weight="balanced")
    weight = torch.tensor([1 / 4, 1 / 2, 1.0, 1.0])  # rarity up to a factor
    labels = torch.from_numpy(LABELS).long()
    expected = F.cross_entropy(logits(), labels, weight=weight)  # a weighted mean
    assert teach(options, logits()) == pytest.approx(float(expected.detach()), rel=1e-5)


class TestRDrop:
    @pytest.mark.parametrize("loss", ["ce", "bce"])
    def test_changes_nothing_without_dropout(self, loss):
        network, given_ = nn.Linear(5, 4), torch.randn(8, 5)
        for r_drop in (0.0, 3.0):
            options = ClassificationOptions(loss=loss, r_drop=r_drop)
            targets = torch.from_numpy(targets_of(LABELS, options))
            found = classification_loss(lambda: network(given_), targets, torch.ones(8), options)
            if not r_drop:
                without = found
        assert float(found.detach()) == pytest.approx(float(without.detach()), abs=1e-7)

    def test_is_the_symmetric_divergence_of_two_passes(self):
        passes = [logits(1), logits(2)]
        options = ClassificationOptions(r_drop=0.7)
        targets = torch.from_numpy(targets_of(LABELS, options))
        taken = iter(passes)
        found = classification_loss(lambda: next(taken), targets, torch.ones(8), options)
        log_p, log_q = (x.log_softmax(1) for x in passes)
        both = F.kl_div(log_p, log_q, log_target=True, reduction="batchmean") + F.kl_div(
            log_q, log_p, log_target=True, reduction="batchmean"
        )
        labels = torch.from_numpy(LABELS).long()
        mean = sum(F.cross_entropy(x, labels) for x in passes) / 2
        assert float(found.detach()) == pytest.approx(float((mean + 0.7 * both / 2).detach()))

    def test_with_bce_is_the_mean_divergence_of_four_questions(self):
        options = ClassificationOptions(loss="bce")
        one, other = logits(1).detach(), logits(2).detach()
        p, q = (torch.stack([x.sigmoid(), 1 - x.sigmoid()], -1).double() for x in (one, other))
        both = (p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)
        torch.testing.assert_close(
            dropout_distance(one, other, options).double(),
            both.mean(1) / 2,
            rtol=1e-4,
            atol=1e-6,
        )

    def test_draws_the_passes_together(self):
        # Trained on the distance alone, a network's two passes come to agree.
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 4))
        given_ = torch.randn(64, 6)
        optimiser = torch.optim.Adam(network.parameters(), 1e-2)

        def distance() -> torch.Tensor:
            return dropout_distance(network(given_), network(given_), PLAIN).mean()

        before = float(distance().detach())
        for _ in range(100):
            optimiser.zero_grad()
            distance().backward()
            optimiser.step()
        assert float(distance().detach()) < before / 5


@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=40), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_metrics_agree_with_scikit_learn(labels, seed):
    drawn = np.random.default_rng(seed).normal(0, 2, (len(labels), 4)).astype(np.float32)
    codes, predicted = np.array(labels, np.int8), drawn.argmax(axis=1)
    found = classification_metrics(drawn, codes, PLAIN)
    seen = sorted(set(labels) | set(predicted.tolist()))
    assert found["accuracy"] == pytest.approx(accuracy_score(codes, predicted))
    assert found["macro_f1"] == pytest.approx(
        f1_score(codes, predicted, average="macro", labels=seen)
    )
    assert found["weighted_f1"] == pytest.approx(
        f1_score(codes, predicted, average="weighted", labels=seen)
    )
    assert found["log_loss"] == pytest.approx(
        log_loss(codes, special.softmax(drawn.astype(np.float64), axis=1), labels=range(4))
    )
    assert found["score"] == found["macro_f1"]


def test_the_score_is_the_metric_chosen_and_log_loss_counts_backwards():
    found = logits().detach().numpy()
    by_loss = classification_metrics(found, LABELS, ClassificationOptions(choose_by="log_loss"))
    assert by_loss["score"] == -by_loss["log_loss"]
    by_accuracy = classification_metrics(found, LABELS, ClassificationOptions(choose_by="accuracy"))
    assert by_accuracy["score"] == by_accuracy["accuracy"]

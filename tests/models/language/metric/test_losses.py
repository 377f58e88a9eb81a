"""Metric losses: hand-computed values, pytorch-metric-learning as oracle, and their laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning import losses as theirs
from pytorch_metric_learning.distances import CosineSimilarity

from models.language.metric.losses import arcface, info_nce, metric_term, smooth_ap
from models.language.metric.options import MetricOptions, TcmOptions
from models.language.metric.tcm import tcm_loss

LOSSES = ("contrastive", "multi_similarity", "smooth_ap", "arcface", "info_nce")
seeds = st.integers(0, 2**31 - 1)
each_loss = pytest.mark.parametrize("loss", LOSSES)


def options(loss: str, **changes) -> MetricOptions:
    return MetricOptions(loss=loss, weight=1.0, **changes)


def drawn(seed: int, queries: int = 6, products: int = 9, width: int = 5):
    """Vectors of two towers and gains of all three kinds, of which some are fractions."""
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(queries, width, generator=rng)
    p = torch.randn(products, width, generator=rng)
    gains = torch.randint(-1, 2, (queries, products), generator=rng).float()
    return q, p, gains


def classes(seed: int, groups: int = 4, each: int = 3, width: int = 5):
    """A symmetric batch, and the gains that its labels mean between different items."""
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(groups * each, width, generator=rng), dim=1)
    labels = torch.arange(groups).repeat_interleave(each)
    gains = (labels[:, None] == labels).float() * 2 - 1
    return vectors, labels, gains


class TestTcm:
    def test_the_reference_case(self):
        similarities = torch.tensor([0.95, 0.8, 0.6, 0.2, 0.55, 0.7])
        gains = torch.tensor([1.0, 1, 1, -1, -1, -1])
        assert tcm_loss(similarities, gains, TcmOptions()).item() == pytest.approx(0.325)

    @given(seed=seeds, groups=st.integers(2, 6), each=st.integers(1, 5))
    def test_it_is_theirs_on_symmetric_batches(self, seed, groups, each):
        vectors, labels, gains = classes(seed, groups, each)
        oracle = theirs.ThresholdConsistentMarginLoss(lambda_plus=0.7, lambda_minus=1.3)
        mine = TcmOptions(positive_weight=0.7, negative_weight=1.3)
        found = tcm_loss(vectors @ vectors.T, gains.fill_diagonal_(0), mine)
        assert found.item() == pytest.approx(float(oracle(vectors, labels)), abs=1e-5)

    def test_nothing_to_correct_is_zero_with_a_gradient(self):
        for gains in ([0.0, 0.0], [1.0, -1.0]):
            similarities = torch.tensor([0.95, 0.1], requires_grad=True)
            loss = tcm_loss(similarities, torch.tensor(gains), TcmOptions())
            loss.backward()
            assert loss.item() == 0
            assert similarities.grad.tolist() == [0, 0]

    @given(seed=seeds)
    def test_only_violators_get_a_gradient_and_all_the_same(self, seed):
        rng = np.random.default_rng(seed)
        similarities = torch.tensor(rng.uniform(-1, 1, 40), requires_grad=True)
        gains = torch.tensor(rng.integers(-1, 2, 40).astype(np.float32))
        tcm_loss(similarities, gains, TcmOptions()).backward()
        s = similarities.detach().numpy()
        up, down = (gains.numpy() > 0) & (s <= 0.9), (gains.numpy() < 0) & (s >= 0.5)
        expected = np.zeros(40)
        expected[up] = -1 / max(up.sum(), 1)
        expected[down] = 1 / max(down.sum(), 1)
        np.testing.assert_allclose(similarities.grad.numpy(), expected, atol=1e-6)

    def test_pairs_weigh_their_gain(self):
        loss = tcm_loss(torch.tensor([0.8, 0.5]), torch.tensor([1.0, 0.25]), TcmOptions())
        assert loss.item() == pytest.approx((0.1 + 0.25 * 0.4) / 1.25)

    def test_few_violators_count_for_less(self):
        similarities, gains = torch.tensor([0.8, 0.6, 0.95]), torch.ones(3)
        full = tcm_loss(similarities, gains, TcmOptions(fewest_violators=2))
        half = tcm_loss(similarities, gains, TcmOptions(fewest_violators=4))
        assert full.item() == pytest.approx(0.2)
        assert half.item() == pytest.approx(0.1)

    def test_similarities_are_taken_in_float32_under_mixed_precision(self):
        q, p, gains = drawn(1)
        term = metric_term(MetricOptions(tcm=TcmOptions(weight=1.0)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = term(q, p, gains)
        assert mixed.dtype == torch.float32
        assert mixed.item() == term(q, p, gains).item()


class TestTheirs:
    """Where pytorch-metric-learning can say the same, it says the same."""

    @given(seed=seeds)
    def test_contrastive_with_whole_gains(self, seed):
        q, p, gains = drawn(seed)
        oracle = theirs.ContrastiveLoss(0.9, 0.2, distance=CosineSimilarity())
        pairs = (*torch.where(gains > 0), *torch.where(gains < 0))
        mine = options("contrastive", positive_margin=0.9, negative_margin=0.2)
        expected = oracle(q, indices_tuple=pairs, ref_emb=p)
        assert metric_term(mine)(q, p, gains).item() == pytest.approx(expected.item(), abs=1e-5)

    @given(seed=seeds)
    def test_info_nce_is_nt_xent_both_ways(self, seed):
        q, p, gains = drawn(seed)
        # Theirs takes the mean over positives of rows with a negative, and 0 without any.
        gains[:, 0], gains[0, :] = -1, -1
        if not (gains > 0).any():
            return
        oracle = theirs.NTXentLoss(temperature=0.1)
        both = [
            oracle(a, indices_tuple=(*torch.where(g > 0), *torch.where(g < 0)), ref_emb=b).item()
            for a, b, g in ((q, p, gains), (p, q, gains.T))
        ]
        unit = [torch.nn.functional.normalize(x, dim=1) for x in (q, p)]
        found = info_nce(unit[0] @ unit[1].T, gains, 0.1)
        assert found.item() == pytest.approx(sum(both) / 2, rel=1e-4)

    @given(seed=seeds)
    def test_smooth_ap_on_a_symmetric_batch(self, seed):
        # Theirs takes the number of classes for that of items per class: let them be equal.
        vectors, labels, gains = classes(seed, groups=4, each=4)
        oracle = theirs.SmoothAPLoss(temperature=0.01)
        found = smooth_ap(vectors @ vectors.T, gains, 0.01)
        assert found.item() == pytest.approx(oracle(vectors, labels).item(), abs=1e-4)

    @given(seed=seeds)
    def test_arcface_with_one_query_per_product(self, seed):
        q, p, _ = drawn(seed)
        unit = torch.nn.functional.normalize(q, dim=1)
        labels = torch.arange(len(p)) % len(q)
        oracle = theirs.ArcFaceLoss(len(q), q.shape[1], margin=20.0, scale=8)
        oracle.W.data = unit.T.clone()
        gains = 2 * torch.nn.functional.one_hot(labels, len(q)).T.float() - 1
        similarities = unit @ torch.nn.functional.normalize(p, dim=1).T
        found = arcface(similarities, gains, 1 / 8, 20.0)
        assert found.item() == pytest.approx(oracle(p, labels).item(), rel=1e-4)


@each_loss
class TestEveryLoss:
    @given(seed=seeds)
    def test_no_order_of_queries_or_products_matters(self, loss, seed):
        q, p, gains = drawn(seed)
        term = metric_term(options(loss))
        rows, columns = torch.randperm(len(q)), torch.randperm(len(p))
        shuffled = term(q[rows], p[columns], gains[rows][:, columns])
        assert shuffled.item() == pytest.approx(term(q, p, gains).item(), abs=1e-4, rel=1e-4)

    @given(seed=seeds)
    def test_a_product_with_no_gain_changes_nothing(self, loss, seed):
        q, p, gains = drawn(seed)
        term = metric_term(options(loss))
        gains[:, -1] = 0
        without = term(q, p[:-1], gains[:, :-1])
        assert term(q, p, gains).item() == pytest.approx(without.item(), abs=1e-5, rel=1e-5)

    @given(seed=seeds)
    def test_lengths_of_vectors_do_not_matter(self, loss, seed):
        q, p, gains = drawn(seed)
        term = metric_term(options(loss))
        assert term(3 * q, p / 7, gains).item() == pytest.approx(
            term(q, p, gains).item(), abs=1e-4, rel=1e-4
        )

    def test_both_towers_learn_and_the_loss_falls(self, loss):
        q, p, gains = drawn(4)
        q, p = q.requires_grad_(), p.requires_grad_()
        term = metric_term(options(loss))
        first = term(q, p, gains)
        first.backward()
        assert q.grad.abs().sum() > 0
        assert p.grad.abs().sum() > 0
        adam = torch.optim.Adam([q, p], 0.05)
        for _ in range(60):
            adam.zero_grad()
            term(q, p, gains).backward()
            adam.step()
        assert term(q, p, gains).item() < 0.7 * first.item()

    @pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
    def test_one_kind_of_pair_alone_is_a_finite_loss(self, loss, value):
        q, p, gains = drawn(5)
        q, p = q.requires_grad_(), p.requires_grad_()
        found = metric_term(options(loss))(q, p, torch.full_like(gains, value))
        found.backward()
        assert math.isfinite(found.item())
        assert torch.isfinite(q.grad).all()
        assert torch.isfinite(p.grad).all()

    def test_identical_vectors_have_a_finite_gradient(self, loss):
        one = torch.nn.functional.normalize(torch.ones(4, 5), dim=1)
        q, p = one.clone().requires_grad_(), one.clone().requires_grad_()
        metric_term(options(loss))(q, p, 2 * torch.eye(4) - 1).backward()
        assert torch.isfinite(q.grad).all()
        assert torch.isfinite(p.grad).all()

    def test_the_weight_is_a_factor(self, loss):
        q, p, gains = drawn(6)
        whole = metric_term(MetricOptions(loss=loss, weight=1.0))(q, p, gains)
        third = metric_term(MetricOptions(loss=loss, weight=0.3))(q, p, gains)
        assert third.item() == pytest.approx(0.3 * whole.item(), rel=1e-5)


@pytest.mark.parametrize("loss", ["contrastive", "smooth_ap", "arcface", "info_nce"])
class TestGains:
    def test_a_tiny_gain_is_almost_none(self, loss):
        q, p, gains = drawn(7)
        term, lighter = metric_term(options(loss, temperature=0.5)), gains.clone()
        unit = [torch.nn.functional.normalize(x, dim=1) for x in (q, p)]
        hardest = torch.where(gains < 0, unit[0] @ unit[1].T, -1).argmax()
        at = divmod(int(hardest), gains.shape[1])
        lighter[at] = -1e-9
        without = gains.clone()
        without[at] = 0
        assert term(q, p, lighter).item() == pytest.approx(term(q, p, without).item(), abs=1e-4)
        assert term(q, p, lighter).item() != pytest.approx(term(q, p, gains).item(), abs=1e-4)

    def test_a_light_positive_counts_for_less(self, loss):
        q, p = torch.eye(2), torch.tensor([[0.9, 0.1], [0.3, 0.8]])
        gains = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # the second product is hard for query 0
        if loss == "smooth_ap":
            gains = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
            gains[0, 1], gains[1, 1] = 1.0, -1.0
            p = torch.tensor([[0.9, 0.1], [0.3, 0.8], [0.5, 0.5]])
            gains = torch.cat([gains, torch.tensor([[-1.0], [1.0]])], dim=1)
        term, lighter = metric_term(options(loss)), gains.clone()
        lighter[0, 1] = 0.1
        assert term(q, p, lighter).item() < term(q, p, gains).item()

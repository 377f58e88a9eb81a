"""Metrics against scikit-learn, ir_measures and brute force."""

from itertools import permutations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as sk

from models.errors import DataError
from models.judge.confusion import Confusion
from models.judge.family import Additive, Measure
from models.judge.judged import Judged, System
from models.judge.probability import BINS, FLOOR, Probability, bin_of, clipped_pairs, reliability
from models.judge.ranking import Ranking, list_ndcg, mixed_lists
from models.labels import GAIN_TABLES, LABELS, gains
from tests.models.judging import Case, cases, make_case

MEASURES = (Confusion(), Probability(), Ranking())


def values(judged: Judged, system: System, *measures: Measure) -> dict[str, float]:
    family = Additive(judged, np.arange(judged.query_count), measures or MEASURES)
    return dict(zip(family.metrics, family.point(family.prepare(system)).tolist(), strict=True))


class TestAgainstScikitLearn:
    @given(case=cases)
    @settings(max_examples=30)
    def test_labels(self, case: Case):
        truth, said = case.judged.labels, case.system.predicted
        found = values(case.judged, case.system)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, said))
        assert found["accuracy"] == pytest.approx(sk.f1_score(truth, said, average="micro"))
        for average in ("macro", "weighted"):
            expected = sk.f1_score(truth, said, average=average, zero_division=0)
            assert found[f"{average}_f1"] == pytest.approx(expected)
        two = sk.f1_score(
            truth == 1, said == 1, average=None, labels=[False, True], zero_division=0
        )
        if (truth == 1).any() or (said == 1).any():
            assert found["substitute_macro_f1"] == pytest.approx(two.mean())
            assert found["substitute_f1"] == pytest.approx(two[1])
        assert found["substitute_micro_f1"] == pytest.approx(np.mean((truth == 1) == (said == 1)))

    @given(case=cases)
    @settings(max_examples=30)
    def test_each_label(self, case: Case):
        truth, said = case.judged.labels, case.system.predicted
        expected = sk.precision_recall_fscore_support(
            truth, said, labels=range(4), zero_division=np.nan
        )
        found = values(case.judged, case.system)
        for what, numbers in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            mine = [found[f"{what}_{label}"] for label in LABELS]
            np.testing.assert_allclose(mine, numbers)

    @given(case=cases)
    @settings(max_examples=30)
    def test_losses(self, case: Case):
        truth, said = case.judged.labels, case.system.probabilities
        found = values(case.judged, case.system)
        assert found["log_loss"] == pytest.approx(sk.log_loss(truth, said, labels=range(4)))
        brier = sk.brier_score_loss(truth, said, labels=range(4), scale_by_half=False)
        assert found["brier"] == pytest.approx(brier)

    def test_a_judged_label_given_no_probability_costs_the_floor_and_is_counted(self):
        said = np.array([[0, 1, 0, 0], [1, 0, 0, 0]], np.float32)
        judged, system = Judged.of(np.zeros(2, np.int8), np.arange(2)), System.of("s", said)
        expected = sk.log_loss([0, 0], said, labels=range(4))  # clips at the same epsilon
        assert values(judged, system)["log_loss"] == pytest.approx(expected, rel=1e-6)
        assert values(judged, system)["log_loss"] == pytest.approx(-np.log(FLOOR) / 2)
        assert clipped_pairs(judged, system) == 1


class TestCalibration:
    @given(case=cases)
    @settings(max_examples=30)
    def test_errors_are_those_of_a_plain_loop(self, case: Case):
        def plain(confidence, correct):
            error = 0.0
            for at in range(BINS):
                inside = [
                    row
                    for row, p in enumerate(confidence)
                    if at / BINS < p <= (at + 1) / BINS or (at == 0 and p == 0)
                ]
                if inside:
                    hits = np.mean([correct[row] for row in inside])
                    mean = np.mean([confidence[row] for row in inside])
                    error += abs(hits - mean) * len(inside) / len(confidence)
            return error

        p, truth = case.system.probabilities, case.judged.labels
        found = values(case.judged, case.system)
        assert found["ece"] == pytest.approx(plain(p.max(axis=1), p.argmax(axis=1) == truth))
        classwise = [plain(p[:, code], truth == code) for code in range(4)]
        np.testing.assert_allclose([found[f"ece_{label}"] for label in LABELS], classwise)
        assert found["classwise_ece"] == pytest.approx(np.mean(classwise))

    def test_probabilities_that_come_true_as_often_as_they_say_have_no_error(self):
        truth = np.repeat(np.arange(4), [50, 30, 15, 5]).astype(np.int8)
        said = np.broadcast_to([0.5, 0.3, 0.15, 0.05], (100, 4))
        found = values(Judged.of(truth, np.arange(100)), System.of("s", said))
        assert found["ece"] == pytest.approx(0, abs=1e-12)
        assert found["classwise_ece"] == pytest.approx(0, abs=1e-12)

    def test_bins_are_closed_on_the_right_and_the_first_takes_zero(self):
        edges = np.array([0.0, 1e-9, 0.2, np.nextafter(0.2, 1), 1.0])
        assert bin_of(edges).tolist() == [0, 0, 2, 3, BINS - 1]

    def test_the_diagram_holds_every_pair_and_gives_the_same_error(self):
        case = make_case(3)
        for name, found in reliability(case.judged, case.system).items():
            assert sum(found.pairs) == len(case.judged)
            error = sum(
                abs(said - came) * pairs
                for pairs, said, came in zip(*found, strict=True)
                if said is not None and came is not None
            )
            metric = "ece" if name == "predicted" else f"ece_{name}"
            assert error / len(case.judged) == pytest.approx(
                values(case.judged, case.system)[metric]
            )


class TestRanking:
    @pytest.mark.parametrize("table", GAIN_TABLES)
    def test_ndcg_is_that_of_ir_measures_where_scores_differ(self, table):
        case = make_case(11, pairs=900, queries=80)
        score = np.random.default_rng(5).permutation(len(case.judged)) / len(case.judged)
        # Only ratios of gains matter, and qrels are whole numbers.
        whole_gains = (gains(table) * 100).astype(int)
        qrels = [
            ir_measures.Qrel(str(which), str(row), int(whole_gains[label]))
            for row, (which, label) in enumerate(
                zip(case.judged.lists, case.judged.labels, strict=True)
            )
        ]
        run = [
            ir_measures.ScoredDoc(str(which), str(row), float(score[row]))
            for row, which in enumerate(case.judged.lists)
        ]
        expected = {
            int(metric.query_id): metric.value
            for metric in ir_measures.iter_calc([ir_measures.nDCG], qrels, run)
        }
        found = list_ndcg(case.judged, score, table)
        assert (found == 0).any()  # lists without gain, which trec_eval counts as 0
        np.testing.assert_allclose(found, [expected[which] for which in range(len(found))])

    def test_ties_are_worth_the_mean_over_their_orders(self):
        labels = np.array([0, 3, 1, 2, 0], np.int8)
        score = np.array([0.5, 0.5, 0.9, 0.5, 0.1])
        value = gains("esci-paper")[labels]

        def dcg(order):
            return sum(value[row] / np.log2(rank + 2) for rank, row in enumerate(order))

        orders = [(2, *tied, 4) for tied in permutations([0, 1, 3])]
        best = dcg(np.argsort(-value))
        expected = np.mean([dcg(order) for order in orders]) / best
        judged = Judged.of(labels, np.zeros(5))
        assert list_ndcg(judged, score, "esci-paper")[0] == pytest.approx(expected)

    def test_equal_rows_of_probabilities_tie_wherever_they_stand(self):
        p = np.broadcast_to([0.1, 0.2, 0.3, 0.4], (1037, 4))
        labels = np.random.default_rng(0).integers(0, 4, 1037).astype(np.int8)
        found = values(Judged.of(labels, np.zeros(1037)), System.of("s", p))["ndcg"]
        value = gains("esci-paper")
        discounts = 1 / np.log2(np.arange(1037) + 2)
        best = np.sort(value[labels])[::-1] @ discounts
        assert found == pytest.approx(value[labels].mean() * discounts.sum() / best, rel=1e-12)

    def test_mixed_lists_leave_out_what_no_ranking_can_change(self):
        labels = np.array([0, 0, 3, 3, 0, 3], np.int8)
        judged = Judged.of(labels, np.array([0, 0, 1, 1, 2, 2]))
        assert mixed_lists(judged, "esci-paper").tolist() == [False, False, True]
        worst_first = np.where(labels == 0, 0.1, 0.7)
        p = np.stack([worst_first, *[(1 - worst_first) / 3] * 3], axis=1)
        found = values(judged, System.of("s", p))
        assert found["ndcg_mixed"] == pytest.approx(1 / np.log2(3))
        assert found["ndcg"] == pytest.approx((1 + 0 + 1 / np.log2(3)) / 3)

    def test_the_best_order_has_ndcg_one(self):
        case = make_case(2)
        p = np.full((len(case.judged), 4), 0.1)
        p[np.arange(len(p)), case.judged.labels] = 0.7
        assert values(case.judged, System.of("s", p))["ndcg_mixed"] == pytest.approx(1)


class TestLaws:
    @given(case=cases)
    @settings(max_examples=20)
    def test_the_order_of_pairs_decides_nothing(self, case: Case):
        order = np.random.default_rng(1).permutation(len(case.judged))
        shuffled = Judged.of(
            case.judged.labels[order], case.judged.queries[order], case.judged.lists[order]
        )
        found = values(shuffled, case.system.restricted(order))
        assert found == pytest.approx(values(case.judged, case.system), nan_ok=True, abs=1e-12)

    @given(case=cases)
    @settings(max_examples=20)
    def test_sums_add_up_over_any_parts_of_the_queries(self, case: Case):
        whole = Additive(case.judged, np.arange(case.judged.query_count), MEASURES)
        sums = whole.prepare(case.system)
        side = np.random.default_rng(2).random(case.judged.query_count) < 0.5
        total = np.zeros(sums.shape[1])
        for part in (side, ~side):
            rows = np.flatnonzero(part[case.judged.queries])
            if len(rows):
                inside, units = case.judged.restricted(rows)
                found = Additive(inside, units, MEASURES).prepare(case.system.restricted(rows))
                np.testing.assert_allclose(found, sums[units], atol=1e-12)
                total += found.sum(axis=0)
        np.testing.assert_allclose(total, sums.sum(axis=0), atol=1e-9)


def test_a_list_of_two_queries_is_refused():
    with pytest.raises(DataError, match="two queries"):
        Judged.of(np.zeros(2, np.int8), np.array([0, 1]), np.array([0, 0]))

"""Intervals, comparisons and the verdict as a whole."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from models.errors import ConfigError, DataError
from models.judge.compare import randomisation_p
from models.judge.confusion import Confusion
from models.judge.consistency import Classes
from models.judge.family import Additive
from models.judge.judge import Slice, judge, majority_of, majority_system, slices_of
from models.judge.judged import Judged, System
from models.judge.probability import Probability
from models.judge.ranking import Ranking
from models.judge.resample import Draws, Estimate, estimates, resample_queries, swap_queries
from models.judge.verdict import Terms
from models.labels import LABELS
from tests.models.judging import copies, make_case

MEASURES = (Confusion(), Probability(), Ranking())
QUICK = Terms(resamples=60, permutations=60)


def additive(judged: Judged) -> Additive:
    return Additive(judged, np.arange(judged.query_count), MEASURES)


class TestDraws:
    @given(queries=st.integers(1, 300), seed=st.integers(0, 99))
    def test_every_resample_holds_as_many_queries_as_there_are(self, queries, seed):
        draws = resample_queries(queries, 70, seed)
        assert draws.counts.shape == (queries, 70)
        assert (draws.counts.sum(axis=0) == queries).all()

    def test_more_resamples_begin_with_fewer(self):
        few, many = resample_queries(50, 65, 7), resample_queries(50, 200, 7)
        np.testing.assert_array_equal(few.counts, many.counts[:, :65])
        assert (resample_queries(50, 65, 8).counts != few.counts).any()

    def test_swaps_mark_half_of_the_queries_and_are_no_resamples(self):
        marked = swap_queries(1000, 200, 7).counts
        assert set(np.unique(marked)) == {0, 1}
        assert marked.mean() == pytest.approx(0.5, abs=0.01)

    def test_totals_are_a_plain_loop_whatever_the_blocks(self):
        rng = np.random.default_rng(0)
        draws = Draws(rng.integers(0, 5, (6000, 7)).astype(np.uint8))
        units = rng.integers(0, 6000, 9000)
        sums = rng.normal(size=(9000, 3))
        sums[:, 1] = 0
        expected = [
            sum(int(draws.counts[unit, draw]) * row for unit, row in zip(units, sums, strict=True))
            for draw in range(7)
        ]
        np.testing.assert_allclose(draws.totals(sums, units), expected, rtol=1e-9)

    @pytest.mark.parametrize("draw", [resample_queries, swap_queries])
    def test_none_at_all_is_refused(self, draw):
        with pytest.raises(ConfigError, match="at least 1"):
            draw(5, 0, 0)


class TestResamples:
    def test_a_resample_is_its_pairs_written_out(self):
        case = make_case(8, pairs=500, queries=30, coarse=True)
        family = additive(case.judged)
        draws = resample_queries(case.judged.query_count, 8, seed=2)
        found = family.resampled(family.prepare(case.system), draws)
        for draw, mine in enumerate(found):
            rows, written_out = copies(case.judged, draws.counts[:, draw])
            plain = additive(written_out)
            expected = plain.point(plain.prepare(case.system.restricted(rows)))
            np.testing.assert_allclose(mine, expected, atol=1e-12)
            named = dict(zip(family.metrics, mine, strict=True))
            truth, said = case.judged.labels[rows], case.system.predicted[rows]
            assert named["macro_f1"] == pytest.approx(sk.f1_score(truth, said, average="macro"))

    def test_a_swap_is_two_systems_written_out(self):
        case = make_case(9)
        family = additive(case.judged)
        prepared = family.prepare(case.system), family.prepare(case.other)
        draws = swap_queries(case.judged.query_count, 5, seed=0)
        found = family.swapped(*prepared, draws)
        for draw in range(5):
            swap = draws.counts[case.judged.queries, draw, None] == 1
            for mine, kept, taken in (
                (found[0], case.system, case.other),
                (found[1], case.other, case.system),
            ):
                mixed = System.of("mixed", np.where(swap, taken.probabilities, kept.probabilities))
                expected = family.point(family.prepare(mixed))
                np.testing.assert_allclose(mine[draw], expected, atol=1e-12)

    def test_intervals_cover_the_truth_about_as_often_as_they_say(self):
        # Pairs of one query share their luck: intervals from resampled pairs would be far too
        # narrow (they cover about 60 % here).
        rng = np.random.default_rng(0)
        queries, per_query, truth, covered = 150, 8, 0.5, 0
        for trial in range(200):
            luck = rng.beta(2, 2, queries)
            right = rng.random((queries, per_query)) < luck[:, None]
            labels = np.where(right.ravel(), 0, 1).astype(np.int8)
            judged = Judged.of(labels, np.repeat(np.arange(queries), per_query))
            family = Additive(judged, np.arange(queries), (Confusion(),))
            always = System.of("E", np.broadcast_to([0.7, 0.1, 0.1, 0.1], (len(labels), 4)))
            prepared = family.prepare(always)
            draws = resample_queries(queries, 200, seed=trial)
            found = estimates(family.point(prepared), family.resampled(prepared, draws))[0]
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= truth <= found.high
        assert 0.89 <= covered / 200 <= 0.98

    def test_a_metric_is_estimated_from_the_resamples_that_have_it(self):
        values = np.array([0.5, np.nan, 0.25, 0.5])
        replicates = np.tile([0.0, 1.0, np.nan, 0.5], (10, 1))
        replicates[:, 0] = [0.4, 0.6] * 4 + [np.nan] * 2
        replicates[:3, 3] = np.nan
        first, second, third, fourth = estimates(values, replicates)
        assert (first.low, first.high) == pytest.approx((0.4, 0.6))
        assert second.value is second.low is None
        assert third == (0.25, None, None, None)
        assert fourth == (0.5, None, None, None)  # too often undefined to tell

    def test_what_one_query_decides_has_no_interval_and_what_two_decide_has(self):
        # Only some queries have a list with two gains; ndcg_mixed rests on those alone.
        for mixed in (1, 2):
            labels = np.zeros(40, np.int8)
            labels[: 2 * mixed : 2] = 3
            p = np.random.default_rng(0).dirichlet(np.ones(4), 40)
            judged = Judged.of(labels, np.repeat(np.arange(20), 2))
            found = judge(judged, System.of("s", p)).whole.metrics
            assert found["ndcg_mixed"].value is not None
            assert (found["ndcg_mixed"].low is None) == (mixed == 1)
            assert found["ndcg"].low is not None

    def test_a_slice_of_one_query_claims_no_certainty(self):
        case = make_case(3)
        one = np.flatnonzero(case.judged.queries == case.judged.queries[0])
        slices = [Slice("s", "one", one), Slice("s", "most", np.arange(len(case.judged)))]
        verdict = judge(case.judged, case.system, against=case.other, slices=slices, terms=QUICK)
        for part in verdict.slices:
            alone = part.value == "one"
            assert (part.queries == 1) == alone == part.has_few_queries
            assert part.comparison is not None
            accuracy, difference = part.metrics["accuracy"], part.comparison["accuracy"]
            assert accuracy.value is not None
            assert (accuracy.low is None) == (accuracy.high is None) == alone
            assert (part.majority["accuracy"].low is None) == alone
            assert (difference.difference.low is None) == (difference.p is None) == alone

    def test_classes_within_one_query_have_opis_without_an_interval(self):
        rng = np.random.default_rng(0)
        labels = rng.choice([0, 3], 80).astype(np.int8)
        one, two = (System.of(name, rng.dirichlet(np.ones(4), 80)) for name in ("a", "b"))
        classes = Classes("half", np.arange(80) % 2, ["a", "b"])
        judged = Judged.of(labels, np.zeros(80))
        found = judge(judged, one, against=two, opis_by=[classes], terms=QUICK).opis[0]
        assert found.metrics["opis"].value is not None
        assert found.metrics["opis"].low is None
        assert found.comparison is not None
        assert found.comparison["opis"].p is None

    def test_another_seed_draws_another_interval_and_the_same_seed_the_same(self):
        case = make_case(3)
        one, again, other = (
            judge(case.judged, case.system, terms=Terms(resamples=60, seed=seed)).whole.metrics
            for seed in (0, 0, 1)
        )
        assert one["log_loss"] == again["log_loss"]
        assert one["log_loss"].value == other["log_loss"].value
        assert one["log_loss"].low != other["log_loss"].low

    def test_a_calibration_error_is_known_to_grow_under_resampling_and_accuracy_is_not(self):
        # Probabilities that come true as often as they say: every error is sampling noise.
        rng = np.random.default_rng(0)
        p = rng.dirichlet(np.ones(4), 1500)
        labels = (p.cumsum(axis=1) < rng.random((1500, 1))).sum(axis=1).astype(np.int8)
        judged = Judged.of(labels, np.arange(1500) // 5)
        found = judge(judged, System.of("s", p), terms=Terms(resamples=200)).whole.metrics
        assert found["ece"].is_shifted
        assert not found["accuracy"].is_shifted

    @pytest.mark.parametrize(
        ("bias", "shifted"),
        [(0.0, False), (0.11, False), (0.14, True), (-0.14, True), (None, False)],
    )
    def test_a_shift_is_half_a_standard_error(self, bias, shifted):
        # The interval is four standard errors wide: 1.0, so the mark begins at 0.125.
        assert Estimate(0.5, 0.0, 1.0, bias).is_shifted == shifted


class TestComparison:
    def test_a_system_differs_from_itself_by_nothing_with_certainty(self):
        case = make_case(1)
        classes = [
            Classes("query", case.judged.lists, [""] * case.judged.list_count),
            Classes("half", np.arange(len(case.judged)) % 2, ["a", "b"]),
        ]
        verdict = judge(case.judged, case.system, against=case.system, opis_by=classes, terms=QUICK)
        comparisons = [part.comparison for part in (verdict.whole, *verdict.opis)]
        assert len(comparisons) == 3
        for comparison in comparisons:
            assert comparison is not None
            for found in comparison.values():
                if found.first is not None:
                    assert found.difference[:3] == (0, 0, 0)
                    assert found.p == 1

    def test_a_clear_winner_is_found_in_every_metric_and_the_order_turns_signs(self):
        case = make_case(10, pairs=3000, queries=300)
        sharper = np.full((3000, 4), 0.02)
        sharper[np.arange(3000), case.judged.labels] = 0.94
        better = System.of("better", sharper)
        there = judge(case.judged, better, against=case.other, terms=QUICK).whole.comparison
        back = judge(case.judged, case.other, against=better, terms=QUICK).whole.comparison
        assert there is not None
        assert back is not None
        for name in ("accuracy", "macro_f1", "ndcg_mixed", "log_loss", "brier"):
            difference = there[name].difference
            assert difference.value is not None
            assert difference.low is not None
            assert difference.high is not None
            assert difference.low * difference.high > 0
            assert there[name].p == pytest.approx(1 / 61)
            assert back[name].difference.value == pytest.approx(-difference.value)
            assert back[name].difference.low == pytest.approx(-difference.high)
            assert back[name].p == there[name].p

    def test_p_values_of_equal_systems_are_uniform(self):
        chances = []
        for trial in range(150):
            case = make_case(trial, pairs=240, queries=60)
            rng = np.random.default_rng(trial)
            swap = (rng.random(case.judged.query_count) < 0.5)[case.judged.queries, None]
            one, other = case.system.probabilities, case.other.probabilities
            family = Additive(case.judged, np.arange(case.judged.query_count), (Probability(),))
            first = family.prepare(System.of("1", np.where(swap, other, one)))
            second = family.prepare(System.of("2", np.where(swap, one, other)))
            draws = swap_queries(case.judged.query_count, 199, trial)
            observed = family.point(first) - family.point(second)
            permuted = np.subtract(*family.swapped(first, second, draws))
            chances.append(randomisation_p(observed, permuted)[0])
        for level in (0.1, 0.25, 0.5):
            slack = 3 * np.sqrt(level * (1 - level) / 150)
            assert np.mean(np.array(chances) <= level) == pytest.approx(level, abs=slack)

    def test_p_is_counted_by_hand(self):
        permuted = np.array([[0.1], [-0.3], [0.3], [0.5], [np.nan]])
        assert randomisation_p(np.array([0.3]), permuted)[0] == pytest.approx((1 + 3) / (1 + 4))
        assert np.isnan(randomisation_p(np.array([np.nan]), permuted)[0])


class TestVerdict:
    def test_the_majority_answers_with_the_commonest_training_label(self):
        case = make_case(0)
        training = np.array([1, 1, 1, 0, 3], np.int8)
        majority = majority_of(case.judged, training)
        assert (majority.label, majority.source) == ("S", "training")
        assert majority.shares == pytest.approx({"E": 0.2, "S": 0.6, "C": 0, "I": 0.2})
        assert majority_of(case.judged).source == "judged"
        said = majority_system(majority, 3)
        assert said.predicted.tolist() == [1, 1, 1]
        whole = judge(case.judged, case.system, training_labels=training, terms=QUICK).whole
        share = whole.labels["S"] / whole.pairs
        assert whole.majority["accuracy"].value == pytest.approx(share)
        assert whole.majority["macro_f1"].value == pytest.approx(2 * share / (1 + share) / 4)

    def test_a_slice_is_judged_as_if_its_pairs_were_all(self):
        case = make_case(12)
        codes = np.arange(len(case.judged)) % 3
        verdict = judge(
            case.judged, case.system, slices=slices_of("third", codes, "abc"), terms=QUICK
        )
        assert [part.value for part in verdict.slices] == ["all", "a", "b", "c"]
        for place, part in enumerate(verdict.slices[1:]):
            rows = np.flatnonzero(codes == place)
            inside, _ = case.judged.restricted(rows)
            alone = judge(inside, case.system.restricted(rows), terms=QUICK).whole
            assert (part.pairs, part.queries, part.lists) == (len(rows), alone.queries, alone.lists)
            assert part.confusion == alone.confusion
            for name, found in part.metrics.items():
                assert found.value == pytest.approx(alone.metrics[name].value, abs=1e-12)
        assert sum(part.pairs for part in verdict.slices[1:]) == verdict.whole.pairs

    def test_the_same_pairs_in_another_order_give_the_same_verdict(self):
        case = make_case(13)
        order = np.random.default_rng(0).permutation(len(case.judged))
        shuffled = Judged.of(
            case.judged.labels[order], case.judged.queries[order], case.judged.lists[order]
        )
        here = judge(case.judged, case.system, terms=QUICK).whole
        there = judge(shuffled, case.system.restricted(order), terms=QUICK).whole
        for name, found in here.metrics.items():
            assert there.metrics[name] == pytest.approx(found, abs=1e-9)

    def test_it_is_one_json_document_without_nan(self):
        # No complement is ever predicted, so its precision has no value.
        case = make_case(14)
        never = case.system.probabilities.copy()
        never[:, 2] = 0
        classes = Classes(
            "query", case.judged.lists, [f"q{c}" for c in range(case.judged.list_count)]
        )
        verdict = judge(
            case.judged,
            System.of("never", never / never.sum(axis=1, keepdims=True)),
            against=case.other,
            opis_by=[classes],
            terms=QUICK,
        )
        document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
        whole = document["slices"][0]
        assert whole["metrics"]["precision_C"]["value"] is None
        assert sum(whole["labels"].values()) == whole["pairs"] == 400
        assert list(whole["confusion"]) == list(LABELS)
        assert document["terms"]["gain_table"]["name"] == "esci-paper"
        assert document["opis"][0]["range"][0] < document["opis"][0]["range"][1]
        assert document["clipped_pairs"] == whole["labels"]["C"]

    def test_opis_counts_what_it_leaves_out(self):
        labels = np.array([0, 0, 3, 3, 0, 0, 3, 3, 0, 3, 0, 0, 1], np.int8)
        query = np.array([0] * 4 + [1] * 4 + [2] * 2 + [3] * 2 + [4])
        rng = np.random.default_rng(0)
        p = rng.dirichlet(np.ones(4), len(labels))
        judged = Judged.of(labels, query)
        found = judge(
            judged,
            System.of("s", p),
            opis_by=[Classes("query", judged.lists, list("abcde"))],
            terms=QUICK,
        ).opis[0]
        assert (found.classes, found.too_small, found.one_sided, found.coarse) == (2, 1, 1, 2)
        assert [one.value for one in found.shown] == ["a", "b"]
        assert found.metrics["opis"].value == pytest.approx(
            np.mean([one.contribution for one in found.shown])
        )

    def test_a_system_that_answers_other_pairs_is_refused(self):
        case = make_case(0)
        with pytest.raises(DataError, match="399 pairs; 400 are judged"):
            judge(case.judged, case.system.restricted(np.arange(399)))
        with pytest.raises(DataError, match="shape"):
            System.of("s", np.ones((4, 3)))

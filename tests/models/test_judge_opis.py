"""OPIS against a plain loop, hand-computed cases and the laws of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ConfigError
from models.judge.consistency import Classes, Consistency, ConsistencyTerms, positive_distance
from models.judge.judged import Judged, System
from models.judge.opis import (
    Range,
    calibration_range,
    grid,
    histogram,
    spread,
    spread_of_drawn,
    utility,
    worst_classes,
)
from models.judge.resample import resample_queries, swap_queries
from tests.models.judging import Case, cases, copies, make_case

curve_sets = st.builds(
    lambda seed, classes: np.random.default_rng(seed).random((classes, 11)),
    st.integers(0, 2**32 - 1),
    st.integers(2, 12),
)


def plain_mean(curve):
    """The trapezoid rule over [0, 1], written out."""
    steps = len(curve) - 1
    return sum((curve[at] + curve[at + 1]) / 2 for at in range(steps)) / steps


def plain_opis(curves, epsilon):
    """OPIS and both epsilon-OPIS from the definition, one class and threshold at a time."""
    classes, points = len(curves), len(curves[0])
    mean = [sum(curve[at] for curve in curves) / classes for at in range(points)]
    parts = [plain_mean([(curve[at] - mean[at]) ** 2 for at in range(points)]) for curve in curves]
    order = sorted(range(classes), key=lambda one: plain_mean(curves[one]))
    count = min(max(int(np.ceil(epsilon * classes - 1e-9)), 1), classes - 1)
    worst, rest = order[:count], order[count:]

    def of(group, at):
        return sum(curves[one][at] for one in group) / len(group)

    gap = plain_mean([(of(worst, at) - of(rest, at)) ** 2 for at in range(points)])
    halves = [sum(parts[one] for one in group) / len(group) for group in (worst, rest)]
    return sum(parts) / classes, gap, abs(halves[0] - halves[1])


def plain_curves(judged, distances, codes, thresholds):
    """The curve of each class with at least two positives and negatives, by class."""
    curves = {}
    for code in sorted(set(codes.tolist())):
        mine = codes == code
        positives = distances[mine & (judged.labels == 0)]
        negatives = distances[mine & (judged.labels == 3)]
        if len(positives) >= 2 and len(negatives) >= 2:
            curve = []
            for d in thresholds:
                psi, phi = np.mean(positives <= d), np.mean(negatives > d)
                curve.append(2 * phi * psi / (phi + psi) if phi + psi else 0.0)
            curves[code] = curve
    return curves


def once(curves, epsilon=0.1):
    found = spread(curves, np.ones((len(curves), 1)), epsilon)
    return tuple(float(part[0]) for part in found)


def by_list(judged: Judged) -> Classes:
    return Classes("query", judged.lists, [str(code) for code in range(judged.list_count)])


def by_third(judged: Judged) -> Classes:
    """Classes that cross queries."""
    codes = np.random.default_rng(9).integers(0, 3, len(judged))
    return Classes("third", codes, ["a", "b", "c"])


class TestSpread:
    @given(curves=curve_sets, epsilon=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
    def test_it_is_the_definition(self, curves, epsilon):
        np.testing.assert_allclose(once(curves, epsilon), plain_opis(curves, epsilon), atol=1e-12)

    @given(curve=curve_sets.map(lambda curves: curves[0]), classes=st.integers(2, 9))
    def test_identical_classes_have_none(self, curve, classes):
        found = once(np.tile(curve, (classes, 1)))
        np.testing.assert_allclose(found, 0, atol=1e-12)

    def test_two_constant_curves(self):
        # Mean 0.5, each 0.3 away: contributions 0.09 each, gap 0.6.
        found = once(np.array([[0.2] * 5, [0.8] * 5]))
        np.testing.assert_allclose(found, [0.09, 0.36, 0], atol=1e-12)

    @given(curves=curve_sets)
    def test_duplicating_every_class_changes_no_opis(self, curves):
        doubled = once(np.concatenate([curves, curves]), 0.5)
        assert doubled[0] == pytest.approx(once(curves, 0.5)[0])
        if len(curves) % 2 == 0:  # else half of the classes is not a whole number of them
            np.testing.assert_allclose(doubled, once(curves, 0.5), atol=1e-12)

    @given(curves=curve_sets, seed=st.integers(0, 99))
    def test_the_order_of_classes_decides_nothing(self, curves, seed):
        order = np.random.default_rng(seed).permutation(len(curves))
        np.testing.assert_allclose(once(curves[order]), once(curves), atol=1e-12)

    @given(curves=curve_sets, epsilon=st.floats(0.05, 0.95))
    def test_epsilon_a_is_at_most_the_largest_squared_gap(self, curves, epsilon):
        largest = (curves.max(axis=0) - curves.min(axis=0)).max()
        assert once(curves, epsilon)[1] <= largest**2 + 1e-12

    def test_the_worst_tenth_of_thirty_classes_is_three(self):
        # 0.1 * 30 is 3.0000000000000004.
        curves = np.linspace(1, 0, 30)[:, None] * np.ones(11)
        assert worst_classes(curves, 0.1).tolist() == [29, 28, 27]

    @given(curves=curve_sets, seed=st.integers(0, 99))
    def test_a_weight_is_a_number_of_copies(self, curves, seed):
        weights = np.random.default_rng(seed).integers(0, 4, (len(curves), 5)).astype(float)
        found = spread(curves, weights, 0.3)
        for draw in range(5):
            written_out = np.repeat(curves, weights[:, draw].astype(int), axis=0)
            if len(written_out) < 2:
                assert np.isnan(found.opis[draw])
            else:
                mine = [part[draw] for part in found]
                np.testing.assert_allclose(mine, plain_opis(written_out, 0.3), atol=1e-12)

    def test_the_worst_are_found_even_where_most_low_classes_are_not_drawn(self):
        rng = np.random.default_rng(0)
        curves = np.sort(rng.random((900, 1)), axis=0) * np.ones(11)
        weights = (np.arange(900) >= 700)[:, None] * np.ones((1, 2))
        found = spread(curves, weights, 0.1)
        np.testing.assert_allclose(
            [part[1] for part in found], plain_opis(curves[700:], 0.1), atol=1e-12
        )

    @given(curves=curve_sets, seed=st.integers(0, 99))
    def test_curves_per_draw_agree_with_fixed_ones(self, curves, seed):
        present = np.random.default_rng(seed).random((len(curves), 4)) < 0.7
        drawn = np.where(present[:, :, None], curves[:, None, :], np.nan)
        for mine, fixed in zip(
            spread_of_drawn(drawn, 0.3), spread(curves, present.astype(float), 0.3), strict=True
        ):
            np.testing.assert_allclose(mine, fixed, atol=1e-12)


class TestCurves:
    def test_two_classes_of_steps_by_hand(self):
        # Class 0 accepts its positives at 0.1 and 0.3 and its negatives at 0.2 and 0.5; class 1
        # separates perfectly from 0.1 on.
        thresholds = grid(Range(0.1, 0.5), 5)
        positives = histogram(np.array([0.1, 0.3, 0.0, 0.1]), np.array([0, 0, 1, 1]), 2, thresholds)
        negatives = histogram(np.array([0.2, 0.5, 0.9, 0.9]), np.array([0, 0, 1, 1]), 2, thresholds)
        found = utility(positives, negatives)
        expected = [[2 / 3, 1 / 2, 2 / 3, 2 / 3, 0], [1, 1, 1, 1, 1]]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        # Half the gap on either side of the mean: (1/6, 1/4, 1/6, 1/6, 1/2) squared, by trapezoids.
        inner = 1 / 16 + 2 / 36
        opis = (inner + (1 / 36 + 1 / 4) / 2) / 4
        np.testing.assert_allclose(once(found), [opis, 4 * opis, 0], atol=1e-12)

    def test_the_weight_c_is_that_of_an_f_score(self):
        thresholds = np.array([0.5])
        positives = histogram(np.array([0.4, 0.6]), np.zeros(2, int), 1, thresholds)  # psi 1/2
        negatives = histogram(np.array([0.9, 0.9]), np.zeros(2, int), 1, thresholds)  # phi 1
        assert utility(positives, negatives, 2.0)[0, 0] == pytest.approx(5 * 0.5 / 4.5)

    def test_a_class_without_one_side_has_no_curve(self):
        thresholds = np.array([0.2, 0.5])
        positives = histogram(np.array([0.4]), np.array([0]), 2, thresholds)
        negatives = histogram(np.array([0.4, 0.1]), np.array([0, 1]), 2, thresholds)
        assert np.isnan(utility(positives, negatives)).tolist() == [[False] * 2, [True] * 2]

    def test_histograms_of_blocks_add_up(self):
        rng = np.random.default_rng(0)
        distances, groups = rng.random(500), rng.integers(0, 7, 500)
        thresholds = np.linspace(0.2, 0.6, 11)
        parts = [
            histogram(distances[part], groups[part], 7, thresholds)
            for part in (slice(0, 130), slice(130, 500))
        ]
        np.testing.assert_array_equal(sum(parts), histogram(distances, groups, 7, thresholds))

    def test_the_range_accepts_the_asked_shares_of_negatives(self):
        negatives = np.random.default_rng(0).random(100_000)
        between = calibration_range(negatives)
        assert between is not None
        assert np.mean(negatives <= between.low) == pytest.approx(0.01, abs=1e-4)
        assert np.mean(negatives <= between.high) == pytest.approx(0.1, abs=1e-4)

    @pytest.mark.parametrize("negatives", [np.empty(0), np.full(50, 0.3)])
    def test_negatives_that_are_all_alike_or_absent_give_no_range(self, negatives):
        assert calibration_range(negatives) is None


@pytest.mark.parametrize("group", [by_list, by_third])
class TestConsistency:
    @given(case=cases)
    @settings(max_examples=20, deadline=None)
    def test_it_is_the_plain_loop(self, group, case: Case):
        family = Consistency(case.judged, group(case.judged), ConsistencyTerms(thresholds=21))
        prepared = family.prepare(case.system)
        found = family.point(prepared)
        distances = 1 - case.system.probabilities[:, 0]
        curves = {}
        if prepared is not None:
            codes = family.classes.codes
            curves = plain_curves(case.judged, distances, codes, prepared.thresholds)
            assert sorted(curves) == family.kept.tolist()
        if len(curves) < 2:
            assert np.isnan(found).all()
            assert family.reason_undefined(prepared)
        else:
            expected = plain_opis(list(curves.values()), 0.1)
            np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_a_resample_is_its_pairs_written_out(self, group):
        case = make_case(4, pairs=600, queries=25)
        family = Consistency(case.judged, group(case.judged))
        assert family.is_nested == (group is by_list)
        prepared = family.prepare(case.system)
        assert prepared is not None
        draws = resample_queries(case.judged.query_count, 6, seed=3)
        found = family.resampled(prepared, draws)
        for draw, mine in enumerate(found):
            rows, written_out = copies(case.judged, draws.counts[:, draw])
            # Copies of a query are classes of their own; a class across queries grows.
            is_list = group is by_list
            codes = written_out.lists if is_list else family.classes.codes[rows]
            curves = plain_curves(
                written_out,
                positive_distance(case.system, ("E",))[rows],
                codes,
                prepared.thresholds,
            )
            np.testing.assert_allclose(mine, plain_opis(list(curves.values()), 0.1), atol=1e-12)

    def test_a_swap_is_made_of_each_systems_share_of_queries(self, group):
        case = make_case(5, pairs=600, queries=25)
        family = Consistency(case.judged, group(case.judged))
        first, second = family.prepare(case.system), family.prepare(case.other)
        assert first is not None
        assert second is not None
        draws = swap_queries(case.judged.query_count, 4, seed=1)
        for side, found in enumerate(family.swapped(first, second, draws)):
            for draw, mine in enumerate(found):
                swapped = draws.counts[case.judged.queries, draw] == 1
                # Places within the range are what is swapped: each distance on its own grid.
                from_first = swapped != (side == 0)
                place = np.where(
                    from_first,
                    np.searchsorted(first.thresholds, positive_distance(case.system, ("E",))),
                    np.searchsorted(second.thresholds, positive_distance(case.other, ("E",))),
                )
                curves = plain_curves(case.judged, place, family.classes.codes, range(101))
                np.testing.assert_allclose(mine, plain_opis(list(curves.values()), 0.1), atol=1e-12)


class TestTerms:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"positives": ()}, "positives are none; expected some of E, S, C, I"),
            ({"negatives": ("X",)}, "negatives are X; expected"),
            ({"positives": ("E", "I")}, "takes I as positive and as negative"),
            ({"epsilon": 1.0}, "epsilon is 1; expected a share"),
            ({"far": (0.1, 0.01)}, "rates are 0.1 and 0.01; expected a lower and a higher"),
            ({"far": (0.0, 0.1)}, "rates are 0 and 0.1"),
            ({"far": (0.1, 1.5)}, "rates are 0.1 and 1.5"),
            ({"far": (float("nan"), 0.1)}, "rates are nan and 0.1"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            ConsistencyTerms(**change)

    def test_the_labels_taken_decide_sides_distance_and_what_is_passed_over(self):
        # Calling substitutes exact is what taking both as positive must amount to.
        case = make_case(7, pairs=600, queries=25)
        terms = ConsistencyTerms(positives=("E", "S"), negatives=("C", "I"))
        assert terms.distance == "1 - P(E) - P(S)"
        p = case.system.probabilities
        folded = np.stack([p[:, 0] + p[:, 1], 0 * p[:, 0], 0 * p[:, 0], p[:, 2] + p[:, 3]], axis=1)
        labels = np.where(case.judged.labels < 2, 0, 3).astype(np.int8)
        plain = Judged(labels, case.judged.queries, case.judged.lists)
        here = Consistency(case.judged, by_third(case.judged), terms)
        there = Consistency(plain, by_third(plain))
        np.testing.assert_allclose(
            here.point(here.prepare(case.system)),
            there.point(there.prepare(System.of("folded", folded))),
            atol=1e-9,
        )


def test_a_constant_score_has_no_range_and_says_so():
    case = make_case(6)
    constant = System.of("constant", np.full((len(case.judged), 4), 0.25))
    family = Consistency(case.judged, by_third(case.judged))
    prepared = family.prepare(constant)
    assert "no range" in str(family.reason_undefined(prepared))
    draws = resample_queries(case.judged.query_count, 3, seed=0)
    assert np.isnan(family.resampled(prepared, draws)).all()

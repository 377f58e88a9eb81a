"""The lexical member learns what can be learnt from words, and no more than that."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from models.errors import ConfigError, DataError, UnknownMemberKindError
from models.labels import LABELS
from models.lexical.matching.crosses import Crosses
from models.lexical.matching.products import prepare_products
from models.lexical.weighing.additive import AdditiveModel
from models.lexical.weighing.choosing import choose_model
from models.lexical.weighing.fitting import (
    Basis,
    Penalties,
    Sample,
    fit_additive,
    frequent_crosses,
    quantile_knots,
)
from models.lexical.weighing.options import LexicalOptions
from models.member import softmax
from models.members.lexical import LexicalMember
from models.pairs import LabelledPairs, Pairs, Products, Queries
from models.texts import Texts
from models.weights import pair_weights
from tests.tiny import tiny_pairs

THINGS = ("lamp", "chair", "kettle", "router", "blanket", "ladder", "camera", "guitar")
COLOURS = ("black", "white", "red", "blue")


def planted(seed: int, size: int = 600) -> LabelledPairs:
    """Same thing and colour is Exact, thing only Substitute, case for it Complement, else none."""
    random = np.random.default_rng(seed)
    queries, rows, labels = [], [], []
    for _ in range(size):
        thing, other = random.choice(THINGS, 2, replace=False)
        colour, another = random.choice(COLOURS, 2, replace=False)
        label = str(random.choice(LABELS))
        title = {
            "E": f"{colour} {thing}",
            "S": f"{another} {thing}",
            "C": f"case for {colour} {thing}",
            "I": f"{another} {other}",
        }[label]
        queries.append(f"{colour} {thing}")
        rows.append({"product_id": str(len(rows)), "locale": "us", "title": title})
        labels.append(label)
    at = np.arange(size, dtype=np.int32)
    pairs = Pairs(Queries.of(queries, ["us"] * size), Products.of(rows), at, at)
    return LabelledPairs.of(pairs, labels)


def sample(features: np.ndarray, labels: np.ndarray, locales: np.ndarray | None = None) -> Sample:
    rows = len(labels)
    nothing = Crosses(np.empty(0, np.int64), np.empty(0, np.uint32))
    return Sample(
        features.astype(np.float32),
        np.zeros(rows, np.int8) if locales is None else locales.astype(np.int8),
        nothing,
        np.arange(rows, dtype=np.int64),
        labels.astype(np.int8),
        np.ones(rows),
    )


NO_CROSSES = np.empty(0, np.uint32)


def test_learns_a_planted_rule_for_new_pairs():
    member = LexicalMember().fit(planted(1), planted(2, 200))
    unseen = planted(3, 300)
    right = member.predict_logits(unseen).argmax(axis=1) == unseen.labels
    assert right.mean() > 0.97


def test_probabilities_are_honest_on_average():
    train = planted(1)
    probabilities = softmax(LexicalMember().fit(train, planted(2, 200)).predict_logits(train))
    shares = np.bincount(train.labels, minlength=4) / len(train)
    np.testing.assert_allclose(probabilities.mean(axis=0), shares, atol=0.02)


def test_shuffled_labels_teach_nothing():
    train, valid = planted(1), planted(2, 300)
    random = np.random.default_rng(0)
    wrong = replace(train, labels=random.permutation(train.labels))
    probabilities = softmax(LexicalMember().fit(wrong, valid).predict_logits(valid))
    assert probabilities.max() < 0.6  # four equal labels: a quarter each, and some noise


def test_prepared_products_get_the_same_logits():
    pairs = tiny_pairs()
    member = LexicalMember().fit(pairs, pairs)
    prepared = prepare_products(pairs.products)
    np.testing.assert_array_equal(
        member.predict_prepared(pairs, prepared), member.predict_logits(pairs)
    )
    with pytest.raises(DataError, match="expected the features"):
        member.predict_prepared(pairs, prepared.take(np.arange(3)))


def test_the_validation_pairs_choose_among_the_trials():
    train, valid = planted(1, 200), planted(2, 100)
    member = LexicalMember().fit(train, valid)
    assert len(member._trials) > 1
    best = min(trial["log_loss"] for trial in member._trials)
    right = softmax(member.predict_logits(valid))[np.arange(len(valid)), valid.labels]
    assert -np.log(right).mean() == pytest.approx(best, rel=1e-4)


def test_indicators_learn_what_features_cannot():
    # Which of two equally unmatched things came decides the label: no overlap tells.
    random = np.random.default_rng(5)
    size = 400
    came = random.choice(["nut", "bolt"], size)
    table = Products.of(
        [{"product_id": str(at), "locale": "us", "title": thing} for at, thing in enumerate(came)]
    )
    at = np.arange(size, dtype=np.int32)
    queries = Queries.of([f"{random.choice(THINGS)} {n}x" for n in range(size)], ["us"] * size)
    pairs = LabelledPairs.of(
        Pairs(queries, table, at, at), ["S" if thing == "nut" else "I" for thing in came]
    )
    train, valid = pairs.take(at[:300]), pairs.take(at[300:])

    def accuracy(**options: object) -> float:
        member = LexicalMember("m", LexicalOptions(**options)).fit(train, valid)
        return float((member.predict_logits(valid).argmax(axis=1) == valid.labels).mean())

    assert accuracy() > 0.95
    assert accuracy(cross_penalties=()) < 0.8


def test_a_curve_may_bend():
    # Label 1 in the middle, label 0 at both ends: no straight line can say so.
    values = np.linspace(-1, 1, 400)[:, None]
    labels = (np.abs(values[:, 0]) < 0.5).astype(int)
    data = sample(values, labels)
    penalties = Penalties(curve=0.1, bend=1.0, locale=10.0, cross=np.inf)

    def accuracy(knots: int) -> float:
        basis = Basis(quantile_knots(data.features, knots), data.features)
        model = fit_additive(data, basis, NO_CROSSES, penalties).model
        logits = model.logits(data.features, data.locales, data.crosses)
        return float((logits.argmax(axis=1) == labels).mean())

    assert accuracy(8) > 0.95
    assert accuracy(2) < 0.8


def test_the_curves_answer_as_the_logistic_model_they_were_made_from():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    features = random.normal(size=(500, 3)).astype(np.float32)
    truth = features @ random.normal(size=(3, 4))
    labels = (truth + random.gumbel(size=truth.shape)).argmax(axis=1)
    data = sample(features, labels)
    basis = Basis(quantile_knots(features, 2), features)
    # Straight lines in one locale: ridge-penalised multinomial regression. What is shared and what
    # is the locale's own split the weight between them, so each half of the penalty counts once.
    ours = fit_additive(data, basis, NO_CROSSES, Penalties(10.0, 1.0, 1.0, np.inf)).model
    theirs = LogisticRegression(C=1 / 5.0, tol=1e-8, max_iter=2000)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(
        softmax(ours.logits(features, data.locales, data.crosses)),
        theirs.fit(scaled, labels).predict_proba(scaled),
        atol=2e-3,
    )


def test_beyond_its_knots_a_curve_is_level():
    random = np.random.default_rng(0)
    features = random.uniform(size=(200, 2)).astype(np.float32)
    data = sample(features, random.integers(0, 4, 200))
    basis = Basis(quantile_knots(features, 5), features)
    model = fit_additive(data, basis, NO_CROSSES, Penalties(1.0, 1.0, 1.0, np.inf)).model
    far = np.array([[-1e6, -1e6], [1e6, 1e6]], np.float32)
    ends = np.stack([features.min(axis=0), features.max(axis=0)])
    at = (np.zeros(2, np.int8), data.crosses)
    np.testing.assert_allclose(model.logits(far, *at), model.logits(ends, *at), rtol=1e-5)


def test_a_locale_may_differ_from_the_others():
    random = np.random.default_rng(0)
    values, locales = random.normal(size=(900, 1)), np.repeat([0, 1, 2], 300)
    labels = ((values[:, 0] > 0) ^ (locales == 2)).astype(int)  # the last turns the rule around
    data = sample(values, labels, locales)
    basis = Basis(quantile_knots(data.features, 2), data.features)
    model = fit_additive(data, basis, NO_CROSSES, Penalties(0.1, 1.0, 1.0, np.inf)).model
    logits = model.logits(data.features, data.locales, data.crosses)
    assert (logits.argmax(axis=1) == labels).mean() > 0.95


def test_an_indicator_of_few_queries_is_not_learnt():
    data = sample(np.zeros((4, 1)), np.zeros(4))
    crosses = Crosses(np.array([0, 1, 2, 3, 0, 1]), np.array([7, 7, 7, 7, 9, 9], np.uint32))
    queries = np.array([0, 0, 1, 2])
    data = replace(data, crosses=crosses, queries=queries)
    assert frequent_crosses(data, 3).tolist() == [7]
    assert frequent_crosses(data, 1).tolist() == [7, 9]


def test_weights_of_pairs():
    labels, queries = np.array([0, 0, 0, 1], np.int8), np.array([0, 0, 0, 1])
    np.testing.assert_allclose(pair_weights(labels, queries, "none", 0.0), 1)
    by_query = np.bincount(queries, pair_weights(labels, queries, "none", 1.0))
    np.testing.assert_allclose(by_query, 1)
    by_label = np.bincount(labels, pair_weights(labels, queries, "balanced", 0.0))
    assert by_label[0] == pytest.approx(by_label[1])


def test_the_fit_heeds_the_weights_of_pairs():
    # One query has ninety products, all Exact; forty queries have one each, all Irrelevant.
    queries = Queries.of(["lamp", *(f"lamp {n}x" for n in range(40))], ["us"] * 41)
    rows = np.array([0] * 90 + list(range(1, 41)), np.int32)
    table = Products.of(
        [{"product_id": str(n), "locale": "us", "title": "lamp"} for n in range(130)]
    )
    pairs = Pairs(queries, table, rows, np.arange(130, dtype=np.int32))
    train = LabelledPairs.of(pairs, ["E"] * 90 + ["I"] * 40)
    nothing = train.take(np.empty(0, np.int64))

    def share_of_exact(**options: object) -> float:
        chosen = LexicalOptions(penalties=(1e8,), cross_penalties=(), **options)
        member = LexicalMember("m", chosen).fit(train, nothing)
        return float(softmax(member.predict_logits(train))[:, 0].mean())

    # So strong a penalty leaves the intercepts, which are the weighted shares of the labels.
    assert share_of_exact(list_weight=0.0) == pytest.approx(90 / 130, abs=0.02)
    assert share_of_exact(list_weight=1.0) == pytest.approx(1 / 41, abs=0.02)
    balanced = share_of_exact(list_weight=0.0, class_weight="balanced")
    assert balanced == pytest.approx(1 / 2, abs=0.02)


def test_without_validation_pairs_the_most_cautious_model_wins():
    data = sample(np.linspace(0, 1, 50)[:, None], np.arange(50) // 25)
    nothing = sample(np.empty((0, 1)), np.empty(0))
    options = LexicalOptions(penalties=(1.0, 1000.0))
    model, trials = choose_model(data, nothing, options)
    assert model is trials[0].fit.model
    assert trials[0].penalties.curve == 1000.0


def test_a_query_without_words_is_answered():
    pairs = tiny_pairs()
    member = LexicalMember().fit(pairs, pairs)
    silent = replace(pairs.queries, texts=Texts.of([""] * len(pairs.queries)))
    asked = Pairs(silent, pairs.products, pairs.query_rows, pairs.product_rows)
    assert np.isfinite(member.predict_logits(asked)).all()


def test_no_training_pairs_is_an_error():
    nothing = tiny_pairs().take(np.empty(0, np.int64))
    with pytest.raises(DataError, match="no training pairs"):
        LexicalMember().fit(nothing, nothing)


@pytest.mark.parametrize(
    "wrong", [{"penalties": ()}, {"penalties": (-1.0,)}, {"knots": 1}, {"cross_queries": 0}]
)
def test_options_that_cannot_be_meant(wrong):
    with pytest.raises(ConfigError, match="expected"):
        LexicalOptions(**wrong)


def test_answering_needs_numpy_alone(tmp_path):
    pairs = tiny_pairs()
    LexicalMember().fit(pairs, pairs).save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from models.registry import member_class;"
        "from models.pairs import Pairs, Products;"
        f"member = member_class('lexical').load(Path({str(tmp_path)!r}));"
        "table = Products.of([{'product_id': 'P', 'locale': 'us', 'title': 'lamp'}]);"
        "print(member.predict_logits(Pairs.of_query('lamp', 'us', table)).shape);"
        "dear = {'scipy', 'sklearn', 'pyarrow', 'pandas', 'threadpoolctl', 'torch'};"
        "sys.exit(', '.join(dear & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "(1, 4)\n"


def test_fitting_without_its_libraries_names_the_extra(monkeypatch):
    pairs = tiny_pairs()
    answering = LexicalMember().fit(pairs, pairs)
    for library in ("scipy", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, library, None)  # as where it is not installed
    with pytest.raises(UnknownMemberKindError, match=r"'scipy' to be fitted.*\[training\]"):
        LexicalMember().fit(pairs, pairs)
    assert len(answering.predict_logits(pairs)) == len(pairs)


def test_a_model_without_indicators_ignores_them():
    model = AdditiveModel(
        knots=np.array([[0.0, 1.0]]),
        curves=np.arange(8, dtype=float).reshape(1, 1, 2, 4),
        cross_hashes=NO_CROSSES,
        cross_weights=np.empty((0, 4), np.float32),
    )
    crosses = Crosses(np.array([0]), np.array([5], np.uint32))
    found = model.logits(np.array([[0.5]], np.float32), np.zeros(1, np.int8), crosses)
    np.testing.assert_allclose(found, [[2, 3, 4, 5]])

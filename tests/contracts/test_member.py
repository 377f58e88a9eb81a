"""What every member promises, whatever its kind: the suite of `models.member.Member`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import NotFittedError, ReleaseError, UnknownMemberKindError
from models.graphs.serving.convolutions import Convolution
from models.labels import LABELS
from models.language.serving.form import Form
from models.locales import LOCALES
from models.member import Cost, Logits, Member
from models.pairs import PRODUCT_FIELDS, LabelledPairs, Pairs, Products, Queries
from models.registry import KINDS, make_member, member_class
from models.text import normalise
from models.texts import Texts
from tests.strategies import pairs
from tests.tiny import tiny_pairs


@dataclass(frozen=True)
class Case:
    """A kind with options that fit in no time, and how exactly it must repeat itself."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0  # relative, between a pair alone and in a batch; wider needs a reason
    reason: str = ""

    @property
    def id(self) -> str:
        return "-".join(filter(None, [self.kind, self.options.get("convolution")]))

    def make(self) -> Member:
        return make_member(self.kind, f"a-{self.kind}", self.options)


TINY_LANGUAGE = {
    "backbone": "tiny",
    "text": {"max_tokens": 64, "query_tokens": 24},
    # Little is learnt from two dozen pairs, but it is to be learnt by heart.
    "training": {"epochs": 12, "batch_size": 4, "learning_rate": 5e-3, "evaluations_per_epoch": 1},
    "serving": {"variants": ["fp32"], "measure_seconds": 0.0},
}

CASES = [
    Case("lexical"),
    Case(
        "cross_encoder",
        TINY_LANGUAGE,
        tolerance=1e-4,
        reason="padding and the size of a batch change the order in which floats are added",
    ),
    Case(
        "bi_encoder",
        {**TINY_LANGUAGE, "pooling": "mean"},
    ),
]

TINY_GRAPH = {
    "features": 32,
    "width": 32,
    "fan_outs": [4, 4],
    "dropout": 0.0,
    "cold_share": 0.0,
    "training": {"epochs": 60, "batch_size": 8, "learning_rate": 1e-2},
}
ROUNDING = "a matrix product adds in another order where it has other rows beside it"

CASES += [
    Case("gnn", TINY_GRAPH | {"convolution": convolution}, tolerance=1e-4, reason=ROUNDING)
    for convolution in get_args(Convolution)
]

PLAIN_FILES = {".json", ".npy", ".npz", ".safetensors", ".onnx", ".svg", ".txt"}

each_kind = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
# A member is fitted once and asked often; the first example pays for the fit.
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.data_too_large]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks: threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def fitted(case_number: int) -> Member:
    train = tiny_pairs()
    return CASES[case_number].make().fit(train, train)


def member_of(case: Case) -> Member:
    return fitted(CASES.index(case))


def assert_same(found: Logits, expected: Logits, case: Case) -> None:
    if case.tolerance:
        np.testing.assert_allclose(found, expected, rtol=case.tolerance, atol=case.tolerance)
    else:
        np.testing.assert_array_equal(found, expected)


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value):
        for of in fields(value):
            yield from arrays_in(getattr(value, of.name))


@each_kind
class TestAnswers:
    @given(asked=pairs())
    @examples
    def test_any_texts_get_four_finite_float32_logits(self, case, asked):
        logits = member_of(case).predict_logits(asked)
        assert logits.shape == (len(asked), len(LABELS))
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()

    def test_no_pairs_get_no_logits(self, case):
        nothing = tiny_pairs().take(np.empty(0, np.int64))
        assert member_of(case).predict_logits(nothing).shape == (0, len(LABELS))
        empty = Pairs(Queries.of([], []), Products.of([]), *[np.empty(0, np.int32)] * 2)
        assert member_of(case).predict_logits(empty).shape == (0, len(LABELS))

    @given(asked=pairs(min_size=1))
    @examples
    def test_a_pair_gets_the_same_logits_alone_and_in_a_batch(self, case, asked):
        member = member_of(case)
        alone = [member.predict_logits(asked.take(np.array([row]))) for row in range(len(asked))]
        assert_same(member.predict_logits(asked), np.vstack(alone), case)

    @given(asked=pairs(min_size=1), data=st.data())
    @examples
    def test_shuffling_pairs_shuffles_their_logits(self, case, asked, data):
        order = np.array(data.draw(st.permutations(range(len(asked)))))
        member = member_of(case)
        assert_same(
            member.predict_logits(asked.take(order)), member.predict_logits(asked)[order], case
        )

    def test_a_pair_in_a_large_batch_is_answered_as_alone(self, case):
        asked = tiny_pairs().without_labels()
        member, rows = member_of(case), np.resize(np.arange(len(asked)), 3000)
        assert_same(
            member.predict_logits(asked.take(rows)), member.predict_logits(asked)[rows], case
        )

    @given(asked=pairs(min_size=1))
    @examples
    def test_rows_of_the_tables_that_no_pair_names_change_nothing(self, case, asked):
        member = member_of(case)
        assert_same(member.predict_logits(asked.compact()), member.predict_logits(asked), case)

    @given(asked=pairs(min_size=1), locale=st.sampled_from(LOCALES))
    @examples
    def test_pairs_with_one_fingerprint_have_one_answer(self, case, asked, locale):
        products = asked.products
        columns = {name: Texts.of(map(normalise, products.field(name))) for name in PRODUCT_FIELDS}
        again = Pairs(
            Queries.of(map(normalise, asked.queries.texts), [locale] * len(asked.queries)),
            Products(products.ids, products.locales, **columns),
            asked.query_rows,
            asked.product_rows,
        )
        assert again.fingerprints() == asked.fingerprints()
        member = member_of(case)
        assert_same(member.predict_logits(again), member.predict_logits(asked), case)

    @pytest.mark.parametrize("locale", LOCALES)
    def test_a_query_is_read_in_the_locale_of_its_product(self, case, locale):
        # The fingerprint holds the product's locale and not the query's.
        asked = tiny_pairs().without_labels()
        elsewhere = Queries.of(asked.queries.texts, [locale] * len(asked.queries))
        again = Pairs(elsewhere, asked.products, asked.query_rows, asked.product_rows)
        member = member_of(case)
        assert_same(member.predict_logits(again), member.predict_logits(asked), case)

    def test_labels_are_not_looked_at(self, case):
        asked = tiny_pairs()
        wrong = LabelledPairs(
            asked.queries,
            asked.products,
            asked.query_rows,
            asked.product_rows,
            (asked.labels + 1).astype(np.int8) % 4,
        )
        member = member_of(case)
        assert_same(member.predict_logits(wrong), member.predict_logits(asked), case)

    def test_different_pairs_get_different_logits(self, case):
        # Else every law above would hold for a member that answers nothing.
        logits = member_of(case).predict_logits(tiny_pairs())
        assert len(np.unique(logits.round(4), axis=0)) > len(logits) // 2

    def test_cost_is_known_and_not_negative(self, case):
        cost = member_of(case).cost()
        assert isinstance(cost, Cost)
        assert cost.milliseconds_per_pair >= 0
        assert cost.megabytes >= 0


@each_kind
class TestFitting:
    def test_answers_nothing_before_it_is_fitted(self, case):
        with pytest.raises(NotFittedError, match=f"a-{case.kind}"):
            case.make().predict_logits(tiny_pairs())

    def test_returns_itself_and_keeps_its_name(self, case):
        member, train = case.make(), tiny_pairs()
        assert member.fit(train, train) is member
        assert member.name == f"a-{case.kind}"

    def test_fits_what_it_was_given(self, case):
        train = tiny_pairs()
        right = member_of(case).predict_logits(train).argmax(axis=1) == train.labels
        assert right.mean() > 0.5  # each label is a quarter of them

    def test_the_same_seed_gives_the_same_member(self, case):
        train = tiny_pairs()
        again = case.make().fit(train, train)
        np.testing.assert_array_equal(
            again.predict_logits(train), member_of(case).predict_logits(train)
        )

    def test_fitting_again_forgets_what_was_fitted_before(self, case):
        train = tiny_pairs()
        half = train.take(np.arange(len(train) // 2))
        twice = case.make().fit(half, half).fit(train, train)
        np.testing.assert_array_equal(
            twice.predict_logits(train), member_of(case).predict_logits(train)
        )

    def test_fitting_and_answering_leave_the_pairs_as_they_were(self, case):
        train = tiny_pairs()
        before = [array.copy() for array in arrays_in(train)]
        case.make().fit(train, train).predict_logits(train)
        for array, copy in zip(arrays_in(train), before, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_fits_without_validation_pairs_and_without_a_label(self, case):
        train = tiny_pairs()
        exact = train.take(np.flatnonzero(train.labels == 0))
        member = case.make().fit(exact, train.take(np.empty(0, np.int64)))
        logits = member.predict_logits(train)
        assert np.isfinite(logits).all()
        assert (logits.argmax(axis=1) == 0).all()


@each_kind
class TestSaving:
    def test_a_saved_member_answers_exactly_as_before(self, case, tmp_path):
        member, asked = member_of(case), tiny_pairs()
        member.save(tmp_path / "deep" / "member")
        again = type(member).load(tmp_path / "deep" / "member")
        assert again.name == member.name
        np.testing.assert_array_equal(again.predict_logits(asked), member.predict_logits(asked))

    def test_saving_what_was_loaded_writes_the_same_bytes(self, case, tmp_path):
        member = member_of(case)
        member.save(tmp_path / "first")
        type(member).load(tmp_path / "first").save(tmp_path / "second")
        written = {
            name: {
                path.relative_to(tmp_path / name): path.read_bytes()
                for path in (tmp_path / name).rglob("*")
                if path.is_file()
            }
            for name in ("first", "second")
        }
        assert written["first"] == written["second"]

    def test_an_unfitted_member_is_not_saved(self, case, tmp_path):
        with pytest.raises(NotFittedError):
            case.make().save(tmp_path / "member")
        assert not list(tmp_path.rglob("*.npz"))

    def test_a_format_of_the_future_is_refused(self, case, tmp_path):
        member_of(case).save(tmp_path)
        path = tmp_path / "member.json"
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "format": about["format"] + 1}))
        with pytest.raises(ReleaseError, match=str(about["format"] + 1)):
            member_class(case.kind).load(tmp_path)

    def test_a_folder_of_another_kind_is_refused(self, case, tmp_path):
        member_of(case).save(tmp_path)
        path = tmp_path / "member.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "another"}))
        with pytest.raises(ReleaseError, match="another"):
            member_class(case.kind).load(tmp_path)

    def test_a_folder_without_a_member_is_refused(self, case, tmp_path):
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            member_class(case.kind).load(tmp_path)

    def test_every_file_is_needed_and_checked(self, case, tmp_path):
        member_of(case).save(tmp_path)
        for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            with pytest.raises(ReleaseError, match=str(tmp_path)):
                member_class(case.kind).load(tmp_path)
            path.write_bytes(content)

    def test_no_file_can_run_code(self, case, tmp_path):
        member_of(case).save(tmp_path)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= PLAIN_FILES
        for path in files:
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    for name in arrays:
                        assert arrays[name].dtype != object  # reading one would raise


# The offline answers of these are int8's. Its gate is as wide as two dozen pairs ask for: half of
# them judge it, where one is already 8 %.
ROUNDED = {
    **TINY_LANGUAGE,
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 5e-3},
    "serving": {
        "offline": "int8",
        "measure_seconds": 0.0,
        "largest_difference": 10.0,
        "flip_rate": 0.3,
        "doubted": 1.0,
    },
}
INT8_CASES = [
    Case("cross_encoder", ROUNDED, tolerance=1e-4, reason=CASES[1].reason),
    Case("bi_encoder", ROUNDED),
]


@cache
def fitted_in_int8(case_number: int) -> Member:
    train = tiny_pairs()
    return INT8_CASES[case_number].make().fit(train, train)


@pytest.mark.parametrize("case", INT8_CASES, ids=lambda case: case.id)
class TestInt8:
    """The same laws where rounded networks answer, offline and in a service."""

    @pytest.fixture(params=["offline", "quickest"])
    def member(self, case, request, monkeypatch):
        found = fitted_in_int8(INT8_CASES.index(case))
        monkeypatch.setattr(Form, "variant_for", lambda *_: "int8")  # whatever was measured
        return found if request.param == "offline" else found.quickest()

    def test_it_is_int8_that_answers(self, member, monkeypatch):
        rounded = member.predict_logits(tiny_pairs())
        monkeypatch.setattr(Form, "known", lambda *_: "fp32")
        monkeypatch.setattr(Form, "variant_for", lambda *_: "fp32")
        with TemporaryDirectory() as folder:
            member.save(Path(folder))
            exact = type(member).load(Path(folder)).predict_logits(tiny_pairs())
        assert 1e-4 < np.abs(rounded - exact).max() < 1

    def test_a_pair_gets_the_same_logits_alone_and_in_a_batch(self, case, member):
        asked = tiny_pairs().without_labels()
        alone = [member.predict_logits(asked.take(np.array([row]))) for row in range(len(asked))]
        assert_same(member.predict_logits(asked), np.vstack(alone), case)
        rows = np.resize(np.arange(len(asked)), 500)
        assert_same(member.predict_logits(asked.take(rows)), np.vstack(alone)[rows], case)

    def test_a_saved_member_answers_exactly_as_before(self, member, tmp_path):
        member.save(tmp_path)
        again = type(member).load(tmp_path)
        expected = member.predict_logits(tiny_pairs())
        np.testing.assert_array_equal(again.predict_logits(tiny_pairs()), expected)
        quickest = again.quickest()
        np.testing.assert_array_equal(quickest.predict_logits(tiny_pairs()), expected)


class TestRegistry:
    def test_every_kind_is_in_this_suite(self):
        assert {case.kind for case in CASES} == set(KINDS)

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_every_kind_is_a_member(self, kind):
        member = make_member(kind, "any", {})
        assert isinstance(member, Member)
        assert member.name == "any"

    def test_an_unknown_kind_is_told_the_known(self):
        with pytest.raises(UnknownMemberKindError, match=r"(?s)'oracle'.*lexical"):
            member_class("oracle")

    def test_wider_tolerances_have_a_reason(self):
        assert all(case.reason for case in CASES if case.tolerance)

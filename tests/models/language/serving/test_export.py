"""An export is refused when it does not answer as the trained network does."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from models.errors import ConfigError, DataError, ExportError
from models.language.serving import export as exporting
from models.language.serving import network as networks
from models.language.serving import quantise as quantising
from models.language.serving.doubt import leads, smallest_doubt
from models.language.serving.form import Form
from models.language.serving.gate import UNMEASURED, Gap, complaint, measure_gap
from models.language.serving.halves import halved
from models.language.serving.options import ServingOptions
from models.typed import parse
from tests.models.language.serving.networks import (
    OPTIONS,
    PAD,
    QUERY_ROWS,
    Classifier,
    Mean,
    answers,
    classifier,
    export,
    exported,
    texts,
)


class TestGate:
    def test_differences_and_flips_are_measured(self):
        trained = np.array([[2.0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
        served = trained.copy()
        served[0, 1] = 2.5
        served[1, 0] = 0.75
        assert measure_gap(trained, served) == Gap(4, 1.5, 0.25)

    def test_a_tie_may_fall_either_way(self):
        trained = np.array([[1.0, 1, 0, 0]], np.float32)
        assert measure_gap(trained, trained[:, [1, 0, 2, 3]] + np.eye(4)[1]).flip_rate == 0
        assert measure_gap(trained, np.eye(4, dtype=np.float32)[[2]]).flip_rate == 1

    @pytest.mark.parametrize("broken", [np.nan, np.inf])
    def test_what_is_no_number_passes_no_gate(self, broken):
        trained = np.zeros((2, 4), np.float32)
        served = trained.copy()
        served[1, 2] = broken
        wide = replace(OPTIONS, largest_difference=1e9, flip_rate=1.0)
        assert "not a finite" in complaint("int8", measure_gap(trained, served), wide)

    def test_each_limit_is_held(self):
        options = ServingOptions(largest_difference=0.5, flip_rate=0.01)
        assert complaint("int8", Gap(100, 0.5, 0.01), options) == ""
        assert "differs by 0.51" in complaint("int8", Gap(100, 0.51, 0.01), options)
        assert "2.00%" in complaint("int8", Gap(100, 0.1, 0.02), options)
        assert "differs by 0.4" in complaint("fp32", Gap(100, 0.4, 0.0), options)
        assert complaint("int8", UNMEASURED, options)
        assert complaint("int8", Gap(100, 0.1, 0.0, doubted=0.1), options) == ""
        assert "11.00% are left to" in complaint("int8", Gap(100, 0.1, 0.0, 0.11), options)

    def test_no_pairs_and_other_shapes_are_refused(self):
        none = np.zeros((0, 4), np.float32)
        with pytest.raises(DataError, match="at least one"):
            measure_gap(none, none)
        with pytest.raises(ExportError, match=r"\(2, 4\)"):
            measure_gap(np.zeros((2, 4), np.float32), np.zeros((1, 4), np.float32))


def _exporter(change=lambda model: model):
    """An exporter of `classifier()` that hands on what `change` makes of the right graph.

    It takes the graph that was exported before: torch needs seconds for one.
    """
    return lambda *_: change(onnx.load(exported() / "fp32.onnx"))


@pytest.fixture
def quick(monkeypatch):
    """Exports of `classifier()` take no time."""
    exported()
    monkeypatch.setattr(networks, "onnx_network", _exporter())


def _other_weight(model: onnx.ModelProto) -> onnx.ModelProto:
    large = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims) * len(tensor.dims))
    weights = numpy_helper.to_array(large).copy()
    weights[:, :4] *= -1
    large.CopyFrom(numpy_helper.from_array(weights, large.name))
    return model


def _swapped_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = {"ids": "segments", "segments": "ids"}.get(name, name)
    return model


def _no_number(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, "f"), tensor.name))
    return model


def _other_width(model: onnx.ModelProto) -> onnx.ModelProto:
    rows = model.graph.output[0].name
    twice = onnx.helper.make_node("Concat", [rows, rows], ["twice"], axis=1)
    model.graph.node.append(twice)
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("twice", onnx.TensorProto.FLOAT, ["texts", 8])
    )
    return model


def _unknown_operation(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[-1].op_type = "Guess"
    return model


def _stops_midway(model: onnx.ModelProto) -> onnx.ModelProto:
    # What onnxruntime finds out when it runs.
    rows = model.graph.output[0].name
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [-1, 77])
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", [rows, "shape"], ["shaped"]))
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("shaped", onnx.TensorProto.FLOAT, ["texts", 77])
    )
    return model


BROKEN = [
    (_other_weight, "differs by"),
    (_no_number, "not a finite"),
    (_other_width, "shape"),
    (_unknown_operation, "does not run"),
    (_stops_midway, "does not run"),
]


class TestBrokenExports:
    @pytest.mark.parametrize(("change", "message"), [*BROKEN, (_swapped_inputs, "does not run")])
    def test_a_wrong_graph_is_refused(self, change, message, monkeypatch, tmp_path):
        exported()
        monkeypatch.setattr(networks, "onnx_network", _exporter(change))
        with pytest.raises(ExportError, match=f"does not answer as the trained.*{message}"):
            export(classifier(), tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.usefixtures("quick")
    @pytest.mark.parametrize(("change", "message"), BROKEN)
    @pytest.mark.parametrize("rows_are_logits", [False, True])
    def test_wrong_int8_is_left_out(self, change, message, rows_are_logits, monkeypatch, tmp_path):
        monkeypatch.setattr(
            quantising, "quantised", lambda *_: change(onnx.load(exported() / "int8.onnx"))
        )
        if change is _other_weight and rows_are_logits:
            # What it says is wrong is answered by float32; and so much is not worth it.
            message = "are left to fp32"
        report = export(
            classifier(),
            tmp_path,
            options=replace(OPTIONS, spared=(0.0,)),
            rows_are_logits=rows_are_logits,
        )
        assert set(report.variants) == {"fp32"}
        assert re.search(message, report.left_out["int8"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["form.json", "fp32.onnx"]
        assert Form.load(tmp_path).run(texts(40)).shape == (40, 4)

    def test_a_network_that_torch_cannot_write_is_refused(self, monkeypatch, tmp_path):
        def giving_up(*_given, **_more):
            raise RuntimeError("it branches on what tokens are")

        monkeypatch.setattr(torch.onnx, "export", giving_up)
        with pytest.raises(ExportError, match="cannot write Classifier as ONNX: it branches"):
            export(classifier(), tmp_path)

    def test_a_graph_that_ignores_the_mask_is_refused(self, monkeypatch, tmp_path):
        class Unmasked(Mean):
            def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
                return super().forward(ids, torch.ones_like(mask) + 0 * mask, segments)

        wrong, right = classifier(Unmasked), networks.onnx_network
        monkeypatch.setattr(networks, "onnx_network", lambda _, *given: right(wrong, *given))
        with pytest.raises(ExportError, match="does not answer as the trained"):
            export(classifier(Mean), tmp_path)

    @pytest.mark.usefixtures("quick")
    def test_int8_that_fails_is_left_out_with_the_reason(self, tmp_path):
        report = export(classifier(), tmp_path, options=replace(OPTIONS, largest_difference=1e-6))
        assert set(report.variants) == {"fp32"}
        assert "differs by" in report.left_out["int8"]

    @pytest.mark.usefixtures("quick")
    def test_int8_spares_no_more_products_than_it_must(self, monkeypatch, tmp_path):
        def quantised(_scales, spared, _data):
            right = onnx.load(exported() / "int8.onnx")
            return right if spared >= 0.5 else _other_weight(right)

        monkeypatch.setattr(quantising, "quantised", quantised)
        strict = replace(OPTIONS, spared=(0.0, 0.5, 0.9))
        report = export(classifier(), tmp_path, options=strict)
        assert report.variants["int8"].spared == 0.5
        assert not report.left_out

    @pytest.mark.usefixtures("quick")
    def test_no_lucky_try_makes_up_for_being_judged_wrong(self, monkeypatch, tmp_path):
        # Each try is wrong on the pairs named; by the fourth nothing is wrong with int8 any more.
        halves, tried = halved(QUERY_ROWS), []
        wrong = [halves.choosing, halves.judging, np.empty(0, np.int64)]
        asked = texts(200, seed=1)

        def answered(run):
            logits = run(asked)
            if (at := len(tried) - 1) >= 0:
                logits[wrong[at]] = -logits[wrong[at]]
            return logits

        def quantised(_scales, spared, _data):
            tried.append(spared)
            return onnx.load(exported() / "int8.onnx")

        monkeypatch.setattr(quantising, "quantised", quantised)
        report = exporting.export_form(
            classifier(),
            tmp_path,
            sample=texts(100, seed=2),
            pad_id=PAD,
            takes_segments=True,
            options=replace(OPTIONS, largest_difference=1e9),
            answers=answered,
            query_rows=QUERY_ROWS,
        )
        assert tried == [0.0, 0.25]
        assert set(report.variants) == {"fp32"}
        assert f"on {len(halves.judging)} held-out pairs: 100.00% of" in report.left_out["int8"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["form.json", "fp32.onnx"]

    @pytest.mark.usefixtures("quick")
    def test_doubt_is_chosen_without_the_pairs_that_judge_it(self, monkeypatch, tmp_path):
        given = []

        def choosing(trained, served, flip_rate):
            given.append((trained, served))
            return smallest_doubt(trained, served, flip_rate)

        monkeypatch.setattr(exporting, "smallest_doubt", choosing)
        export(classifier(), tmp_path, rows_are_logits=True)
        asked = texts(200, seed=1).take(halved(QUERY_ROWS).choosing)
        for found, variant in zip(given[0], ("fp32", "int8"), strict=True):
            expected = Form.load(exported()).run(asked, variant)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.usefixtures("quick")
    def test_int8_leaves_close_decisions_to_float32(self, tmp_path):
        strict = replace(OPTIONS, flip_rate=0.02, doubted=0.5)
        about = export(classifier(), tmp_path, options=strict, rows_are_logits=True).variants[
            "int8"
        ]
        assert about.gap.flip_rate <= 0.02
        assert about.gap.doubted > 0
        assert about.doubt > 0
        asked = texts(200, seed=1)
        whole = Form.load(exported()).run(asked, "int8")  # in which float32 has no say
        doubted = leads(whole) <= about.doubt
        assert doubted[halved(QUERY_ROWS).judging].mean() == about.gap.doubted
        found, exact = (Form.load(tmp_path).run(asked, variant) for variant in ("int8", "fp32"))
        np.testing.assert_allclose(found[doubted], exact[doubted], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[~doubted], whole[~doubted], rtol=1e-4, atol=1e-5)

    @pytest.mark.usefixtures("quick")
    def test_no_sample_is_refused(self, tmp_path):
        with pytest.raises(ExportError, match="at least one"):
            exporting.export_form(
                classifier(),
                tmp_path,
                sample=texts(0),
                pad_id=PAD,
                takes_segments=True,
                options=OPTIONS,
                answers=lambda run: run(texts(3)),
                query_rows=QUERY_ROWS[:3],
            )


class TestReport:
    def test_it_holds_the_gap_of_every_variant_on_the_pairs_that_judged_it(self):
        report = Form.load(exported()).report
        rows = {"fp32": np.arange(200), "int8": halved(QUERY_ROWS).judging}
        for variant, about in report.variants.items():
            asked = texts(200, seed=1).take(rows[variant])
            gap = measure_gap(
                answers(classifier(), asked), Form.load(exported()).run(asked, variant)
            )
            assert about.gap.pairs == len(asked)
            assert about.gap.largest_difference == pytest.approx(gap.largest_difference, abs=1e-4)
            assert about.gap.flip_rate == pytest.approx(gap.flip_rate, abs=0.006)

    @pytest.mark.usefixtures("quick")
    def test_times_are_measured_for_every_variant_and_shape(self, tmp_path):
        options = replace(OPTIONS, measure_seconds=0.01, shapes=(1, 5), threads=1)
        report = export(classifier(), tmp_path, options=options)
        assert report.threads == 1
        assert report.machine
        for about in report.variants.values():
            assert set(about.milliseconds) == {1, 5}
            assert all(time > 0 for time in about.milliseconds.values())

    def test_the_same_network_gives_the_same_bytes(self, tmp_path):
        export(classifier(), tmp_path)
        for path in exported().iterdir():
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()

    def test_no_file_names_a_folder_of_this_machine(self):
        for path in exported().iterdir():
            assert b".py" not in path.read_bytes()
            assert str(Path.home()).encode() not in path.read_bytes()

    def test_segments_are_not_asked_for_where_they_do_not_matter(self, tmp_path):
        module = classifier(takes_segments=False)
        export(module, tmp_path, takes_segments=False)
        inputs = onnx.load(tmp_path / "fp32.onnx").graph.input
        assert [given.name for given in inputs] == ["ids", "mask"]
        asked = texts(20, seed=3)
        found = Form.load(tmp_path).run(asked, "fp32")
        np.testing.assert_allclose(found, answers(module, asked), rtol=1e-4, atol=1e-5)

    @pytest.mark.usefixtures("quick")
    def test_the_module_is_left_in_evaluation_mode(self, tmp_path):
        module = classifier().train()
        export(module, tmp_path)
        assert not module.training


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"variants": []},
            {"variants": ["int8", "int8"]},
            {"flip_rate": -0.1},
            {"largest_difference": float("nan")},
            {"measure_seconds": float("nan")},
            {"measure_seconds": float("inf")},
            {"batch_tokens": 0},
            {"shapes": [4, 1]},
            {"shapes": []},
            {"threads": -1},
            {"measure_seconds": -1},
            {"spared": []},
            {"spared": [1.0]},
            {"doubted": -1},
            {"offline": "int8", "variants": ["fp32"]},
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            parse(ServingOptions, wrong)

    @pytest.mark.usefixtures("quick")
    def test_int8_alone_still_writes_float32(self, tmp_path):
        report = export(classifier(), tmp_path, options=replace(OPTIONS, variants=("int8",)))
        assert set(report.variants) == {"fp32", "int8"}


def test_classifier_and_mean_differ():
    # Else the tests above would compare a network with itself.
    asked = texts(10)
    assert not np.allclose(answers(classifier(Classifier), asked), answers(classifier(Mean), asked))

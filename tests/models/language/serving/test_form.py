"""What a served form promises: torch's answers, whatever the batch, the thread and the engine."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cores import Cores
from models.errors import ConfigError, EsciError, ReleaseError
from models.language.serving import engines
from models.language.serving.engines import ENGINE_VARIABLE, ENGINES, THREADS_VARIABLE
from models.language.serving.form import Form
from models.language.serving.manifest import fastest_variant
from tests.gpu import needs_gpu, using_gpu
from tests.models.language.serving.networks import (
    Classifier,
    Mean,
    answers,
    classifier,
    exported,
    texts,
)
from tests.test_imports import _run_without

VARIANTS = ("fp32", "int8")
# Padding, threads and the number of texts change the order in which floats are added.
ROUNDING = 1e-5

each_variant = pytest.mark.parametrize("variant", VARIANTS)


def form(kind: type[Classifier] = Classifier, **options) -> Form:
    return Form.load(exported(kind), **options)


@pytest.mark.parametrize("kind", [Classifier, Mean])
def test_float32_answers_as_torch_does(kind):
    asked = texts(60, seed=3)
    expected = answers(classifier(kind), asked)
    np.testing.assert_allclose(form(kind).run(asked, "fp32"), expected, rtol=1e-4, atol=ROUNDING)


@pytest.mark.parametrize("kind", [Classifier, Mean])
def test_int8_answers_nearly_as_torch_does_and_not_by_accident(kind):
    asked = texts(200, seed=3)
    expected = answers(classifier(kind), asked)
    found = form(kind).run(asked, "int8")
    error = np.sqrt(((found - expected) ** 2).mean())
    assert 1e-4 < error < 0.05 * expected.std()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


@each_variant
@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=60), threads=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_text_is_answered_alone_as_among_others(variant, rows, threads):
    asked, served = texts(40, seed=4), form(threads=threads)
    alone = [served.run(asked.take(np.array([row])), variant)[0] for row in rows]
    together = served.run(asked.take(np.array(rows)), variant)
    np.testing.assert_allclose(together, np.array(alone), rtol=ROUNDING, atol=ROUNDING)


@each_variant
def test_a_loud_neighbour_changes_nothing(variant):
    # Scales taken from a whole batch would let one text take the others' precision.
    asked, served = texts(8, seed=4, longest=20), form(threads=1)
    quiet = served.run(asked, variant)
    loud = texts(8, seed=5, longest=20)
    both = type(asked)(
        np.concatenate([asked.ids, loud.ids]),
        np.concatenate([asked.segments, loud.segments]),
        np.concatenate([asked.starts, loud.starts[1:] + asked.starts[-1]]),
    )
    found = served.run(both, variant)[: len(asked)]
    np.testing.assert_allclose(found, quiet, rtol=ROUNDING, atol=ROUNDING)


@each_variant
def test_answers_are_float32_and_none_for_no_texts(variant):
    assert form().run(texts(3), variant).dtype == np.float32
    assert form().run(texts(0), variant).shape == (0, 4)


@each_variant
def test_a_text_of_any_length_is_answered(variant):
    for length in (1, 2, 100):
        asked = texts(1, seed=6, longest=2).take(np.zeros(1, np.int64))
        ids = np.resize(asked.ids, length)
        one = type(asked)(ids, np.zeros(length, np.uint8), np.array([0, length]))
        expected = answers(classifier(), one)
        assert np.isfinite(form().run(one, variant)).all()
        np.testing.assert_allclose(form().run(one, "fp32"), expected, rtol=1e-4, atol=ROUNDING)


def test_many_threads_may_ask_at_once():
    served, asked = form(threads=2), [texts(30, seed=seed) for seed in range(8)]
    expected = [served.run(one, "int8") for one in asked]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: served.run(one, "int8"), asked * 4))
    for one, other in zip(found, expected * 4, strict=True):
        np.testing.assert_allclose(one, other, rtol=ROUNDING, atol=ROUNDING)


TABLE = {"fp32": {1: 1.0, 40: 9.0}, "int8": {1: 2.0, 40: 3.0}}


class TestChoice:
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [(0, "fp32"), (1, "fp32"), (6, "fp32"), (7, "int8"), (40, "int8"), (5000, "int8")],
    )
    def test_the_fastest_at_the_nearest_shape_answers(self, asked, expected):
        assert fastest_variant(TABLE, asked) == expected

    def test_without_a_measurement_the_first_answers(self):
        assert fastest_variant({"fp32": {}, "int8": {}}, 40) == "fp32"

    def test_a_form_follows_its_table(self, tmp_path):
        form().save(tmp_path)
        path = tmp_path / "form.json"
        about = json.loads(path.read_text())
        for variant, times in TABLE.items():
            about["variants"][variant]["milliseconds"] = times
        path.write_text(json.dumps(about))
        served, asked = Form.load(tmp_path), texts(40, seed=7)
        assert [served.variant_for(n) for n in (1, 40)] == ["fp32", "int8"]
        np.testing.assert_array_equal(served.run(asked), served.run(asked, "int8"))
        one = asked.take(np.array([0]))
        np.testing.assert_array_equal(served.run(one), served.run(one, "fp32"))

    def test_what_was_left_out_gives_way_to_float32(self):
        assert [form().known(name) for name in ("int8", "int4")] == ["int8", "fp32"]

    def test_only_what_is_asked_is_opened(self):
        served = form(threads=1)
        served.run(texts(3), "fp32")
        assert {variant for variant, _ in served._sessions} == {"fp32"}
        served.open()
        assert {variant for variant, _ in served._sessions} == {"fp32"}  # the table's choice


class TestEngines:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("threads", [1, 2])
    def test_every_engine_gives_the_same_answers(self, engine, threads):
        if engine == "openvino":
            pytest.importorskip("openvino", reason="the extra openvino is not installed")
        asked = texts(50, seed=8)
        served = form(engine=engine, threads=threads, trained=classifier)
        expected = form().run(asked, "fp32")
        np.testing.assert_allclose(served.run(asked), expected, rtol=1e-4, atol=ROUNDING)
        if engine != "onnxruntime":  # float32 is all that they have
            found = served.run(asked, "int8")
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=ROUNDING)

    @needs_gpu
    def test_torch_answers_from_a_gpu(self):
        asked = texts(50, seed=8)
        served = form(engine="torch", trained=classifier)
        with using_gpu():
            found = served.run(asked)
        np.testing.assert_allclose(found, form().run(asked, "fp32"), rtol=1e-2, atol=1e-2)

    def test_the_environment_chooses(self, monkeypatch):
        monkeypatch.setenv(ENGINE_VARIABLE, "torch")
        monkeypatch.setenv(THREADS_VARIABLE, "3")
        served = form(trained=classifier)
        assert (served.engine, served.threads) == ("torch", 3)
        assert form(engine="onnxruntime", threads=1).engine == "onnxruntime"

    def test_a_container_has_the_cores_of_its_quota(self, monkeypatch):
        monkeypatch.delenv(THREADS_VARIABLE, raising=False)
        for quota, expected in ((2.5, 2), (0.5, 1), (None, 8)):
            monkeypatch.setattr(engines, "read_cores", lambda quota=quota: Cores(64, 8, quota))
            assert form().threads == expected
            assert form(threads=3).threads == 3
        monkeypatch.setenv(THREADS_VARIABLE, "5")
        assert form().threads == 5

    def test_an_unknown_engine_is_told_the_known(self, monkeypatch):
        with pytest.raises(ConfigError, match=r"'tensorrt'.*onnxruntime, openvino, torch"):
            form(engine="tensorrt")
        monkeypatch.setenv(THREADS_VARIABLE, "many")
        with pytest.raises(ConfigError, match="many"):
            form()

    def test_torch_without_a_network_is_refused(self):
        with pytest.raises(ConfigError, match="no trained network"):
            form(engine="torch")

    def test_a_missing_engine_names_its_extra(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "openvino", None)
        with pytest.raises(EsciError, match=r"\.\[openvino\]"):
            form(engine="openvino").run(texts(2))


class TestFolder:
    def test_saving_copies_every_byte(self, tmp_path):
        form().save(tmp_path / "first")
        Form.load(tmp_path / "first").save(tmp_path / "second")
        names = sorted(path.name for path in exported().iterdir())
        assert names == ["form.json", "fp32.onnx", "int8.onnx"]
        for name in names:
            content = (exported() / name).read_bytes()
            assert (tmp_path / "first" / name).read_bytes() == content
            assert (tmp_path / "second" / name).read_bytes() == content

    def test_saving_where_it_is_changes_nothing(self, tmp_path):
        form().save(tmp_path)
        Form.load(tmp_path).save(tmp_path)
        Form.load(tmp_path).run(texts(2))

    @pytest.mark.parametrize("name", ["form.json", "fp32.onnx", "int8.onnx"])
    def test_every_file_is_needed_and_checked(self, name, tmp_path):
        form().save(tmp_path)
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Form.load(tmp_path)
        path.unlink()
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Form.load(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 99}, "format 99"),
            ({"variants": {}}, r"variants \[\]; expected fp32"),
            ({"colour": "red"}, "colour"),
            ({"width": "wide"}, "width"),
        ],
    )
    def test_a_foreign_manifest_is_refused(self, change, message, tmp_path):
        form().save(tmp_path)
        path = tmp_path / "form.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(ReleaseError, match=message):
            Form.load(tmp_path)

    def test_a_file_outside_the_folder_is_refused(self, tmp_path):
        form().save(tmp_path / "form")
        shutil.copy(tmp_path / "form" / "fp32.onnx", tmp_path / "fp32.onnx")
        path = tmp_path / "form" / "form.json"
        path.write_text(path.read_text().replace('"fp32.onnx"', '"../fp32.onnx"'))
        with pytest.raises(ReleaseError, match="not there"):
            Form.load(tmp_path / "form")

    def test_a_file_that_is_no_network_is_refused_when_opened(self, tmp_path):
        (tmp_path / "fp32.onnx").write_bytes(b"not a network")
        served = Form(tmp_path, replace(form().report))
        with pytest.raises(ReleaseError, match=r"fp32\.onnx"):
            served.run(texts(2), "fp32")

    def test_an_unknown_variant_is_told_the_known(self):
        with pytest.raises(ConfigError, match="fp32, int8"):
            form().run(texts(2), "int4")


def test_a_form_answers_without_torch_transformers_or_onnx():
    asked = texts(40, seed=9)
    expected = form().run(asked, "int8")
    code = f"""
from pathlib import Path
import numpy as np
from models.language.reading.sequences import Sequences
from models.language.serving.form import Form
asked = Sequences(np.array({asked.ids.tolist()}, np.int32),
                  np.array({asked.segments.tolist()}, np.uint8),
                  np.array({asked.starts.tolist()}, np.int64))
rows = Form.load(Path({str(exported())!r})).run(asked, "int8")
assert np.abs(rows - np.array({expected.tolist()})).max() < {ROUNDING}
"""
    heavy = ("torch", "transformers", "pandas", "pyarrow", "scipy", "sklearn", "onnx", "onnx_ir")
    _run_without(heavy, code)


@pytest.mark.slow
def test_memory_stays_flat_over_a_hundred_thousand_texts():
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    served, asked = form(threads=2), texts(4000, seed=10, longest=100)
    generator = np.random.default_rng(11)

    def answer(count: int) -> None:
        """Requests of many sizes, until so many texts are answered."""
        done = 0
        while done < count:
            size = int(generator.choice([1, 7, 40, 128, 1000]))
            served.run(asked.take(generator.integers(len(asked), size=size)), "int8")
            done += size

    answer(20_000)
    before = process.memory_info().rss
    answer(100_000)
    grown = (process.memory_info().rss - before) / 2**20
    assert grown < 16, f"{grown:.1f} MiB more"


def test_the_folder_of_an_export_holds_nothing_else():
    assert {path.suffix for path in Path(exported()).iterdir()} == {".json", ".onnx"}

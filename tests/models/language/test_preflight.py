import shutil

import pytest

from models.errors import ConfigError, MemberError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.networks.encoder import open_encoder
from models.language.preflight import backbone_needs
from models.language.presets import LoraOptions
from models.language.reading.reader import TextOptions
from models.language.tiny import write_tiny
from models.needs import Needs


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "bert", "bert")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "qwen", "qwen2")


def needs(folder, lora=None, **keys):
    return backbone_needs(str(folder), lora, **{"allow_download": False} | keys)


def test_a_backbone_is_known_by_its_content_and_not_by_its_place(bert, tmp_path):
    before = needs(bert).sources["backbone"]
    other = shutil.copytree(bert, tmp_path / "other")
    assert needs(other).sources == {"backbone": before}
    seen = {before}
    write_json(other / "config.json", read_json(other / "config.json") | {"hidden_act": "relu"})
    seen.add(needs(other).sources["backbone"])
    (other / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes() + b"\n")
    seen.add(needs(other).sources["backbone"])
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    seen.add(needs(other).sources["backbone"])
    assert len(seen) == 4


def test_adapters_need_their_module_asked_for_or_by_the_preset(bert, qwen):
    assert needs(bert).modules == needs(qwen, False).modules == ()
    assert needs(bert, True).modules == needs(bert, LoraOptions()).modules == ("peft",)
    assert needs(qwen).modules == ("peft",)
    assert needs(qwen, modules=["more"]).modules == ("more", "peft")


def test_one_that_is_made_on_the_spot_is_none_to_look_for():
    assert backbone_needs("tiny:qwen2", None, allow_download=False) == Needs()


@pytest.mark.parametrize("name", ["./absent", "nobody/has-this-model"])
def test_one_that_is_not_there_is_an_error_now(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(MemberError, match="backbone"):
        backbone_needs(name, None, allow_download=False)


@pytest.mark.parametrize(
    ("architecture", "asked", "message"),
    [
        ("bert", {"max_tokens": 257}, "max_tokens 257 .*it has positions for 256; expected at"),
        ("bert", {"trained_layers": 3}, "trained_layers 3 of a backbone that has 2; expected at"),
        ("qwen2", {"pooling": "cls"}, "pooling cls .*reads from left to right.*expected last"),
    ],
)
def test_what_a_backbone_cannot_do_is_refused_in_the_words_of_the_fit(
    bert, qwen, architecture, asked, message, tmp_path
):
    folder = {"bert": bert, "qwen2": qwen}[architecture]
    with pytest.raises(ConfigError, match=message) as before:
        needs(folder, **asked)

    def begins_a_fit():
        text = TextOptions(max_tokens=asked.get("max_tokens", 64))
        backbone = find_backbone(str(folder), tmp_path)
        encoder, _ = open_encoder(backbone, text, pooling=asked.get("pooling"))
        encoder.train_top(asked["trained_layers"])

    with pytest.raises(ConfigError, match=message) as within:
        begins_a_fit()
    assert str(before.value) == str(within.value)


def test_what_it_can_just_do_is_not(bert, qwen):
    assert needs(bert, max_tokens=256, trained_layers=2, pooling="cls")
    assert needs(qwen, max_tokens=256, trained_layers=0, pooling="mean")

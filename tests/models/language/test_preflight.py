import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel

from models.errors import ConfigError, MemberError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.networks.encoder import open_encoder
from models.language.networks.loading import quiet
from models.language.preflight import backbone_needs
from models.language.presets import LoraOptions
from models.language.reading.reader import TextOptions
from models.language.tiny import write_tiny
from models.needs import Needs
from models.registry import check_fittable, member_class
from models.training.loop import train
from models.training.options import TrainingOptions
from models.training.steps.precision import mixed_precision
from pipelines.adapting.config import AdaptConfig
from tests.models.training.toy import ToyTask


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
        ("albert", {"trained_layers": 1}, "'albert' cannot be cut between layers: .*to train all"),
        ("albert", {"trained_layers": 9}, "'albert' cannot be cut between layers: .*to train all"),
        ("mpnet", {"checkpointing": True}, "checkpointing with .*'mpnet' has to keep its activ"),
        ("qwen2", {"pooling": "cls"}, "pooling cls .*reads from left to right.*expected last"),
    ],
)
def test_what_a_backbone_cannot_do_is_refused_in_the_words_of_the_fit(
    bert, qwen, architecture, asked, message, tmp_path
):
    folder = {"bert": bert, "qwen2": qwen}.get(architecture)
    if folder is None:
        folder = like(bert, tmp_path / "like", architecture)
    training = TrainingOptions(
        trained_layers=asked.get("trained_layers"), checkpointing=asked.get("checkpointing", False)
    )
    known = {key: value for key, value in asked.items() if key in ("max_tokens", "pooling")}
    with pytest.raises(ConfigError, match=message) as before:
        needs(folder, training=training, **known)

    def begins_a_fit():
        text = TextOptions(max_tokens=asked.get("max_tokens", 64))
        backbone = find_backbone(str(folder), tmp_path)
        encoder, _ = open_encoder(
            backbone, text, pooling=asked.get("pooling"), checkpointing=training.checkpointing
        )
        encoder.train_top(asked["trained_layers"])

    with pytest.raises(ConfigError, match=message) as within:
        begins_a_fit()
    assert str(before.value) == str(within.value)


def like(bert, folder, architecture):
    """A random model of another architecture with the tokenizer of `bert`."""
    said = read_json(bert / "config.json") | {"model_type": architecture}
    folder.mkdir()
    shutil.copy(bert / "tokenizer.json", folder)
    with quiet():
        config = AutoConfig.for_model(**said, embedding_size=said["hidden_size"])
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


def test_what_it_can_just_do_is_not(bert, qwen, tmp_path):
    assert needs(bert, max_tokens=256, training=TrainingOptions(trained_layers=2), pooling="cls")
    assert needs(qwen, max_tokens=256, training=TrainingOptions(trained_layers=0), pooling="mean")
    assert needs(bert, training=TrainingOptions(checkpointing=True))
    shared = like(bert, tmp_path / "shared", "albert")
    assert needs(shared, training=TrainingOptions(trained_layers=0))
    assert needs(qwen, False, training=TrainingOptions(fgm=0.5))


def of_kind(kind, **options):
    """What is asked of the options of `kind` before a fit."""
    if kind == "adapt":
        return AdaptConfig(**options).needs()
    return check_fittable(kind, member_class(kind).Options(**options))


each_kind = pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder", "adapt"])


@each_kind
def test_an_adversary_beside_adapters_is_refused_in_the_words_of_the_training(kind, qwen):
    training = TrainingOptions(fgm=0.5)
    still = ToyTask()
    still.adversarial = list
    with pytest.raises(ConfigError) as within:
        train(still, training, 7)
    for asked in ({"backbone": "tiny", "lora": True}, {"backbone": str(qwen)}):
        with pytest.raises(ConfigError) as before:
            of_kind(kind, training=training, **asked)
        assert str(before.value) == str(within.value)
    assert of_kind(kind, training=training, backbone="tiny") == Needs()


@each_kind
def test_half_precision_is_refused_in_the_words_of_the_training_where_there_is_no_gpu(
    kind, monkeypatch
):
    where = "models.training.steps.processes.training_device"
    asked = {"backbone": "tiny", "training": TrainingOptions(precision="fp16")}
    monkeypatch.setattr(where, lambda: torch.device("cpu"))
    with pytest.raises(ConfigError) as within:
        mixed_precision("fp16", torch.device("cpu"))
    with pytest.raises(ConfigError) as before:
        of_kind(kind, **asked)
    assert str(before.value) == str(within.value)
    monkeypatch.setattr(where, lambda: torch.device("cuda"))
    assert of_kind(kind, **asked) == Needs()


def test_ordinary_options_are_looked_through_without_torch(bert):
    code = (
        "import sys; from models.members.cross_encoder import CrossEncoderOptions; "
        f"CrossEncoderOptions(backbone={str(bert)!r}).needs(); "
        "print({'torch', 'transformers', 'accelerate'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

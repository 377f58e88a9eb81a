"""The presets agree with one another and with what the code can open."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import CONFIG_MAPPING

from models.errors import ConfigError
from models.language.presets import (
    MINILM_SHA256,
    PRESETS,
    LoraOptions,
    Preset,
    default_preset,
    is_decoder,
)
from models.language.tiny import ARCHITECTURES
from models.typed import known_keys, parse, plain

ROOT = Path(__file__).parents[3]
DECODERS = {"qwen2", "qwen3", "llama"}
DEFAULTS = {name: default_preset({"model_type": name}) for name in (*ARCHITECTURES, "roberta")}
ALL = {**PRESETS, **DEFAULTS}


@pytest.mark.parametrize("name", sorted(ALL))
class TestEveryPreset:
    def test_its_architecture_can_be_opened(self, name):
        assert ALL[name].architecture in {*ARCHITECTURES, "roberta"} <= set(CONFIG_MAPPING)

    def test_decoders_read_their_last_token_and_are_trained_by_adapters(self, name):
        preset = ALL[name]
        is_decoder = preset.architecture in DECODERS
        assert (preset.pooling == "last") == is_decoder
        assert preset.lora == is_decoder

    def test_its_numbers_are_of_the_usual_size(self, name):
        preset = ALL[name]
        assert 1e-5 <= preset.learning_rate <= 3e-4
        assert preset.max_tokens is None or preset.max_tokens >= 512

    def test_it_survives_a_round_trip(self, name):
        assert parse(Preset, plain(ALL[name])) == ALL[name]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_named_preset_says_where_it_is_found(name):
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", PRESETS[name].hub or "")
    assert not re.search(r"[/:]", name)


def test_what_the_field_uses_is_there():
    assert {preset.architecture for preset in PRESETS.values()} >= {
        "bert",
        "deberta-v2",
        "xlm-roberta",
        "big_bird",
        "modernbert",
        "qwen2",
        "qwen3",
        "llama",
    }
    assert PRESETS["minilm"].sha256 == MINILM_SHA256
    assert not PRESETS["bigbird-base"].markers


def test_a_default_claims_nothing_of_texts_and_tokenizers():
    for name, preset in DEFAULTS.items():
        assert preset.architecture == name
        assert (preset.hub, preset.tokenizer, preset.max_tokens, preset.sha256) == (None,) * 4
    assert not DEFAULTS["big_bird"].markers


@pytest.mark.parametrize("classes", [3, "Bert", None, {}, [3, None]])
def test_a_list_of_classes_that_is_none_says_nothing(classes):
    named = default_preset({"model_type": "bert", "architectures": classes})
    assert named == default_preset({"model_type": "bert"})


def test_decoders_are_known_unless_they_say_that_they_look_both_ways():
    assert all(is_decoder({"model_type": name}) for name in DECODERS)
    assert not is_decoder({"model_type": "bert"})
    assert not is_decoder({"model_type": ["qwen2"]})
    assert not is_decoder({"model_type": "qwen2", "is_causal": False})
    assert not is_decoder({"model_type": "gemma3_text", "use_bidirectional_attention": True})


@pytest.mark.parametrize("name", known_keys(Preset))
def test_every_field_is_read_by_somebody(name):
    sources = [path for part in ("models", "pipelines") for path in (ROOT / part).rglob("*.py")]
    used = [path for path in sources if re.search(rf"preset\.{name}\b", path.read_text())]
    assert used, f"nobody reads {name}"


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_adapters_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected a rank"):
        LoraOptions(**wrong)


def test_an_unknown_option_of_adapters_is_refused():
    with pytest.raises(ValidationError):
        parse(LoraOptions, {"ranks": 4})

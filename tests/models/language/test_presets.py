"""The presets agree with one another and with what the code can open."""

import re

import pytest
from pydantic import ValidationError

from models.errors import ConfigError
from models.language.networks.anatomy import _ANATOMIES
from models.language.presets import BY_ARCHITECTURE, MINILM_SHA256, PRESETS, LoraOptions, Preset
from models.language.tiny import ARCHITECTURES
from models.typed import parse, plain

DECODERS = {"qwen2", "qwen3", "llama"}
ALL = {**PRESETS, **BY_ARCHITECTURE}


@pytest.mark.parametrize("name", sorted(ALL))
class TestEveryPreset:
    def test_its_architecture_can_be_opened(self, name):
        assert ALL[name].architecture in _ANATOMIES

    def test_decoders_read_their_last_token_and_are_trained_by_adapters(self, name):
        preset = ALL[name]
        is_decoder = preset.architecture in DECODERS
        assert (preset.pooling == "last") == is_decoder
        assert preset.lora == is_decoder

    def test_its_numbers_are_of_the_usual_size(self, name):
        preset = ALL[name]
        assert 1e-5 <= preset.learning_rate <= 3e-4
        assert preset.max_tokens >= 512

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


def test_every_architecture_with_an_anatomy_has_a_preset():
    assert set(BY_ARCHITECTURE) == set(_ANATOMIES) >= set(ARCHITECTURES)
    assert all(name == preset.architecture for name, preset in BY_ARCHITECTURE.items())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_adapters_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected a rank"):
        LoraOptions(**wrong)


def test_an_unknown_option_of_adapters_is_refused():
    with pytest.raises(ValidationError):
        parse(LoraOptions, {"ranks": 4})

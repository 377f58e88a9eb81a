"""Tiny backbones: every architecture, made of texts and a seed and nothing else."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from models.errors import ConfigError
from models.language.tiny import _FAMILIES, ARCHITECTURES, MOST_TOKENS, _trained, write_tiny
from tests.tiny import tiny_products

TEXTS = [*tiny_products().field("title")]
FILES = {"config.json", "model.safetensors", "tokenizer.json"}


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestTiny:
    def test_it_is_a_folder_as_the_field_writes_them(self, architecture, tmp_path):
        folder = write_tiny(tmp_path / "tiny", architecture, TEXTS)
        assert {path.name for path in folder.iterdir()} == FILES
        config = json.loads((folder / "config.json").read_text())
        assert config["model_type"] == architecture
        assert config["vocab_size"] == Tokenizer.from_file(
            str(folder / "tokenizer.json")
        ).get_vocab_size(with_added_tokens=True)
        assert str(tmp_path) not in (folder / "config.json").read_text()
        with safe_open(folder / "model.safetensors", "pt") as weights:
            assert sum(weights.get_tensor(name).numel() for name in weights.keys()) < 200_000  # noqa: SIM118

    def test_the_same_texts_and_seed_write_the_same_bytes(self, architecture, tmp_path):
        first = write_tiny(tmp_path / "first", architecture, TEXTS, seed=3)
        torch.rand(5)  # what has been drawn before does not matter
        second = write_tiny(tmp_path / "second", architecture, TEXTS, seed=3)
        assert contents(first) == contents(second)

    def test_another_seed_gives_other_weights_and_the_same_tokenizer(self, architecture, tmp_path):
        first = contents(write_tiny(tmp_path / "first", architecture, TEXTS, seed=3))
        second = contents(write_tiny(tmp_path / "second", architecture, TEXTS, seed=4))
        assert first["model.safetensors"] != second["model.safetensors"]
        assert first["tokenizer.json"] == second["tokenizer.json"]

    def test_it_draws_nothing_from_the_generator_of_others(self, architecture, tmp_path):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        write_tiny(tmp_path, architecture, TEXTS)
        assert torch.equal(torch.rand(3), expected)

    def test_its_tokenizer_learnt_the_texts(self, architecture, tmp_path):
        folder = write_tiny(tmp_path, architecture, ["zentara smartphone"] * 50)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokens = tokenizer.encode(" zentara smartphone", add_special_tokens=False).tokens
        other = tokenizer.encode(" quokka marsupials", add_special_tokens=False).tokens
        assert len(tokens) < len(other)

    def test_without_texts_it_reads_latin_letters(self, architecture, tmp_path):
        folder = write_tiny(tmp_path, architecture)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        text = "Ninety-nine Red balloons 64"
        encoded = tokenizer.encode(text.replace("-", " "), add_special_tokens=False)
        unknown = [tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>")]
        assert not set(unknown) & set(encoded.ids)

    def test_its_layers_are_as_many_as_asked(self, architecture, tmp_path):
        write_tiny(tmp_path, architecture, TEXTS, layers=3, width=48)
        config = json.loads((tmp_path / "config.json").read_text())
        assert (config["num_hidden_layers"], config["hidden_size"]) == (3, 48)
        assert config["max_position_embeddings"] >= MOST_TOKENS


def test_another_process_trains_the_same_tokenizers():
    # Hash seeds differ between processes, and with them the order of what is in a set.
    code = (
        "import json, sys; from models.language.tiny import _FAMILIES, _trained\n"
        "texts = json.loads(sys.argv[1])\n"
        "print(json.dumps([_trained(family, texts).to_str() for family in _FAMILIES.values()]))"
    )
    ours = [_trained(family, TEXTS).to_str() for family in _FAMILIES.values()]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(TEXTS)],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert json.loads(done.stdout) == ours


def test_an_unknown_architecture_is_told_the_known(tmp_path):
    with pytest.raises(ConfigError, match=r"'gpt'.*bert.*llama"):
        write_tiny(tmp_path, "gpt")

"""Folders that would run code if they were loaded as their authors wish: none of it is run.

Each brings something that writes a file when it runs. Such a folder is either refused, or answers
as if that thing were not there.
"""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from models.errors import MemberError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.networks.encoder import Encoder, open_encoder
from models.language.networks.loading import load_transformer
from models.language.reading.reader import TextOptions
from models.language.sources.tokenizer import read_tokenizer
from models.language.tiny import write_tiny
from tests.tiny import tiny_products

ROOT = Path(__file__).parents[4]
TEXTS = [*tiny_products().field("title")]
MODEL = "model.safetensors"
CODE = """
from pathlib import Path
Path({marker!r}).write_text("run")
from transformers import BertConfig, BertModel, BertTokenizer as Tokenizer
class Config(BertConfig):
    model_type = "hostile"
class Model(BertModel):
    config_class = Config
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("made"), "bert", TEXTS)


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "folder"))


@pytest.fixture(autouse=True)
def marker(tmp_path, monkeypatch):
    """The file that hostile code writes, which must not be there in the end."""
    # Where the library keeps modules that it took from a folder.
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code of the folder was run"


class Hostile:
    """What writes the file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


def bring_code(folder: Path, marker: Path, **config: str) -> None:
    """Let the configuration of `folder` name modules of its own."""
    (folder / "hostile.py").write_text(CODE.format(marker=str(marker)))
    path = folder / "config.json"
    auto_map = {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model"}
    write_json(path, {**read_json(path), "auto_map": auto_map, **config})


def states_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[5, 6, 7]])).last_hidden_state


def opened(folder: Path, scratch: Path) -> Encoder:
    encoder, _ = open_encoder(find_backbone(str(folder), scratch), TextOptions(max_tokens=64))
    return encoder


class TestModules:
    def test_the_code_would_run(self, folder, marker):
        # Else the tests below could not fail.
        from transformers import AutoModel

        bring_code(folder, marker, model_type="hostile")
        AutoModel.from_pretrained(folder, trust_remote_code=True)
        assert marker.exists()
        marker.unlink()

    def test_of_a_known_architecture_they_are_left_alone(self, made, folder, tmp_path, marker):
        bring_code(folder, marker)
        assert opened(folder, tmp_path)
        assert torch.equal(states_of(load_transformer(folder)), states_of(load_transformer(made)))

    def test_an_architecture_of_their_own_is_refused(self, folder, tmp_path, marker):
        bring_code(folder, marker, model_type="hostile")
        with pytest.raises(MemberError, match=r"'hostile' \(it brings code of its own.*never run"):
            opened(folder, tmp_path)

    @pytest.mark.parametrize(
        "said",
        [
            {"attn_implementation": "owner/kernels"},
            {"_attn_implementation": "owner/kernels"},
            {"experts_implementation": "owner/kernels"},
            {"fusion_config": {"owner/kernels": True}},
            {"return_dict": False},
            {"output_attentions": True},
            {"output_hidden_states": True},
        ],
        ids=str,
    )
    def test_how_it_is_run_is_not_for_it_to_say(self, made, folder, tmp_path, said):
        path = folder / "config.json"
        write_json(path, read_json(path) | said)
        assert opened(folder, tmp_path)
        model, other = load_transformer(folder), load_transformer(made)
        assert torch.equal(states_of(model), states_of(other))
        ids = torch.tensor([[5, 6, 7]])
        assert list(model(ids)) == list(other(ids)) == ["last_hidden_state"]
        assert model.config._attn_implementation == other.config._attn_implementation

    def test_a_folder_of_ours_is_opened_without_them_too(self, folder, tmp_path, marker):
        encoder = opened(folder, tmp_path)
        encoder.save(tmp_path / "ours")
        bring_code(tmp_path / "ours", marker)
        assert Encoder.load(tmp_path / "ours")


class TestTokenizer:
    @pytest.fixture
    def vocabulary(self, folder, marker):
        """A folder whose tokenizer has to be made from its vocabulary, and that brings code."""
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        (folder / "tokenizer.json").unlink()
        by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        words = "".join(f"{word}\n" for word, _ in by_id)
        (folder / "vocab.txt").write_text(words, encoding="utf-8")
        (folder / "hostile.py").write_text(CODE.format(marker=str(marker)))
        auto_map = {"AutoTokenizer": ["hostile.Tokenizer", "hostile.Tokenizer"]}
        said = {"auto_map": auto_map, "tokenizer_class": "BertTokenizer"}
        write_json(folder / "tokenizer_config.json", said)
        return folder

    def test_the_code_would_run(self, vocabulary, marker):
        AutoTokenizer.from_pretrained(vocabulary, trust_remote_code=True)
        assert marker.exists()
        marker.unlink()

    def test_it_is_made_without_it(self, made, vocabulary, tmp_path):
        found, _ = read_tokenizer(find_backbone(str(vocabulary), tmp_path / "scratch").folder)
        expected, _ = read_tokenizer(made)
        assert [found.encode(text).ids for text in TEXTS] == [
            expected.encode(text).ids for text in TEXTS
        ]

    def test_a_class_of_its_own_is_refused(self, vocabulary, tmp_path):
        path = vocabulary / "tokenizer_config.json"
        write_json(path, {**read_json(path), "tokenizer_class": "Tokenizer"})
        with pytest.raises(MemberError, match=r"no tokenizer could be made from .*vocab\.txt"):
            find_backbone(str(vocabulary), tmp_path / "scratch")

    def test_one_that_is_there_is_read_without_it(self, folder, tmp_path, marker):
        (folder / "hostile.py").write_text(CODE.format(marker=str(marker)))
        auto_map = {"AutoTokenizer": [None, "hostile.Tokenizer"]}
        write_json(folder / "tokenizer_config.json", {"auto_map": auto_map})
        found = find_backbone(str(folder), tmp_path / "scratch")
        assert found.folder == folder
        assert opened(folder, tmp_path)


class TestPickles:
    def test_the_pickle_would_run(self, marker):
        pickle.loads(pickle.dumps(Hostile(marker)))  # noqa: S301 — that is what it shows
        assert marker.exists()
        marker.unlink()

    @pytest.mark.parametrize(
        "file", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "model.pkl"]
    )
    @pytest.mark.parametrize("hostile", [True, False])
    def test_nothing_else_is_taken_for_weights(self, folder, tmp_path, marker, file, hostile):
        weights = load_file(folder / MODEL)
        (folder / MODEL).unlink()
        if hostile:
            (folder / file).write_bytes(pickle.dumps(Hostile(marker)))
        else:
            torch.save(weights, folder / file)
        with pytest.raises(MemberError, match=rf"pickled weights \({file}\).*expected {MODEL}"):
            find_backbone(str(folder), tmp_path)
        with pytest.raises(MemberError, match=str(folder)):
            load_transformer(folder)

    def test_beside_safetensors_they_are_left_alone(self, made, folder, tmp_path, marker):
        for file in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
            (folder / file).write_bytes(pickle.dumps(Hostile(marker)))
        assert opened(folder, tmp_path)
        assert torch.equal(states_of(load_transformer(folder)), states_of(load_transformer(made)))

    def test_one_that_is_called_safetensors_is_refused(self, folder, tmp_path, marker):
        (folder / MODEL).write_bytes(pickle.dumps(Hostile(marker)))
        with pytest.raises(MemberError, match="no transformer that can be loaded"):
            opened(folder, tmp_path)

    @pytest.mark.parametrize("index", ["model.safetensors", "pytorch_model.bin"])
    def test_one_that_an_index_names_is_refused(self, folder, tmp_path, marker, index):
        (folder / MODEL).rename(folder / "part.bin")
        (folder / "part.bin").write_bytes(pickle.dumps(Hostile(marker)))
        write_json(folder / f"{index}.index.json", {"weight_map": {"all": "part.bin"}})
        with pytest.raises(MemberError, match=r"expected (safetensors|model\.safetensors)"):
            opened(folder, tmp_path)

    def test_one_that_the_configuration_names_is_not_taken(self, made, folder, marker):
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Hostile(marker)))
        path = folder / "config.json"
        write_json(path, {**read_json(path), "transformers_weights": "adapter_model.bin"})
        assert torch.equal(states_of(load_transformer(folder)), states_of(load_transformer(made)))


class TestAdapters:
    """Folders of peft, which the library would load over another model, from wherever it lies."""

    @pytest.fixture
    def adapter(self, made, tmp_path, marker):
        folder = tmp_path / "adapter"
        folder.mkdir()
        said = {"peft_type": "LORA", "base_model_name_or_path": str(made), "r": 2}
        (folder / "adapter_config.json").write_text(json.dumps(said))
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Hostile(marker)))
        return folder

    def test_one_by_itself_is_refused(self, adapter, tmp_path):
        with pytest.raises(MemberError, match=r"holds adapters.*merge them"):
            find_backbone(str(adapter), tmp_path)

    @pytest.mark.parametrize("hostile", [True, False])
    def test_one_beside_a_model_is_refused(self, made, adapter, tmp_path, hostile):
        shutil.copytree(made, adapter, dirs_exist_ok=True)
        if not hostile:
            (adapter / "adapter_model.bin").unlink()
            save_file({"x": torch.zeros(1)}, adapter / "adapter_model.safetensors")
        with pytest.raises(MemberError, match=r"holds adapters.*merge them"):
            find_backbone(str(adapter), tmp_path)
        # Nor does it tell a folder that is loaded without having been found.
        assert torch.equal(states_of(load_transformer(adapter)), states_of(load_transformer(made)))


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("package", ["models", "pipelines", "service", "benchmarks"])
def test_nowhere_is_code_trusted_or_a_pickle_loaded(package):
    for path in (ROOT / package).rglob("*.py"):
        for call in calls(path):
            for keyword in call.keywords:
                if keyword.arg in ("trust_remote_code", "allow_pickle"):
                    said = ast.unparse(keyword.value)
                    assert said == "False", f"{path}:{call.lineno}: {keyword.arg}={said}"
            name = ast.unparse(call.func)
            if path.name == "pickled.py" and name == "torch.load":
                # Only esci convert comes here, and it reads tensors alone.
                given = {one.arg: ast.unparse(one.value) for one in call.keywords}
                assert given["weights_only"] == "True", f"{path}:{call.lineno}: {given}"
                continue
            forbidden = ("torch.load", "pickle.load", "pickle.loads", "joblib.load", "read_pickle")
            assert not name.endswith(forbidden), f"{path}:{call.lineno}: {name}"

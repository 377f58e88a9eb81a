"""Pickled weights converted: the same tensors, and nothing that a pickle may hold besides."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import MemberError
from models.language.backbones import find_backbone
from models.language.sources.folder import SHARDS_FILE, WEIGHTS_FILE
from models.language.sources.pickled import convert_pickled
from models.language.tiny import write_tiny
from tests.models.language.sources.test_untrusted import Hostile

ROOT = Path(__file__).parents[4]
PICKLED = "pytorch_model.bin"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    texts = ["red shoes for running", "a kettle of steel"]
    return write_tiny(tmp_path_factory.mktemp("tiny") / "bert", "bert", texts, seed=1)


@pytest.fixture
def folder(tiny, tmp_path):
    """A model whose weights are about to be pickled."""
    copied = tmp_path / "pickled"
    copied.mkdir()
    for path in tiny.iterdir():
        if path.name != WEIGHTS_FILE:
            (copied / path.name).write_bytes(path.read_bytes())
    return copied


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_converted_backbone_is_the_one_that_was_pickled(folder, tiny, tmp_path, is_archive):
    weights = load_file(tiny / WEIGHTS_FILE)
    torch.save(weights, folder / PICKLED, _use_new_zipfile_serialization=is_archive)
    files = convert_pickled(folder, tmp_path / "out")
    assert WEIGHTS_FILE in files
    assert same(load_file(tmp_path / "out" / WEIGHTS_FILE), weights)
    # What decides the answers is the same to the byte, so it is the same backbone.
    digests = {find_backbone(str(one), tmp_path).sha256 for one in (tiny, tmp_path / "out")}
    assert len(digests) == 1


def test_shards_stay_shards(folder, tiny, tmp_path):
    weights = load_file(tiny / WEIGHTS_FILE)
    names = sorted(weights)
    parts = {f"pytorch_model-0000{n + 1}-of-00002.bin": names[n::2] for n in range(2)}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    convert_pickled(folder, tmp_path / "out")
    find_backbone(str(tmp_path / "out"), tmp_path)
    index_of = json.loads((tmp_path / "out" / SHARDS_FILE).read_text())["weight_map"]
    found = {}
    for file in sorted(set(index_of.values())):
        found |= load_file(tmp_path / "out" / file)
    assert same(found, weights)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(MemberError, match="all of them in the same folder"):
        convert_pickled(folder, tmp_path / "other")
    index.write_text(json.dumps({"weight_map": {names[0]: "../elsewhere.bin"}}))
    with pytest.raises(MemberError, match="all of them in the same folder"):
        convert_pickled(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_tied_weights_and_halves_keep_their_values(folder, tmp_path):
    table = torch.arange(12, dtype=torch.float16).reshape(3, 4)
    torch.save({"a": table, "b": table, "c": table.T, "d": table[1]}, folder / PICKLED)
    convert_pickled(folder, tmp_path / "out")
    found = load_file(tmp_path / "out" / WEIGHTS_FILE)
    assert same(found, {"a": table, "b": table, "c": table.T, "d": table[1]})


@pytest.mark.parametrize("is_archive", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(folder, tmp_path, is_archive):
    marker = tmp_path / "marker"
    torch.save(
        {"a": torch.zeros(1), "b": Hostile(marker)},
        folder / PICKLED,
        _use_new_zipfile_serialization=is_archive,
    )
    with pytest.raises(MemberError, match="cannot be read as tensors alone"):
        convert_pickled(folder, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (b"", "cannot be read as tensors alone"),
        (b"PK\x03\x04 no archive", "cannot be read as tensors alone"),
        ([torch.zeros(1)], "holds no table of names and tensors"),
        ({"a": 1}, "holds no table of names and tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(folder, tmp_path, held, message):
    if isinstance(held, bytes):
        (folder / PICKLED).write_bytes(held)
    else:
        torch.save(held, folder / PICKLED)
    with pytest.raises(MemberError, match=message):
        convert_pickled(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_need_not_or_cannot_be_converted_is_said(folder, tiny, tmp_path):
    with pytest.raises(MemberError, match="safetensors already"):
        convert_pickled(tiny, tmp_path / "out")
    with pytest.raises(MemberError, match="holds neither"):
        convert_pickled(folder, tmp_path / "out")
    with pytest.raises(MemberError, match=r"lacks config\.json"):
        convert_pickled(tmp_path / "nothing", tmp_path / "out")
    torch.save({"a": torch.zeros(1)}, folder / PICKLED)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MemberError, match=r"lacks tokenizer\.json"):
        convert_pickled(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_writes_a_folder_once(folder, tiny, tmp_path):
    torch.save(load_file(tiny / WEIGHTS_FILE), folder / PICKLED)
    command = [sys.executable, "-m", "esci", "convert", str(folder), "--out"]
    out = tmp_path / "out"
    done = subprocess.run([*command, str(out), "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert WEIGHTS_FILE in json.loads(done.stdout)["files"]
    again = subprocess.run([*command, str(out)], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2
    assert "is there already; name another folder" in again.stderr

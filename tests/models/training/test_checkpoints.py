import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.files import SCRATCH
from models.training.steps import checkpoints
from models.training.steps.checkpoints import (
    Checkpoint,
    read_checkpoint,
    write_checkpoint,
)

KEPT = Checkpoint(
    {"step": 3, "score": 0.1 + 0.2, "curve": [None, {"a": 1}]},
    {
        "w": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "none": torch.empty(0),
    },
)


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.safetensors", KEPT, "mine")
    return tmp_path / "checkpoint.safetensors"


def test_what_is_written_is_read_to_the_bit(path):
    found = read_checkpoint(path, "mine")
    assert found.about == KEPT.about
    assert found.tensors.keys() == KEPT.tensors.keys()
    for name, tensor in KEPT.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_where_there_is_none_nothing_is_said(tmp_path, caplog):
    assert read_checkpoint(tmp_path / "absent", "mine") is None
    assert not caplog.records


def ignored(path, caplog, because, identity="mine"):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(path, identity) is None
    assert because in caplog.text
    assert str(path) in caplog.text


def test_of_another_training_it_is_not_believed(path, caplog):
    ignored(path, caplog, "another training", "other")


def test_of_another_format_it_is_not_believed(path, caplog, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    ignored(path, caplog, "format 1, not 2")


def test_of_somebody_else_it_is_not_believed(path, caplog):
    save_file({"w": torch.zeros(1)}, path)
    ignored(path, caplog, "format None")


def test_torn_anywhere_it_is_not_believed(path, caplog):
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        ignored(path, caplog, "")


def test_with_any_byte_changed_it_is_not_believed(path, caplog):
    content = path.read_bytes()
    for at in range(0, len(content), 11):
        if content[at] == ord(" "):  # the header's padding says nothing
            continue
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        ignored(path, caplog, "")


def test_an_interrupted_write_leaves_the_one_before(path, monkeypatch):
    def half(tensors, target, header):
        save_file(tensors, target, header)
        target.write_bytes(target.read_bytes()[:100])
        raise InterruptedError

    monkeypatch.setattr(checkpoints, "save_file", half)
    with pytest.raises(InterruptedError):
        write_checkpoint(path, Checkpoint({"step": 4}, {}), "mine")
    assert read_checkpoint(path, "mine").about["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_all_that_a_kill_would_leave_is_known_for_scratch(path, monkeypatch):
    left = []

    def half(tensors, target, header):
        # As the library writes: to a file beside the one that it is given.
        target.with_name(".tmpkJaQ1x").write_bytes(b"half")
        left.extend(file for file in path.parent.iterdir() if file != path)
        save_file(tensors, target, header)

    monkeypatch.setattr(checkpoints, "save_file", half)
    write_checkpoint(path, Checkpoint({"step": 4}, {}), "mine")
    assert left
    assert all(file.match(SCRATCH) for file in left)
    assert read_checkpoint(path, "mine").about["step"] == 4
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_it_is_plain_safetensors(path):
    assert load_file(path).keys() == KEPT.tensors.keys()

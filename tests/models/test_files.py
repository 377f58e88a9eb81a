import os
import subprocess
import sys

import pytest

from models.errors import DataError, MissingDataError
from models.files import (
    atomic_file,
    atomic_folder,
    read_json,
    replace_folder,
    scratch_folder,
    write_json,
)


def write_and_stop(atomic, path, name):
    with atomic(path) as scratch:
        (scratch / name if scratch.is_dir() else scratch).write_text("half")
        raise KeyboardInterrupt


def test_an_interrupted_file_leaves_the_old_one_and_no_scratch(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(atomic_file, path, "a.txt")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_file(path) as scratch:
        scratch.write_text("new")
    assert path.read_text() == "new"


def test_an_interrupted_folder_leaves_the_old_one_and_no_scratch(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(atomic_folder, folder, "half")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]
    with atomic_folder(folder) as scratch:
        (scratch / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path, monkeypatch, can_exchange
):
    if not can_exchange:
        monkeypatch.setattr("models.files._exchange", lambda *_: False)
    folder = tmp_path / "a"
    (folder / "old").mkdir(parents=True)
    with pytest.raises(OSError):
        replace_folder(tmp_path / "absent", folder)
    assert (folder / "old").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="a file stands"):
        replace_folder(tmp_path / "new", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "file").unlink()
    replace_folder(tmp_path / "new", folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path):
    code = (
        "import os, pathlib; from models.files import scratch_folder\n"
        f"with scratch_folder(pathlib.Path({str(tmp_path)!r}), 'a'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path, "a") as living:
        assert left.exists()  # a minute old at most: perhaps its owner is about to lock it
        for folder in (left, living):
            os.utime(folder, (0, 0))
        with scratch_folder(tmp_path, "a"):
            assert living.exists()
            assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back_and_trouble_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"ñ": [1.5, None]})
    assert read_json(path) == {"ñ": [1.5, None]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ñ": [1.5, None]}
    path.write_text("{")
    with pytest.raises(DataError, match=r"a\.json is not JSON"):
        read_json(path)
    with pytest.raises(MissingDataError, match=r"b\.json is not there"):
        read_json(tmp_path / "b.json")

"""What a training says it was made by: libraries, and our own sources to the byte."""

import subprocess
import sys
from pathlib import Path

import models
from models.versions import code_digest, library_versions, sources_digest

SOURCES = {"loss.py": "x = 1\n", "deep/network.py": "y = 2\n"}


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_any_change_of_a_source_is_seen_and_nothing_else(tmp_path):
    others = [
        {**SOURCES, "loss.py": "x = 3\n"},
        {"losses.py": "x = 1\n", "deep/network.py": "y = 2\n"},
        {"deep/loss.py": "x = 1\n", "network.py": "y = 2\n"},
        {**SOURCES, "new.py": ""},
        {"loss.py": "x = 1\n"},
        {"loss.py": "x = 1\ny = 2\n", "deep/network.py": ""},
    ]
    digests = [
        sources_digest(lay(tmp_path / str(number), files))
        for number, files in enumerate([SOURCES, *others])
    ]
    assert len(set(digests)) == len(digests)
    # Where one file ends and the next begins.
    glued = {"loss.py": "x = 1\nnetwork.py\0y = 2\n"}
    parted = {"loss.py": "x = 1\n", "network.py": "y = 2\n"}
    assert sources_digest(lay(tmp_path / "a", glued)) != sources_digest(lay(tmp_path / "b", parted))
    beside = {"__pycache__/loss.cpython-311.pyc": "", "notes.md": "", **SOURCES}
    assert sources_digest(lay(tmp_path / "beside", beside)) == digests[0]


def test_it_is_of_every_source_of_the_library_and_recorded():
    assert code_digest() == sources_digest(Path(models.__file__).parent)
    assert library_versions()["code"] == code_digest()


def test_another_process_says_the_same():
    code = "from models.versions import code_digest; print(code_digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code_digest()

"""The command `esci` as a person meets it: help at once, errors in a line, exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esci import VERBS, Verb
from models.release_registry import CHAMPION, ReleaseRegistry
from tests.tiny import tiny_release

ROOT = Path(__file__).parents[1]


def esci(*words, code=0, python=(), **environment):
    done = subprocess.run(
        [sys.executable, *(python or ("-m", "esci")), *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a champion."""
    registry = ReleaseRegistry(tmp_path_factory.mktemp("home"))
    registry.set_champion(tiny_release(registry.releases).name)
    return registry.folder


def leaves(verbs=VERBS, before=()):
    for name, entry in verbs.items():
        if isinstance(entry, Verb):
            yield (*before, name)
        else:
            yield from leaves(entry, (*before, name))


@pytest.mark.parametrize("words", list(leaves()), ids=" ".join)
def test_every_verb_explains_itself(words):
    shown = esci(*words, "--help").stdout
    assert "Usage: esci" in shown or "Usage: python -m esci" in shown


def test_the_list_of_verbs_loads_none_of_them():
    shown = esci("--help").stdout
    assert all(words[-1] in shown for words in leaves() if len(words) == 1)
    code = "import sys, esci; esci.build(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "'pipelines" not in loaded
    assert "'service" not in loaded


def test_the_version_is_the_one_installed():
    assert re.fullmatch(r"esci \d+\.\d+\.\d+\n", esci("--version").stdout)


@pytest.mark.parametrize("words", [("nonsense",), ("data", "nonsense"), ("train", "--nonsense")])
def test_a_wrong_word_is_an_error(words):
    assert esci(*words, code=2).stderr


def test_what_the_system_refuses_is_said_in_a_line(home, tmp_path):
    (tmp_path / "file").touch()
    for folder in ("/proc/nope", str(tmp_path / "file")):
        shown = esci("run", "--once", ESCI_HOME=folder, code=2).stderr
        assert shown.startswith("error: ")
        assert len(shown.splitlines()) == 1


def test_run_serves_what_is_there_without_what_training_needs(home):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pyarrow', 'sklearn', 'scipy']));"
        "sys.argv[0] = 'esci'; import esci; esci.main()"
    )
    shown = esci("run", "--once", python=("-c", code), ESCI_HOME=str(home))
    assert "one classified pair" in shown.stdout
    words = ("data", "stats", str(home))
    assert "install it with" in esci(*words, python=("-c", code), code=2).stderr


def test_run_once_answers_machines_too(home):
    found = json.loads(esci("run", "--once", "--json", ESCI_HOME=str(home)).stdout)
    assert found["answer"]["release_id"] == ReleaseRegistry(home).champion().name
    assert (
        found["answer"]["results"][0]["product_id"]
        == (found["request"]["products"][0]["product_id"])
    )


def test_run_takes_the_release_it_is_given(home, tmp_path):
    words = ("run", "--once", "--json")
    given = str(ReleaseRegistry(home).champion())
    assert esci(*words, ESCI_RELEASE=given, ESCI_HOME=str(tmp_path)).stdout
    assert esci(*words, "--release", given, ESCI_HOME=str(tmp_path)).stdout
    shown = esci(*words, ESCI_RELEASE="/nonexistent", ESCI_HOME=str(home), code=2).stderr
    assert "/nonexistent" in shown


def test_a_proxy_of_the_environment_is_not_asked_for_our_own_address(home):
    esci("run", "--once", ESCI_HOME=str(home), http_proxy="http://127.0.0.1:9")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"../../etc", b"0123456789abcdef"])
def test_a_broken_champion_says_what_to_do(tmp_path, content):
    ref = tmp_path / "refs" / CHAMPION
    ref.parent.mkdir()
    ref.write_bytes(content)
    shown = esci("run", "--once", ESCI_HOME=str(tmp_path), code=2).stderr
    assert "remove" in shown
    assert "train again" in shown.replace("\n", " ")


def test_a_release_under_another_name_is_not_served(tmp_path):
    registry = ReleaseRegistry(tmp_path)
    folder = tiny_release(registry.releases)
    folder.rename(folder.with_name("deadbeefdeadbeef"))
    registry.set_champion("deadbeefdeadbeef")
    shown = esci("run", "--once", ESCI_HOME=str(tmp_path), code=2).stderr
    assert f"holds release {folder.name}" in shown.replace("\n", " ")


def test_a_polite_end_leaves_nothing_half_made(tmp_path):
    words = ("data", "demo", "--products", "300000", "--out", str(tmp_path / "demo"))
    running = subprocess.Popen(
        [sys.executable, "-m", "esci", *words], cwd=ROOT, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.iterdir())
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_is_asked_to_stop_has_not_failed(home, workers):
    words = ("serve", "--port", "0", "--workers", workers)
    serving = subprocess.Popen(
        [sys.executable, "-m", "esci", *words],
        cwd=ROOT,
        env={**os.environ, "ESCI_HOME": str(home)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert any('"serving"' in line for line in serving.stderr)
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=30)
    assert serving.returncode == 0


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page} links to {target}"

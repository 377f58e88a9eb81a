"""From a generated catalogue to an answer over HTTP, with the verbs a person would use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from models.release import load_release
from models.release_registry import ReleaseRegistry
from pipelines.training.run import TEST
from service import Settings, running

ROOT = Path(__file__).parents[1]


def esci(*words: str, home: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "esci", *words],
        cwd=ROOT,
        env={**os.environ, "ESCI_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a small demo catalogue, a run, and the release made of it."""
    home = tmp_path_factory.mktemp("home")
    esci("data", "demo", "--products", "400", "--out", str(home / "demo"), home=home)
    words = ("train", "--data", str(home / "demo"), "--out", str(home / "run"), "--publish")
    esci(*words, home=home)
    return home


def test_the_member_beats_the_majority_row_on_generated_data(home):
    answers = home / "run" / TEST / "lexical.parquet"
    words = ("evaluate", str(answers), "--data", str(home / "demo"), "--json")
    verdict = json.loads(esci(*words, home=home))
    assert (
        verdict["slices"][0]["metrics"]["macro_f1"]["value"]
        > (verdict["slices"][0]["majority"]["macro_f1"]["value"])
    )


def test_probe_pairs_get_the_same_answers_offline_and_over_http(home, tmp_path):
    release = load_release(ReleaseRegistry(home).champion())
    settings = Settings(release=home, port=0, cache=f"sqlite:///{tmp_path / 'labels.sqlite'}")
    pairs = [
        {"query": probe.query, "locale": probe.locale, "product": probe.product}
        for probe in release.probes
    ]
    with running(settings) as address:
        for _ in range(2):  # computed, then remembered
            body, kind = json.dumps({"pairs": pairs}).encode(), {"content-type": "application/json"}
            request = Request(f"{address}/v1/classify", body, kind)
            with urlopen(request, timeout=30) as response:
                answer = json.load(response)
            found = [list(result["probabilities"].values()) for result in answer["results"]]
            expected = [probe.probabilities for probe in release.probes]
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert all(result["cached"] for result in answer["results"])


def test_training_again_gives_the_same_release(home, tmp_path):
    words = ("train", "--data", str(home / "demo"), "--out", str(tmp_path / "run"), "--publish")
    found = json.loads(esci(*words, "--registry", str(tmp_path), "--json", home=home))
    assert found["release"] == ReleaseRegistry(home).champion().name


def test_training_replaces_nothing_but_a_run_and_that_on_demand(home, tmp_path):
    data = ("train", "--data", str(home / "demo"), "--out")
    assert "is there already" in esci(*data, str(home / "run"), home=home, code=2)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("x")
    wrong = {
        str(tmp_path / "thesis"): "something else than a run",
        str(home / "demo"): "overlap",
        str(home / "demo" / "run"): "overlap",
        str(home): "overlap",
    }
    for target, reason in wrong.items():
        assert reason in esci(*data, target, "--force", home=home, code=2)
    assert (tmp_path / "thesis" / "chapter1.txt").exists()
    (tmp_path / "empty").mkdir()
    esci(*data, str(tmp_path / "empty"), home=home)
    (tmp_path / "empty" / "notes.txt").touch()
    target = str(tmp_path / "empty")
    assert "something else than a run" in esci(*data, target, "--force", home=home, code=2)


def test_run_once_serves_the_champion_and_stops(home):
    shown = esci("run", "--once", home=home)
    assert ReleaseRegistry(home).champion().name in shown
    assert "curl" in shown
    assert "one classified pair" in shown

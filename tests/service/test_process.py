"""The service as a process: how it starts, how it refuses to, how it ends."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from models.release import load_release
from service import Settings, running
from tests.tiny import tiny_release

ROOT = Path(__file__).parents[2]
# A connection for each request, so that several workers each get some.
HTTP = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
BODY = {"query": "q", "locale": "us", "products": [{"product_id": "1", "title": "t"}]}


def start(*arguments, module="tests.service.start", **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ESCI_")}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=clean | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def started(*arguments, **environment) -> Iterator[tuple[subprocess.Popen[str], str, list[dict]]]:
    """A service that answers, its address, and the lines it logs."""
    process = start(*arguments, "--port", 0, **environment)
    lines: list[dict] = []
    ready = threading.Event()

    def read():
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "serving":
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(30)
        (address,) = [line["address"] for line in lines if line["event"] == "serving"]
        yield process, address, lines
    finally:
        process.terminate()
        process.wait(30)
        reader.join()
        process.stderr.close()


def accepts(address: str) -> bool:
    """Whether a service there lets anybody new in."""
    try:
        HTTP.get(f"{address}/livez")
    except httpx.TransportError:
        return False
    return True


def refused(*arguments, **environment):
    """What a service that does not start says, which is one line."""
    process = start(*arguments, **environment)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    return said


class TestStart:
    def test_a_release_is_served_until_the_signal_to_stop(self, release_folder):
        with started("--release", release_folder, "--cache", "memory://") as (process, at, lines):
            assert HTTP.post(f"{at}/v1/classify", json=BODY).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        (line,) = [line for line in lines if line.get("route") == "/v1/classify"]
        assert (line["event"], line["status"], line["pairs"]) == ("request", 200, 1)

    def test_what_is_being_computed_when_the_signal_comes_is_answered(
        self, release_folder, tmp_path
    ):
        barrier = tmp_path / "barrier"
        options = ("--release", release_folder, "--cache", "memory://")
        with (
            started(*options, HASHING_BARRIER=str(barrier)) as (process, at, _),
            ThreadPoolExecutor(1) as threads,
        ):
            barrier.touch()  # only now: starting asks the member too
            answer = threads.submit(HTTP.post, f"{at}/v1/classify", json=BODY)
            while "esci_queued_pairs 1" not in HTTP.get(f"{at}/metrics").text:
                time.sleep(0.005)
            process.send_signal(signal.SIGTERM)
            while accepts(at):
                time.sleep(0.005)
            assert not answer.done()
            barrier.unlink()
            assert len(answer.result().json()["results"]) == 1

    def test_workers_share_one_cache_file(self, release_folder, tmp_path):
        cache = tmp_path / "labels.sqlite"
        arguments = ("--release", release_folder, "--workers", 2, "--cache", f"sqlite:///{cache}")
        with started(*arguments) as (_, at, _):
            workers: set[str] = set()
            while len(workers) < 2:  # the first answers while the second still loads
                workers |= set(re.findall(r'worker="(\d+)"', HTTP.get(f"{at}/metrics").text))
            seen: dict[str, list[bool]] = {}
            for number in range(200):
                body = {**BODY, "query": f"q{number // 10}"}
                (result,) = HTTP.post(f"{at}/v1/classify", json=body).json()["results"]
                seen.setdefault(body["query"], []).append(result["cached"])
            assert all(cached == [False] + [True] * 9 for cached in seen.values())
        (stored,) = sqlite3.connect(cache).execute("SELECT count(*) FROM labels").fetchone()
        assert stored == 20

    def test_a_label_survives_a_restart(self, release_folder, tmp_path):
        settings = Settings(
            release=release_folder, port=0, cache=f"sqlite:///{tmp_path}/labels.sqlite"
        )
        answers = []
        for _ in range(2):
            with running(settings) as address:
                answers += HTTP.post(f"{address}/v1/classify", json=BODY).json()["results"]
        assert [answer.pop("cached") for answer in answers] == [False, True]
        assert answers[0] == answers[1]


class TestRefusal:
    def test_a_release_that_was_changed(self, tmp_path):
        from tests.service.conftest import write_hashing_release

        folder = write_hashing_release(tmp_path)
        member = folder / "members" / "hashing" / "member.json"
        member.write_text(member.read_text().replace('"salt": 0', '"salt": 1'))
        assert "SHA-256" in refused("--release", folder, "--cache", "memory://")
        assert "SHA-256" in refused("--release", folder, "--cache", "memory://", "--workers", 2)

    def test_no_release(self, tmp_path):
        assert "esci train" in refused(ESCI_RELEASE=str(tmp_path))

    def test_a_port_in_use(self, release_folder):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = refused("--release", release_folder, "--port", port)
        assert f"port {port} on 127.0.0.1 is in use" in said

    def test_an_address_that_others_reach(self, release_folder):
        said = refused("--release", release_folder, "--host", "192.168.1.7")
        assert "ESCI_ALLOW_REMOTE" in said

    def test_an_unknown_variable(self):
        assert "ESCI_PROT" in refused(ESCI_PROT="1")

    def test_a_cache_that_cannot_be_opened(self, release_folder, tmp_path):
        (tmp_path / "file").write_text("")
        cache = f"sqlite:///{tmp_path}/file/labels.sqlite"
        assert "cannot be opened" in refused("--release", release_folder, "--cache", cache)

    def test_a_worker_that_cannot_start(self, release_folder):
        # The kind is known to the process that is started here and to none that it spawns.
        code = """
from models.registry import KINDS
from service.__main__ import main
KINDS["hashing"] = "tests.service.hashing_member:HashingMember"
main()
"""
        flags = ["--release", release_folder, "--port", "0", "--cache", "memory://"]
        done = subprocess.run(
            [sys.executable, "-c", code, *flags, "--workers", "2"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "no member kind 'hashing'" in done.stderr
        assert done.stderr.endswith("error: a worker could not start; the log says why\n")


def test_a_real_release_answers_its_probes_over_http_as_offline(tmp_path):
    release = load_release(tiny_release(tmp_path))
    with running(Settings(release=release.folder, port=0, cache="memory://")) as address:
        pairs = [
            {"query": probe.query, "locale": probe.locale, "product": dict(probe.product)}
            for probe in release.probes
        ]
        answer = HTTP.post(f"{address}/v1/classify", json={"pairs": pairs}).json()
    for result, probe in zip(answer["results"], release.probes, strict=True):
        assert list(result["probabilities"].values()) == pytest.approx(probe.probabilities)
    assert answer["members_used"] == ["lexical"]


def test_a_registry_is_served_by_its_champion(release_folder, tmp_path):
    from models.release_registry import ReleaseRegistry

    registry = ReleaseRegistry(tmp_path)
    registry.releases.mkdir()
    (registry.releases / release_folder.name).symlink_to(release_folder)
    registry.set_champion(release_folder.name)
    with running(Settings(release=tmp_path, port=0, cache="memory://")) as address:
        assert HTTP.get(f"{address}/info").json()["release_id"] == release_folder.name


SERVES = """
import sys, tempfile, urllib.request
# uvicorn takes them along where they are, and we serve without them.
sys.modules.update(dict.fromkeys(("watchfiles", "websockets", "dotenv", "yaml")))
from pathlib import Path
from service import Settings, running
with tempfile.TemporaryDirectory() as folder:
    settings = Settings(release=Path(sys.argv[1]), port=0, cache=f"sqlite:///{folder}/c.sqlite")
    with running(settings) as address:
        body = b'{"query":"q","locale":"us","products":[{"product_id":"1","title":"t"}]}'
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/v1/classify", body, headers)
        assert urllib.request.urlopen(request).status == 200
        urllib.request.urlopen(f"{address}/docs").read()
heavy = {"torch", "transformers", "pandas", "pyarrow", "sklearn", "scipy", "matplotlib", "httpx"}
assert not heavy & {name.partition(".")[0] for name in sys.modules}
"""


def test_serving_imports_nothing_that_only_training_needs(tmp_path):
    folder = tiny_release(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SERVES, folder], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""Downloads against a real server on loopback that cuts, changes, refuses and lies."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigError, DataError, NetworkError
from pipelines.console import Tick
from pipelines.dataset.download import Downloader, Expected, Patience, origin_of
from pipelines.dataset.fetch import (
    OFFICIAL_CHECKSUMS,
    OFFICIAL_URL,
    Checksum,
    Fetched,
    OfficialFile,
    Source,
    fetch,
    read_checksums,
)
from pipelines.dataset.layout import EXAMPLES, EXAMPLES_FILE, SOURCES_FILE

QUICK = Patience(connect=2, read=5, attempts=3, first_pause=0.01)


def examples_parquet(folder: Path, seed: int, rows: int = 40_000) -> bytes:
    """A Parquet file of the layout that does not compress: about 0.6 MB."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1 << 62, size=rows)
    columns: dict[str, object] = {name: [""] * rows for name in EXAMPLES.names}
    columns |= {
        name: ids if name == "example_id" else np.zeros(rows, np.int64)
        for name in ("example_id", "query_id", "small_version", "large_version")
    }
    path = folder / f"made-{seed}.parquet"
    pq.write_table(pa.table(columns, schema=EXAMPLES), path, compression=None)
    return path.read_bytes()


@dataclass
class Shelf:
    """What the server serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etags: bool = True
    weak: bool = False
    ranges: bool = True
    conditions: bool = True  # whether If-Range is heeded
    chunked: bool = False
    unsized: bool = False
    cut_after: list[int] = field(default_factory=list)  # bytes of each coming answer
    statuses: list[int] = field(default_factory=list)  # of the coming answers, before all is well
    kind: str = "application/octet-stream"
    claim: int | None = None  # a Content-Length that is not true
    redirect: str | None = None
    seconds_per_chunk: float = 0.0
    once_cut: dict[str, bytes] = field(default_factory=dict)  # replaces files after a cut
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0

    def tag(self, content: bytes) -> str:
        # A weak tag promises the same meaning, not the same bytes.
        return 'W/"alike"' if self.weak else f'"{hashlib.sha256(content).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        shelf, name = self.shelf, self.path.rsplit("/", 1)[-1]
        shelf.asked.append((self.command, self.path, self.headers.get("Range")))
        self.close_connection = True
        if shelf.redirect and not self.path.startswith("/media/"):
            return self.start(302, {"Location": f"{shelf.redirect}/media/{name}"}, 0)
        content = shelf.files.get(self.path, shelf.files.get(name))
        if content is None:
            return self.start(404, {}, 0)
        if body and shelf.statuses:
            return self.start(shelf.statuses.pop(0), {"Retry-After": "0"}, 0)
        first, status, headers = 0, 200, {"Content-Type": shelf.kind}
        if shelf.etags:
            headers["ETag"] = shelf.tag(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        condition = self.headers.get("If-Range")
        if (
            shelf.ranges
            and wanted
            and (not shelf.conditions or condition in {None, shelf.tag(content)})
        ):
            first = int(wanted[1])
            if first >= len(content):
                return self.start(416, {"Content-Range": f"bytes */{len(content)}"}, 0)
            end = min(int(wanted[2] or len(content)), len(content) - 1)
            status = 206
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            payload = content[first : end + 1]
        else:
            payload = content
        if shelf.chunked and body:
            self.start(status, headers | {"Transfer-Encoding": "chunked"}, None)
        else:
            self.start(status, headers, None if shelf.unsized else shelf.claim or len(payload))
        if body and self.command == "GET":
            self.send(payload)
        return None

    def start(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def send(self, payload: bytes) -> None:
        shelf = self.shelf
        limit = shelf.cut_after.pop(0) if shelf.cut_after else len(payload)
        if limit < len(payload):
            shelf.files |= shelf.once_cut
        try:
            for at in range(0, min(limit, len(payload)), 16_384):
                piece = payload[at : min(at + 16_384, limit)]
                framed = b"%x\r\n%s\r\n" % (len(piece), piece) if shelf.chunked else piece
                self.wfile.write(framed)
                self.wfile.flush()
                shelf.sent += len(piece)
                time.sleep(shelf.seconds_per_chunk)
            if shelf.chunked and limit >= len(payload):
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the client is gone


@contextmanager
def serving(shelf: Shelf) -> Iterator[str]:
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("ShelfHandler", (Handler,), {"shelf": shelf})
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf({EXAMPLES_FILE: examples_parquet(tmp_path, 1)})


@pytest.fixture
def address(shelf: Shelf) -> Iterator[str]:
    with serving(shelf) as url:
        yield url


class Counter:
    """A progress bar that keeps what it was told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    @contextmanager
    def bar(self, _: str, total: int | None) -> Iterator[Tick]:
        self.total, self.done = total, 0

        def advance(units: int = 1) -> None:
            self.done += units

        yield advance


def get(
    folder: Path,
    source: Source,
    file: OfficialFile = OfficialFile.EXAMPLES,
    counter: Counter | None = None,
    **options: object,
) -> Fetched:
    with Downloader(QUICK, allow_http=True) as web:
        bar = (counter or Counter()).bar
        (found,) = fetch(folder, source, [file], web, bar, **options)  # type: ignore[arg-type]
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pointer(content: bytes) -> bytes:
    return (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{sha256(content)}\nsize {len(content)}\n"
    ).encode()


def with_pointers(address: str) -> Source:
    return Source(f"{address}/data", f"{address}/pointers", {})


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_a_file_arrives_whole_and_says_that_nothing_vouches_for_it(shelf, address, tmp_path):
    counter = Counter()
    found = get(tmp_path / "out", Source.at(address), counter=counter)
    assert found.path.read_bytes() == shelf.files[EXAMPLES_FILE]
    assert found.downloaded
    assert found.verified_by is None
    assert counter.total == counter.done == found.size
    assert leftovers(tmp_path / "out") == {EXAMPLES_FILE}


def test_the_pointer_of_the_repository_verifies_the_file(shelf, address, tmp_path):
    content = shelf.files.pop(EXAMPLES_FILE)
    shelf.files |= {
        f"/data/{EXAMPLES_FILE}": content,
        f"/pointers/{EXAMPLES_FILE}": pointer(content),
    }
    found = get(tmp_path, with_pointers(address))
    assert found.verified_by == "the repository's Git LFS pointer"
    assert found.sha256 == sha256(content)


def test_a_file_that_is_not_what_the_pointer_says_is_thrown_away(shelf, address, tmp_path):
    content = shelf.files.pop(EXAMPLES_FILE)
    other = bytes(content[:-100]) + bytes(100)
    shelf.files |= {
        f"/data/{EXAMPLES_FILE}": other,
        f"/pointers/{EXAMPLES_FILE}": pointer(content),
    }
    with pytest.raises(NetworkError, match=rf"{sha256(other)}.*{sha256(content)}"):
        get(tmp_path / "out", with_pointers(address))
    assert leftovers(tmp_path / "out") == set()


def test_a_file_of_another_size_than_the_pointer_says_is_not_even_downloaded(
    shelf, address, tmp_path
):
    content = shelf.files.pop(EXAMPLES_FILE)
    shelf.files |= {
        f"/data/{EXAMPLES_FILE}": content + b"more",
        f"/pointers/{EXAMPLES_FILE}": pointer(content),
    }
    with pytest.raises(NetworkError, match=f"expected {len(content):,}"):
        get(tmp_path / "out", with_pointers(address))
    assert leftovers(tmp_path / "out") == set()


@pytest.mark.parametrize("told_by_a_pointer", [True, False])
def test_a_pointer_in_place_of_the_file_is_recognised(shelf, address, tmp_path, told_by_a_pointer):
    text = pointer(shelf.files.pop(EXAMPLES_FILE))
    shelf.files[f"/data/{EXAMPLES_FILE}"] = text
    if told_by_a_pointer:
        shelf.files[f"/pointers/{EXAMPLES_FILE}"] = text
    with pytest.raises(NetworkError, match="sent the Git LFS pointer of the file"):
        get(tmp_path / "out", with_pointers(address))
    assert leftovers(tmp_path / "out") == set()


def test_a_web_page_in_place_of_the_file_is_recognised(shelf, address, tmp_path):
    shelf.kind = "text/html; charset=utf-8"
    with pytest.raises(NetworkError, match="a web page"):
        get(tmp_path, Source.at(address))


def test_something_else_than_the_layouts_file_is_thrown_away(shelf, address, tmp_path):
    for name, file, trouble in (
        (EXAMPLES_FILE, OfficialFile.EXAMPLES, "not a whole Parquet file"),
        (SOURCES_FILE, OfficialFile.SOURCES, "no column 'query_id'"),
    ):
        shelf.files[name] = b"neither a table nor a line of columns\n" * 100
        with pytest.raises(NetworkError, match=trouble):
            get(tmp_path / "out", Source.at(address), file)
        assert leftovers(tmp_path / "out") == set()


@pytest.mark.parametrize("chunked", [True, False])
def test_cut_connections_go_on_where_they_stopped(shelf, address, tmp_path, chunked):
    content = shelf.files[EXAMPLES_FILE]
    shelf.chunked = chunked
    shelf.cut_after = [50_000, 100_000, 1, 100_000, 1, 100_000]  # more cuts than attempts
    counter = Counter()
    found = get(tmp_path, Source.at(address), counter=counter)
    assert found.path.read_bytes() == content
    assert shelf.sent == len(content)  # no byte came twice
    assert counter.done == len(content)


def test_a_server_without_ranges_sends_all_again(shelf, address, tmp_path):
    shelf.ranges = False
    shelf.cut_after = [100_000]
    found = get(tmp_path, Source.at(address))
    assert found.path.read_bytes() == shelf.files[EXAMPLES_FILE]


def test_a_passing_trouble_of_the_server_is_waited_out(shelf, address, tmp_path):
    shelf.statuses = [503, 429]
    assert get(tmp_path, Source.at(address)).downloaded


def test_a_lasting_trouble_of_the_server_is_an_error_that_names_it(shelf, address, tmp_path):
    shelf.statuses = [503] * QUICK.attempts
    with pytest.raises(NetworkError, match=r"3 times in a row.*503 Service Unavailable"):
        get(tmp_path, Source.at(address))
    assert not shelf.statuses


def test_an_absent_file_is_not_asked_for_twice(shelf, address, tmp_path):
    shelf.files.clear()
    with pytest.raises(NetworkError, match="404 Not Found"):
        get(tmp_path, Source.at(address))
    assert [method for method, *_ in shelf.asked] == ["HEAD", "GET"]


def interrupted(shelf: Shelf, address: str, folder: Path, source: Source | None = None) -> Path:
    """A part of 100,000 bytes left behind by a run that gave up."""
    shelf.cut_after = [100_000, *[0] * QUICK.attempts]
    with pytest.raises(NetworkError, match="in a row"):
        get(folder, source or Source.at(address))
    part = folder / f"{EXAMPLES_FILE}.part"
    assert part.stat().st_size == 100_000
    assert EXAMPLES_FILE not in leftovers(folder)
    shelf.cut_after, shelf.sent = [], 0
    return part


def test_the_next_run_goes_on_where_the_last_gave_up(shelf, address, tmp_path):
    interrupted(shelf, address, tmp_path)
    counter = Counter()
    found = get(tmp_path, Source.at(address), counter=counter)
    assert found.path.read_bytes() == shelf.files[EXAMPLES_FILE]
    assert found.resumed_from == 100_000
    assert shelf.sent == found.size - 100_000
    assert counter.done == found.size


def test_a_part_that_was_complete_needs_no_more_bytes(shelf, address, tmp_path):
    part = interrupted(shelf, address, tmp_path)
    part.write_bytes(shelf.files[EXAMPLES_FILE])  # as if killed before the move
    found = get(tmp_path, Source.at(address))
    assert found.path.read_bytes() == shelf.files[EXAMPLES_FILE]
    assert shelf.sent == 0


@pytest.mark.parametrize("resumable", ["etag", "weak etag", "nothing"])
def test_a_file_that_changed_between_runs_is_begun_again(shelf, address, tmp_path, resumable):
    shelf.etags, shelf.weak = resumable != "nothing", resumable == "weak etag"
    interrupted(shelf, address, tmp_path)
    shelf.files[EXAMPLES_FILE] = examples_parquet(tmp_path, 2)
    found = get(tmp_path, Source.at(address))
    assert found.path.read_bytes() == shelf.files[EXAMPLES_FILE]
    assert found.resumed_from == 0


@pytest.mark.parametrize("conditions", [True, False])
def test_a_file_that_changed_between_cuts_is_begun_again(shelf, address, tmp_path, conditions):
    shelf.conditions = conditions
    other = examples_parquet(tmp_path, 2)
    shelf.cut_after, shelf.once_cut = [100_000], {EXAMPLES_FILE: other}
    assert get(tmp_path, Source.at(address)).path.read_bytes() == other


def test_a_damaged_part_is_noticed_by_the_checksum_and_begun_again(shelf, address, tmp_path):
    content = shelf.files[EXAMPLES_FILE]
    checksums = {EXAMPLES_FILE: Checksum(sha256(content), "me")}
    part = interrupted(shelf, address, tmp_path)
    part.write_bytes(bytes(100_000))
    counter = Counter()
    found = get(tmp_path, Source.at(address), counter=counter, checksums=checksums)
    assert found.path.read_bytes() == content
    assert found.resumed_from == 0
    assert counter.done == len(content)


def test_a_mirror_may_finish_what_another_began_if_the_checksum_is_known(shelf, tmp_path):
    content = shelf.files[EXAMPLES_FILE]
    checksums = {EXAMPLES_FILE: Checksum(sha256(content), "me")}
    shelf.etags = False
    with serving(shelf) as one:
        shelf.cut_after = [100_000, *[0] * QUICK.attempts]
        with pytest.raises(NetworkError):
            get(tmp_path, Source.at(one), checksums=checksums)
    shelf.cut_after, shelf.sent = [], 0
    with serving(shelf) as two:
        found = get(tmp_path, Source.at(two), checksums=checksums)
    assert found.resumed_from == 100_000
    assert shelf.sent == len(content) - 100_000


def test_a_part_without_its_origin_is_not_believed(shelf, address, tmp_path):
    part = interrupted(shelf, address, tmp_path)
    origin_of(part).write_text("{}")
    assert get(tmp_path, Source.at(address)).resumed_from == 0


def test_two_downloads_do_not_write_one_part(shelf, address, tmp_path):
    shelf.seconds_per_chunk = 0.02
    url, part = f"{address}/{EXAMPLES_FILE}", tmp_path / "part"

    def run() -> None:
        with Downloader(QUICK, allow_http=True) as web, Counter().bar("", None) as tick:
            web.download(url, part, Expected(), tick)

    first = threading.Thread(target=run)
    first.start()
    while not shelf.sent:
        time.sleep(0.01)
    with pytest.raises(NetworkError, match="another download"):
        run()
    first.join()
    assert part.read_bytes() == shelf.files[EXAMPLES_FILE]


def test_a_length_nobody_tells_needs_a_checksum(shelf, address, tmp_path):
    shelf.unsized = True
    with pytest.raises(NetworkError, match="how long the file is"):
        get(tmp_path, Source.at(address))
    checksums = {EXAMPLES_FILE: Checksum(sha256(shelf.files[EXAMPLES_FILE]), "me")}
    assert get(tmp_path, Source.at(address), checksums=checksums).verified_by == "me"


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(shelf, address, tmp_path):
    shelf.claim = 10**16
    with pytest.raises(NetworkError, match=r"free .* GB, or name another folder"):
        get(tmp_path, Source.at(address))


def test_a_file_in_place_is_left_alone_if_it_holds(shelf, address, tmp_path):
    content = shelf.files[EXAMPLES_FILE]
    checksums = {EXAMPLES_FILE: Checksum(sha256(content), "me")}
    assert get(tmp_path, Source.at(address), checksums=checksums).downloaded
    shelf.asked.clear()
    again = get(tmp_path, Source.at(address), checksums=checksums)
    assert (again.downloaded, again.verified_by) == (False, "me")
    assert shelf.asked == []


def test_a_file_in_place_that_does_not_hold_is_replaced_only_on_demand(shelf, address, tmp_path):
    content, mine = shelf.files[EXAMPLES_FILE], examples_parquet(tmp_path, 2)
    checksums = {EXAMPLES_FILE: Checksum(sha256(content), "me")}
    path = tmp_path / EXAMPLES_FILE
    path.write_bytes(mine)
    with pytest.raises(DataError, match="--force"):
        get(tmp_path, Source.at(address), checksums=checksums)
    assert path.read_bytes() == mine
    get(tmp_path, Source.at(address), checksums=checksums, force=True)
    assert path.read_bytes() == content


def test_a_truncated_file_in_place_is_not_believed(shelf, address, tmp_path):
    (tmp_path / EXAMPLES_FILE).write_bytes(shelf.files[EXAMPLES_FILE][:1000])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        get(tmp_path, Source.at(address))


def test_a_redirect_is_followed_with_its_range(shelf, address, tmp_path):
    shelf.redirect = address
    interrupted(shelf, address, tmp_path)
    assert get(tmp_path, Source.at(address)).resumed_from == 100_000
    assert shelf.asked[-1][1:] == (f"/media/{EXAMPLES_FILE}", "bytes=100000-")


def test_plain_http_is_spoken_only_where_it_was_asked_for(shelf, address, tmp_path):
    with (
        Downloader(QUICK) as web,
        pytest.raises(NetworkError, match="not https"),
    ):
        web.size(f"{address}/{EXAMPLES_FILE}")
    assert shelf.asked == []
    for wrong in ("ftp://host/files", "files", "https://"):
        with pytest.raises(ConfigError, match="--base-url"):
            Source.at(wrong)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_no_network_is_said_at_once(tmp_path, host):
    began = time.monotonic()
    source = Source.at(f"http://{host}:{closed_port()}")
    with source.downloader() as web:
        files = fetch(tmp_path / "out", source, list(OfficialFile), web, Counter().bar)
        with pytest.raises(NetworkError, match=r"no network.*by hand into"):
            next(files)
    assert time.monotonic() - began < 3
    assert leftovers(tmp_path / "out") == set()


def test_without_a_network_a_file_in_place_is_kept_but_not_called_verified(shelf, tmp_path):
    (tmp_path / EXAMPLES_FILE).write_bytes(shelf.files[EXAMPLES_FILE])
    nowhere = f"http://127.0.0.1:{closed_port()}"
    found = get(tmp_path, Source(nowhere, f"{nowhere}/pointers", {}))
    assert (found.downloaded, found.verified_by) == (False, None)
    assert found.note == f"no network to ask {nowhere[7:]} for its checksum"


@pytest.mark.parametrize("vouched", [True, False])
def test_files_come_where_only_the_host_of_their_pointers_is_away(
    shelf, address, tmp_path, vouched
):
    content = shelf.files[EXAMPLES_FILE]
    nowhere = f"http://127.0.0.1:{closed_port()}"
    known = {EXAMPLES_FILE: Checksum(sha256(content), "this version")} if vouched else {}
    found = get(tmp_path, Source(address, nowhere, known))
    assert found.path.read_bytes() == content
    assert found.verified_by == ("this version" if vouched else None)
    assert found.note == f"no network to ask {nowhere[7:]} for its checksum"


def test_a_pointer_in_place_of_a_file_is_called_one(shelf, address, tmp_path):
    (tmp_path / EXAMPLES_FILE).write_bytes(pointer(shelf.files[EXAMPLES_FILE]))
    with pytest.raises(DataError, match=r"Git LFS pointer of the file.*--force"):
        get(tmp_path, Source.at(address))


def test_the_official_address_knows_where_its_pointers_and_checksums_are():
    source = Source.at(OFFICIAL_URL + "/")
    assert source.base_url == OFFICIAL_URL
    assert source.pointers_url == (
        "https://raw.githubusercontent.com/amazon-science/esci-data/main/shopping_queries_dataset"
    )
    assert source.known == OFFICIAL_CHECKSUMS
    mirror = Source.at("https://huggingface.co/datasets/a/b/resolve/main/folder")
    assert mirror.pointers_url == "https://huggingface.co/datasets/a/b/raw/main/folder"
    assert mirror.known == {}


def test_a_file_of_another_version_than_the_known_one_is_pointed_out(shelf, address, tmp_path):
    content = shelf.files.pop(EXAMPLES_FILE)
    shelf.files |= {
        f"/data/{EXAMPLES_FILE}": content,
        f"/pointers/{EXAMPLES_FILE}": pointer(content),
    }
    source = Source(f"{address}/data", f"{address}/pointers", OFFICIAL_CHECKSUMS)
    found = get(tmp_path, source)
    assert found.verified_by == "the repository's Git LFS pointer"
    assert found.note is not None
    assert found.note.startswith("not the version")


def test_checksums_are_read_as_sha256sum_writes_them(tmp_path):
    path = tmp_path / "sums"
    path.write_text(f"# by hand\n{'A' * 64}  one.csv\n\n{'b' * 64} *some/folder/two.parquet\n")
    read = read_checksums(path)
    assert {name: entry.sha256 for name, entry in read.items()} == {
        "one.csv": "a" * 64,
        "two.parquet": "b" * 64,
    }
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match="line 1 is 'nonsense'"):
        read_checksums(path)


def esci(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "esci", "data", "fetch", "--files", "examples", *arguments]


def test_a_killed_download_goes_on_in_the_next_process(shelf, address, tmp_path):
    out = tmp_path / "out"
    part = out / f"{EXAMPLES_FILE}.part"
    sums = tmp_path / "sha256sums"
    content = shelf.files[EXAMPLES_FILE]
    sums.write_text(f"{sha256(content)}  {EXAMPLES_FILE}\n")
    arguments = esci("--out", str(out), "--base-url", address, "--checksums", str(sums))
    shelf.seconds_per_chunk = 0.05
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = part.stat().st_size
    assert 50_000 < kept < len(content)
    assert not (out / EXAMPLES_FILE).exists()

    shelf.seconds_per_chunk = 0
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert (out / EXAMPLES_FILE).read_bytes() == content
    assert leftovers(out) == {EXAMPLES_FILE}
    assert f"went on from {kept:,} bytes" in done.stdout
    assert f"verified by {sums}" in done.stdout
    assert f"esci data validate {out}" in done.stderr
    assert shelf.asked[-1] == ("GET", f"/{EXAMPLES_FILE}", f"bytes={kept}-")


def test_the_command_without_a_network_says_so_and_exits_with_2(tmp_path):
    nowhere = f"http://127.0.0.1:{closed_port()}"
    done = subprocess.run(
        esci("--out", str(tmp_path), "--base-url", nowhere), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.match(r"error: no network: 127.0.0.1:\d+ cannot be reached", done.stderr)

"""One file over HTTP: what is cut goes on where it stopped, what changed starts again."""

import fcntl
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from models.errors import DataError, NetworkError
from models.files import read_json, write_json
from pipelines.console import Tick
from pipelines.dataset.lfs import LFS_POINTER

T = TypeVar("T")

# A Git LFS pointer has some 130 bytes; what is longer is a file itself.
_HEAD_BYTES: Final = 1024
# A disk filled to the last byte stops the next program that writes.
_SPARE_BYTES: Final = 256 << 20
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE_SECONDS: Final = 60.0
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class UnreachableError(NetworkError):
    """No server has answered at all: there is no network, or no such host."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, in seconds, and how often to ask it again."""

    connect: float = 5.0  # short: without a network a person wants to know at once
    read: float = 30.0
    attempts: int = 5  # in a row, without a byte gained
    first_pause: float = 0.5  # doubles with every attempt


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes."""

    size: int | None = None
    sha256: str | None = None


class _CutError(Exception):
    """An attempt that failed in a way that another may not."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause
        self.gained = False


class Downloader:
    """An HTTP client that is quick to notice no network, and patient once a server has answered."""

    def __init__(self, patience: Patience | None = None, *, allow_http: bool = False) -> None:
        """Without `allow_http`, a redirect from https to http is refused as well."""
        self.patience = patience or Patience()
        self._schemes = ("https", "http") if allow_http else ("https",)
        self._answered = False
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(self.patience.read, connect=self.patience.connect),
            # Ranges count the bytes of the file, not of a compressed form of it.
            headers={"Accept-Encoding": "identity", "User-Agent": "esci-ensemble"},
            event_hooks={"request": [self._check_scheme]},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def head(self, url: str) -> bytes:
        """The first bytes of what `url` serves; none where it serves nothing."""

        def attempt() -> bytes:
            with self._answer("GET", url, {"Range": f"bytes=0-{_HEAD_BYTES - 1}"}) as response:
                start = b""
                if response.status_code in {200, 206}:
                    for chunk in response.iter_raw(_HEAD_BYTES):
                        start += chunk
                        if len(start) >= _HEAD_BYTES:
                            break
                return start[:_HEAD_BYTES]

        return self._insist(url, attempt)

    def size(self, url: str) -> int | None:
        """How many bytes `url` says it serves, if it says so."""

        def attempt() -> int | None:
            with self._answer("HEAD", url, {}) as response:
                return _content_length(response) if response.status_code == 200 else None

        return self._insist(url, attempt)

    def download(self, url: str, part: Path, expected: Expected, tick: Tick) -> int:
        """Bring `part` to the whole of what `url` serves; returns how many bytes it kept.

        The result is as long as the server said, which does not make it right: the caller
        verifies it and only then moves it into place.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(part) as file:
            transfer = _Transfer(url, part, file, expected, tick)

            def attempt() -> int:
                before = transfer.done
                try:
                    with self._answer("GET", url, transfer.headers()) as response:
                        transfer.receive(response)
                except _CutError as cut:
                    cut.gained = transfer.done > before
                    raise
                return transfer.kept

            try:
                return self._insist(url, attempt)
            except NetworkError:
                if not transfer.done:
                    forget(part)
                raise

    def _check_scheme(self, request: httpx.Request) -> None:
        if request.url.scheme not in self._schemes:
            raise NetworkError(
                f"{request.url} is not https, so nothing protects what it sends on the way; "
                "name a server that speaks https, or an http one with --base-url"
            )

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, url, headers=headers) as response:
                self._answered = True
                if response.status_code in _TRANSIENT:
                    raise _CutError(_status(response), _asked_pause(response))
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            if not self._answered:
                raise UnreachableError(
                    f"no network: {urlsplit(url).netloc} cannot be reached ({_reason(error)})"
                ) from error
            raise _CutError(_reason(error)) from error
        except httpx.TransportError as error:
            raise _CutError(_reason(error)) from error
        except httpx.HTTPError as error:
            raise NetworkError(f"{url} cannot be followed: {_reason(error)}") from error

    def _insist(self, url: str, attempt: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return attempt()
            except _CutError as cut:
                failures = 1 if cut.gained else failures + 1
                if failures >= self.patience.attempts:
                    raise NetworkError(
                        f"{url} failed {failures} times in a row, the last time with: {cut}; "
                        "what has arrived is kept, so try again later to go on from there"
                    ) from cut
                time.sleep(max(cut.pause, self.patience.first_pause * 2 ** (failures - 1)))


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of a part came from; kept beside it, since it may only go on from there."""

    url: str
    validator: str | None  # a strong ETag, or else the time of the last change
    sha256: str | None  # what the whole is to have

    @classmethod
    def read(cls, path: Path) -> "_Origin | None":
        """The origin noted at `path`, unless there is none that can be read."""
        try:
            return cls(**read_json(path))
        except (DataError, TypeError):
            return None


class _Transfer:
    """The bytes of one part, and the rules by which an answer may add to them."""

    def __init__(
        self, url: str, part: Path, file: IO[bytes], expected: Expected, tick: Tick
    ) -> None:
        self.url = url
        self.file = file
        self.expected = expected
        self.done = part.stat().st_size  # bytes that hold
        self._folder = part.parent
        self._note = origin_of(part)
        self._tick = tick
        self._shown = 0
        self._validator: str | None = None
        if not self._may_go_on(_Origin.read(self._note)):
            self._restart()
        self.kept = self.done
        self._show()

    def _may_go_on(self, origin: _Origin | None) -> bool:
        if origin is None:
            return False
        if origin.url == self.url and origin.validator:
            self._validator = origin.validator
            return True
        # From elsewhere, or from a server that cannot say whether its file has changed: the
        # checksum will tell.
        return origin.sha256 is not None and origin.sha256 == self.expected.sha256

    def headers(self) -> dict[str, str]:
        """What asks for the rest, on condition that the file is still the same."""
        if not self.done:
            return {}
        condition = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={self.done}-", **condition}

    def receive(self, response: httpx.Response) -> None:
        """Add what `response` carries; a cut leaves what came before it."""
        total = self._start(response)
        if response.status_code == 416:
            return
        first = self.done == 0
        for chunk in response.iter_raw():
            if first:
                self._refuse_pointer(chunk)
            first = False
            self._append(chunk)
        if total is not None and self.done != total:
            raise _CutError(f"cut at {self.done:,} of {total:,} bytes")

    def _start(self, response: httpx.Response) -> int | None:
        """Decide what `response` adds to; the size of the whole, if it is known."""
        status = response.status_code
        if status not in {200, 206, 416}:
            raise NetworkError(
                f"{self.url} answered {_status(response)}; expected the file: is the address right?"
            )
        total = _content_length(response)
        if status != 200:
            place = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start, whole = place.groups() if place else (None, None)
            total = int(whole) if whole and whole != "*" else None
            complete = status == 416 and total == self.done
            continues = status == 206 and start == str(self.done) and self._unchanged(response)
            if not (complete or continues):
                self._restart()
                raise _CutError("the file on the server is not the one that was begun")
            if complete:
                return total
        elif self.done:
            self._restart()
        self._refuse_unfit(response, total)
        self._validator = _validator(response)
        write_json(self._note, asdict(_Origin(self.url, self._validator, self.expected.sha256)))
        return total

    def _unchanged(self, response: httpx.Response) -> bool:
        now = _validator(response)
        return now is None or self._validator is None or now == self._validator

    def _refuse_unfit(self, response: httpx.Response, total: int | None) -> None:
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise NetworkError(
                f"{self.url} answered with a web page; expected the file: is the address right, "
                "or does the network want you to log in first?"
            )
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise NetworkError(
                f"{self.url} sends {coding} although it was asked not to compress; "
                "name another --base-url, or copy the file by hand"
            )
        if total is None:
            ends = "chunked" in response.headers.get("Transfer-Encoding", "")
            if not ends and self.expected.sha256 is None:
                raise NetworkError(
                    f"{self.url} does not say how long the file is, so a cut could not be noticed; "
                    "give its SHA-256 with --checksums"
                )
            return
        if self.expected.size not in {None, total}:
            if total <= _HEAD_BYTES:
                self._refuse_pointer(response.read())
            raise NetworkError(
                f"{self.url} serves {total:,} bytes; expected {self.expected.size:,}: "
                "it is another version of the file, or something in its place"
            )
        free, needed = shutil.disk_usage(self._folder).free, total - self.done
        if free < needed + _SPARE_BYTES:
            raise NetworkError(
                f"{self._folder} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are to "
                f"come; free {(needed + _SPARE_BYTES - free) / 1e9:.1f} GB, or name another folder "
                "with --out"
            )

    def _refuse_pointer(self, start: bytes) -> None:
        if start.startswith(LFS_POINTER):
            raise NetworkError(
                f"{self.url} sent the Git LFS pointer of the file, not the file; name a "
                "--base-url that serves large files (for GitHub: "
                "https://media.githubusercontent.com/media/OWNER/REPOSITORY/BRANCH/FOLDER), or "
                "run `git lfs pull` in a clone and copy the files by hand"
            )

    def _append(self, chunk: bytes) -> None:
        try:
            self.file.write(chunk)
            self.file.flush()
        except OSError as error:
            raise NetworkError(
                f"{self._folder} takes no more: {error}; what has arrived is kept, so make room "
                "and run again"
            ) from error
        self.done += len(chunk)
        self._show()

    def _restart(self) -> None:
        self.file.truncate(0)
        self.file.seek(0)
        self.done = self.kept = 0
        self._validator = None
        self._show()

    def _show(self) -> None:
        self._tick(self.done - self._shown)
        self._shown = self.done


def origin_of(part: Path) -> Path:
    """Where the origin of `part` is noted."""
    return part.with_name(part.name + ".json")


def forget(part: Path) -> None:
    """Remove `part` and what is noted of it."""
    part.unlink(missing_ok=True)
    origin_of(part).unlink(missing_ok=True)


@contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes]]:
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NetworkError(
                f"{part} is being written by another download; wait for it to end"
            ) from error
        yield file


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: httpx.Response) -> str | None:
    etag: str | None = response.headers.get("ETag")
    # RFC 9110, 13.1.5: a weak tag does not promise the same bytes.
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _asked_pause(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), _LONGEST_PAUSE_SECONDS) if seconds.isdecimal() else 0.0


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__

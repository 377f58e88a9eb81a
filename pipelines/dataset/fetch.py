"""The official ESCI files from their public repository: verified where they can be, and said so."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import ConfigError, DataError, MissingDataError, NetworkError
from models.files import file_sha256
from pipelines.console import Tick
from pipelines.dataset.download import (
    Downloader,
    Expected,
    UnreachableError,
    forget,
    origin_of,
)
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCTS_FILE, SCHEMAS, SOURCES_FILE
from pipelines.dataset.lfs import LFS_POINTER, is_pointer

OFFICIAL_URL: Final = (
    "https://github.com/amazon-science/esci-data/raw/main/shopping_queries_dataset"
)


class OfficialFile(StrEnum):
    """The three files of the repository, by their short names."""

    EXAMPLES = "examples"
    PRODUCTS = "products"
    SOURCES = "sources"

    @property
    def file_name(self) -> str:
        """The name in the official layout."""
        return _FILE_NAMES[self]


_FILE_NAMES: Final[Mapping[OfficialFile, str]] = MappingProxyType(
    {
        OfficialFile.EXAMPLES: EXAMPLES_FILE,
        OfficialFile.PRODUCTS: PRODUCTS_FILE,
        OfficialFile.SOURCES: SOURCES_FILE,
    }
)


@dataclass(frozen=True)
class Checksum:
    """What a file is to be, and who says so."""

    sha256: str
    said_by: str
    size: int | None = None


# As the Git LFS pointers of the repository said at commit 7e0e3073f5ca36c0b5ff79e847cf99a74597645d.
# The CSV file is not in LFS, so nothing is published to hold it against.
_KNOWN_BY: Final = "the checksums this version of esci-ensemble knows"
OFFICIAL_CHECKSUMS: Final[Mapping[str, Checksum]] = MappingProxyType(
    {
        EXAMPLES_FILE: Checksum(
            "4a735b693b4a424a6fc67f5be6e4c811495c488bbf66d02a602d308b2744263a", _KNOWN_BY, 51286808
        ),
        PRODUCTS_FILE: Checksum(
            "25124442d064d64b26f74082d6fa09438d679efc0c183cf28d19064a2b65a265",
            _KNOWN_BY,
            1108857465,
        ),
    }
)

# Where a host serves large files, and where it serves the pointers to them instead.
_POINTER_HOSTS: Final = (
    (
        re.compile(r"https://github\.com/([^/]+/[^/]+)/raw/"),
        r"https://raw.githubusercontent.com/\1/",
    ),
    (re.compile(r"https://huggingface\.co/(.+)/resolve/"), r"https://huggingface.co/\1/raw/"),
)
_POINTER: Final = re.compile(rb"^oid sha256:([0-9a-f]{64})\s+^size (\d+)\s", re.MULTILINE)
_CHECKSUM_LINE: Final = re.compile(r"([0-9a-fA-F]{64})\s+\*?(.+)")


@dataclass(frozen=True)
class Source:
    """Where the files are, and what is known of them beforehand."""

    base_url: str
    pointers_url: str | None  # serves Git LFS pointers under the same names
    known: Mapping[str, Checksum]

    @classmethod
    def at(cls, base_url: str) -> Self:
        """The source at `base_url`; https, unless the address itself says http."""
        base_url = base_url.rstrip("/")
        parts = urlsplit(base_url)
        if parts.scheme not in {"https", "http"} or not parts.netloc:
            raise ConfigError(
                f"--base-url is {base_url!r}; expected a folder's address, such as {OFFICIAL_URL}"
            )
        pointers = next(
            (host.sub(at, base_url) for host, at in _POINTER_HOSTS if host.match(base_url)), None
        )
        return cls(base_url, pointers, OFFICIAL_CHECKSUMS if base_url == OFFICIAL_URL else {})

    def downloader(self) -> Downloader:
        """A client that may speak to this source."""
        return Downloader(allow_http=self.base_url.startswith("http:"))


@dataclass(frozen=True)
class Fetched:
    """One file that is in place."""

    name: str
    path: Path
    size: int
    sha256: str
    downloaded: bool  # otherwise it was there before
    resumed_from: int  # bytes an earlier, interrupted run had brought
    verified_by: str | None
    note: str | None = None


Bar = Callable[[str, int | None], AbstractContextManager[Tick]]


def read_checksums(path: Path) -> dict[str, Checksum]:
    """Checksums by file name from a file as `sha256sum` writes it."""
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; expected a file as `sha256sum` writes it")
    checksums = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := _CHECKSUM_LINE.fullmatch(line.strip())):
            raise DataError(
                f"{path} line {number} is {line!r}; expected 64 hexadecimal digits, two spaces and "
                "a file name: write it with `sha256sum FILE...`"
            )
        sha256, name = match.groups()
        checksums[Path(name).name] = Checksum(sha256.lower(), str(path))
    return checksums


def fetch(
    folder: Path,
    source: Source,
    files: Sequence[OfficialFile],
    web: Downloader,
    bar: Bar,
    *,
    checksums: Mapping[str, Checksum] = MappingProxyType({}),
    force: bool = False,
) -> Iterator[Fetched]:
    """Bring `files` into `folder`, one after the other; each appears there whole or not at all.

    A file is held against `checksums`, or else against the repository's Git LFS pointer, or else
    against what `source` knows. One that is in place and holds is left alone.
    """
    for file in files:
        name = file.file_name
        try:
            present = None if force else _present(folder / name, source, checksums, web)
            yield present or _download(folder / name, source, checksums, web, bar)
        except UnreachableError as error:
            raise NetworkError(
                f"{error}; where there is a network, get {source.base_url}/{name}, "
                f"and copy it by hand into {folder}"
            ) from error


def _present(
    path: Path, source: Source, checksums: Mapping[str, Checksum], web: Downloader
) -> Fetched | None:
    if not path.is_file():
        return None
    known = checksums.get(path.name) or source.known.get(path.name)
    found = _fetched(path, file_sha256(path), downloaded=False)
    if known and known.sha256 == found.sha256:  # so no network is needed
        return replace(found, verified_by=known.said_by)
    if trouble := _misshapen(path, path.name):
        raise DataError(f"{path} is there but {trouble}; replace it with --force")
    wanted, note = _wanted(path.name, source, checksums, web)
    if wanted and wanted.sha256 != found.sha256:
        raise DataError(
            f"{path} is there with SHA-256 {found.sha256}; {wanted.said_by} says {wanted.sha256}; "
            "replace it with --force, or name another folder with --out"
        )
    return replace(found, verified_by=wanted.said_by if wanted else None, note=note)


def _download(
    path: Path, source: Source, checksums: Mapping[str, Checksum], web: Downloader, bar: Bar
) -> Fetched:
    url = f"{source.base_url}/{path.name}"
    part = path.with_name(path.name + ".part")
    wanted, note = _wanted(path.name, source, checksums, web)
    size = wanted.size if wanted else None
    expected = Expected(size, wanted.sha256 if wanted else None)
    total = web.size(url) if size is None else size

    def arrive() -> tuple[int, str]:
        with bar(path.name, total) as tick:
            kept = web.download(url, part, expected, tick)
        return kept, file_sha256(part)

    kept, sha256 = arrive()
    if wanted and kept and sha256 != wanted.sha256:
        forget(part)  # what was kept may be of another version, or damaged since
        kept, sha256 = arrive()
    if wanted and sha256 != wanted.sha256:
        forget(part)
        raise NetworkError(
            f"{url} arrived with SHA-256 {sha256}; {wanted.said_by} says {wanted.sha256}; it was "
            "thrown away: try again, and if that ends alike, the server has another file"
        )
    if trouble := _misshapen(part, path.name):
        forget(part)
        raise NetworkError(
            f"{url} arrived, but {trouble}; it was thrown away: is the address right?"
        )
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    origin_of(part).unlink(missing_ok=True)
    found = _fetched(path, sha256, downloaded=True)
    verified_by = wanted.said_by if wanted else _officially(path.name, sha256)
    return replace(found, resumed_from=kept, verified_by=verified_by, note=note)


def _wanted(
    name: str, source: Source, checksums: Mapping[str, Checksum], web: Downloader
) -> tuple[Checksum | None, str | None]:
    """What the file is to be, and what a person should know about that."""
    if name in checksums:
        return checksums[name], None
    known = source.known.get(name)
    if source.pointers_url is None:
        return known, None
    try:
        start = web.head(f"{source.pointers_url}/{name}")
    except NetworkError:
        host = urlsplit(source.pointers_url).netloc
        return known, f"no network to ask {host} for its checksum"
    if not (start.startswith(LFS_POINTER) and (pointer := _POINTER.search(start))):
        return known, None
    published = Checksum(pointer[1].decode(), "the repository's Git LFS pointer", int(pointer[2]))
    changed = known and known.sha256 != published.sha256
    return published, f"not the version that {_KNOWN_BY} describe" if changed else None


def _officially(name: str, sha256: str) -> str | None:
    """Who vouches for a file from a mirror."""
    official = OFFICIAL_CHECKSUMS.get(name)
    return official.said_by if official and official.sha256 == sha256 else None


def _misshapen(path: Path, name: str) -> str | None:
    """Why the content of `path` cannot be the layout's file `name`; a look, not a validation."""
    columns = SCHEMAS[name].names
    if is_pointer(path):
        return "it is the Git LFS pointer of the file, not the file"
    if name.endswith(".parquet"):
        try:
            found = pq.read_schema(path).names
        except (pa.ArrowException, OSError) as error:
            return f"it is not a whole Parquet file ({error})"
    else:
        with path.open("rb") as source:
            found = source.readline().decode("utf-8-sig", "replace").strip().split(",")
    missing = [column for column in columns if column not in found]
    return f"it has no column {missing[0]!r}" if missing else None


def _fetched(path: Path, sha256: str, *, downloaded: bool) -> Fetched:
    return Fetched(path.name, path, path.stat().st_size, sha256, downloaded, 0, None)

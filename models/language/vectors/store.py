"""Vectors of a whole catalogue in a folder, memory-mapped: a million take no memory to open.

    <folder>/
      vectors.json         of which tower, how packed, and the segments in order
      <name>.keys.npy      uint64 (2, vectors): both halves of each key, sorted
      <name>.rows.npy      uint8 (vectors, stride): the packed vectors, in the order of the keys

A segment is never changed. Adding writes a new one and then names it in vectors.json, so a kill
leaves the store as it was; merging does the same with one for all. Many processes may write, one
at a time by a lock on the folder, while others read what was there when they opened the store.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import DataError, EsciError, ReleaseError
from models.files import atomic_file, read_json, write_json
from models.language.vectors.packing import Packed, Packing, Precision
from models.language.vectors.source import KEY_BYTES, Found, Keys
from models.typed import STRICT, complaints, parse, plain

FORMAT: Final = 2
ABOUT_FILE: Final = "vectors.json"
_BLOCK_ROWS: Final = 1 << 15  # read at a time when segments are merged or verified
# Segments whose vectors take no more are read whole when opened: some hundredths of a second.
_VERIFIED_BYTES: Final = 1 << 24
_REBUILD: Final = "compute the product vectors again"


@dataclass(frozen=True)
class _SegmentEntry:
    __pydantic_config__ = STRICT

    name: str
    count: int
    keys_sha256: str
    rows_sha256: str


@dataclass(frozen=True)
class _About:
    __pydantic_config__ = STRICT

    format: int
    identity: str
    precision: Precision
    width: int
    segments: tuple[_SegmentEntry, ...]


@dataclass(frozen=True, eq=False)
class _Segment:
    entry: _SegmentEntry
    first: NDArray[np.uint64]  # (vectors,): the first half of each key, sorted
    second: NDArray[np.uint64]  # (vectors,): the other half, sorted where the first agrees
    rows: Packed  # (vectors, stride)

    def places(
        self, first: NDArray[np.uint64], second: NDArray[np.uint64]
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The place of each key, and whether it is there."""
        last = len(self.first) - 1
        at = np.minimum(np.searchsorted(self.first, first), last)
        there = (self.first[at] == first) & (self.second[at] == second)
        # Keys that share their first half: chance makes none in a million products, but a store
        # must not answer with another's vector, nor miss one.
        astray = np.flatnonzero(~there & (self.first[at] == first) & (at < last))
        while len(astray):
            at[astray] += 1
            there[astray] = (self.first[at[astray]] == first[astray]) & (
                self.second[at[astray]] == second[astray]
            )
            goes_on = ~there[astray] & (self.first[at[astray]] == first[astray])
            astray = astray[goes_on & (at[astray] < last)]
        return at, there

    def verify(self) -> None:
        """Refuse vectors that are not those that were written, by reading all of them."""
        digest = sha256()
        for start in range(0, len(self.rows), _BLOCK_ROWS):
            digest.update(self.rows[start : start + _BLOCK_ROWS].tobytes())
        if digest.hexdigest() != self.entry.rows_sha256:
            raise ReleaseError(f"vectors of segment {self.entry.name} are not what was written")


class ProductVectors:
    """The store in one folder; a VectorSource."""

    def __init__(self, folder: Path, about: _About, segments: Sequence[_Segment]) -> None:
        self.folder = folder
        self.packing = Packing(about.precision, about.width)
        self._about = about
        self._segments = list(segments)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store in `folder`, checked to be whole, but for the vectors of large segments.

        Those are mapped, and read when they are asked for; `verify` reads all of them.
        """
        return cls(folder, *_whole(folder))

    @classmethod
    def create(cls, folder: Path, identity: str, packing: Packing) -> Self:
        """An empty store in `folder`, or the one that is there, if it is of this identity."""
        folder.mkdir(parents=True, exist_ok=True)
        with _writing(folder):
            if not (folder / ABOUT_FILE).exists():
                about = _About(FORMAT, identity, packing.precision, packing.width, ())
                write_json(folder / ABOUT_FILE, plain(about))
                return cls(folder, about, [])
        store = cls.open(folder)
        if (store.identity, store.packing) != (identity, packing):
            raise DataError(
                f"{folder} holds vectors of another tower ({store.identity[:12]}, not "
                f"{identity[:12]}) or packing; give another folder, or remove this one"
            )
        return store

    @property
    def identity(self) -> str:
        """The digest of the tower, its reader and packing."""
        return self._about.identity

    def __len__(self) -> int:
        return sum(entry.count for entry in self._about.segments)

    def verify(self) -> None:
        """Read every vector, and refuse the store where one is not what was written."""
        try:
            for segment in self._segments:
                segment.verify()
        except EsciError as error:
            raise ReleaseError(f"{self.folder} has rotted: {error}; {_REBUILD}") from error

    def get_many(self, keys: Keys) -> Found:
        """The packed vectors of those of `keys` that are here.

        A vector that has become infinite or no number on disk is not here: it is made anew.
        """
        first, second = _halves(keys)
        known = np.zeros(len(keys), bool)
        packed = np.empty((len(keys), self.packing.stride), np.uint8)
        for segment in self._segments:
            asked = np.flatnonzero(~known)
            at, there = segment.places(first[asked], second[asked])
            rows, at = asked[there], at[there]
            # In the order of the file: pages that lie together are read together.
            order = np.argsort(at)
            found = segment.rows[at[order]]
            packed[rows[order]] = found
            known[rows[order]] = self.packing.is_finite(found)
        return Found(known, packed if known.all() else packed[known])

    def append(self, keys: Keys, packed: Packed) -> int:
        """Add vectors, and return how many were new: a key that is here keeps what it has."""
        if packed.shape != (len(keys), self.packing.stride):
            raise DataError(
                f"{len(keys)} keys with packed vectors of shape {packed.shape}; expected "
                f"({len(keys)}, {self.packing.stride})"
            )
        if not self.packing.is_finite(packed).all():
            raise DataError("vectors to store hold numbers that are not finite; check the network")
        first, second = _halves(keys)
        order = np.lexsort((second, first))
        first, second = first[order], second[order]
        repeats = np.append(False, (np.diff(first) == 0) & (np.diff(second) == 0))[: len(order)]
        with self._latest():
            is_new = ~repeats & ~self.get_many(keys[order]).known
            if is_new.any():
                both = np.stack([first[is_new], second[is_new]])
                rows = packed[order[is_new]]
                entry = self._write(both, [rows])
                self._commit((*self._about.segments, entry))
        return int(is_new.sum())

    def merge(self) -> None:
        """Make one segment of all, which is looked up faster; needs disk for both meanwhile."""
        with self._latest():
            if len(self._segments) > 1:
                self.verify()  # else what has rotted would be written with a checksum of its own
                self._merge()

    def _merge(self) -> None:
        counts = [len(segment.first) for segment in self._segments]
        first = np.concatenate([segment.first for segment in self._segments])
        second = np.concatenate([segment.second for segment in self._segments])
        owner = np.repeat(np.arange(len(counts)), counts)
        place = np.concatenate([np.arange(count) for count in counts])
        order = np.lexsort((second, first))

        parts = np.array_split(order, -(-len(order) // _BLOCK_ROWS))
        blocks = (self._gathered(owner[rows], place[rows]) for rows in parts)
        entry = self._write(np.stack([first[order], second[order]]), blocks)
        self._commit((entry,))

    @contextmanager
    def _latest(self) -> Iterator[None]:
        """Keep other writers away, with what they have written until now taken in."""
        with _writing(self.folder):
            about, segments = _whole(self.folder, self._segments)
            if (about.identity, Packing(about.precision, about.width)) != (
                self.identity,
                self.packing,
            ):
                raise DataError(
                    f"{self.folder} was made anew by another tower ({about.identity[:12]}, not "
                    f"{self.identity[:12]}) meanwhile; give another folder"
                )
            self._about, self._segments = about, segments
            self._sweep()
            yield

    def _gathered(self, owner: NDArray[np.int64], place: NDArray[np.int64]) -> Packed:
        packed = np.empty((len(owner), self.packing.stride), np.uint8)
        for number, segment in enumerate(self._segments):
            mine = owner == number
            packed[mine] = segment.rows[place[mine]]
        return packed

    def _write(self, keys: NDArray[np.uint64], blocks: Iterable[Packed]) -> _SegmentEntry:
        """Write a segment of sorted keys; nothing refers to it yet."""
        digest, of_rows = sha256(np.ascontiguousarray(keys).tobytes()).hexdigest(), sha256()
        name, count = digest[:16], keys.shape[1]
        keys_file, rows_file = _files(self.folder, name)
        with atomic_file(keys_file) as scratch, scratch.open("wb") as target:
            np.save(target, keys.astype("<u8"), allow_pickle=False)
        with atomic_file(rows_file) as scratch, scratch.open("wb") as target:
            shape = (count, self.packing.stride)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(target, header)
            for block in blocks:
                of_rows.update(block.tobytes())
                target.write(block.tobytes())
        return _SegmentEntry(name, count, digest, of_rows.hexdigest())

    def _commit(self, segments: tuple[_SegmentEntry, ...]) -> None:
        """Name `segments` as those of the store, and remove files that none of them has."""
        about = _About(FORMAT, self.identity, self.packing.precision, self.packing.width, segments)
        write_json(self.folder / ABOUT_FILE, plain(about))
        self._about, self._segments = _whole(self.folder, self._segments)
        self._sweep()

    def _sweep(self) -> None:
        """Remove segments that the store does not name, and what killed writers have left.

        Only under the lock, with the latest list: then nobody else is writing any of it.
        """
        kept = {path for entry in self._about.segments for path in _files(self.folder, entry.name)}
        for ending in ("keys.npy", "rows.npy"):
            found = [*self.folder.glob(f"*.{ending}"), *self.folder.glob(f".*.{ending}.*.part")]
            for path in set(found) - kept:
                path.unlink()
        for path in self.folder.glob(f".{ABOUT_FILE}.*.part"):
            path.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Wait for other writers, of this process too, and keep them away; a kill lets go."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _whole(folder: Path, have: Sequence[_Segment] = ()) -> tuple[_About, list[_Segment]]:
    """What the store names, opened, but for those of `have`, which are open already."""
    try:
        return _opened_all(folder, {segment.entry: segment for segment in have})
    except ValidationError as error:
        raise ReleaseError(f"{folder / ABOUT_FILE}: {complaints(error)}; {_REBUILD}") from error
    except (OSError, EOFError, ValueError, EsciError) as error:
        raise ReleaseError(f"{folder} holds no whole store: {error}; {_REBUILD}") from error


def _opened_all(
    folder: Path, have: Mapping[_SegmentEntry, _Segment]
) -> tuple[_About, list[_Segment]]:
    found = read_json(folder / ABOUT_FILE)
    while True:
        _check_format(folder, found)
        about = parse(_About, found)
        stride = Packing(about.precision, about.width).stride
        try:
            return about, [
                have.get(entry) or _opened(folder, entry, stride) for entry in about.segments
            ]
        except FileNotFoundError:
            # A writer may have removed what it named before; then it names other segments now.
            before, found = found, read_json(folder / ABOUT_FILE)
            if found == before:
                raise


def _check_format(folder: Path, found: Any) -> None:
    number = found.get("format") if isinstance(found, dict) else None
    if number != FORMAT:
        raise ReleaseError(
            f"{folder} holds vectors in format {number!r} and this code reads {FORMAT}"
        )


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.keys.npy", folder / f"{name}.rows.npy"


def _opened(folder: Path, entry: _SegmentEntry, stride: int) -> _Segment:
    keys_file, rows_file = _files(folder, entry.name)
    keys = np.load(keys_file, allow_pickle=False)
    # A truncated file cannot be mapped in its shape, and numpy says so.
    rows = np.load(rows_file, mmap_mode="r", allow_pickle=False)
    if keys.shape != (2, entry.count) or rows.shape != (entry.count, stride):
        raise ReleaseError(
            f"{entry.name} has keys of shape {keys.shape} and vectors of shape {rows.shape}; "
            f"expected (2, {entry.count}) and ({entry.count}, {stride})"
        )
    if rows.dtype != np.uint8 or sha256(keys.tobytes()).hexdigest() != entry.keys_sha256:
        raise ReleaseError(f"{keys_file} or {rows_file} is not what was written")
    first, second = np.ascontiguousarray(keys, np.uint64)
    segment = _Segment(entry, first, second, rows)
    if rows.nbytes <= _VERIFIED_BYTES:
        segment.verify()
    return segment


def _halves(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both halves of each key as numbers; their order is that of the bytes."""
    halves = np.ascontiguousarray(keys).reshape(len(keys), KEY_BYTES).view(">u8")
    first, second = np.ascontiguousarray(halves.T.astype(np.uint64))
    return first, second

"""Vectors of a whole catalogue in a folder, memory-mapped: a million take no memory to open.

    <folder>/
      vectors.json         of which tower, how packed, and the segments in order
      <name>.keys.npy, <name>.rows.npy      a segment; see models/vectors/segments.py

Adding writes a new segment and then names it in vectors.json, so a kill leaves the store as it was;
merging does the same with one for all. A damaged store is set aside by renaming vectors.json; what
is left of it goes when the next vectors are added. Many processes may write, one at a time by a
lock on the folder, while others read what was there when they opened the store.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import DataError, EsciError, ReleaseError
from models.files import locked, read_json, write_json
from models.typed import STRICT, complaints, parse, plain
from models.vectors.packing import Packed, Packing, Precision
from models.vectors.segments import (
    BLOCK_ROWS,
    Halves,
    Segment,
    SegmentEntry,
    find,
    halves_of,
    segment_files,
    sorting,
)
from models.vectors.source import Found, Keys

FORMAT: Final = 2
ABOUT_FILE: Final = "vectors.json"
_REBUILD: Final = "compute the product vectors again, with esci precompute"
# What a damaged store's list becomes, which no store is read from; `_sweep` removes it.
_SET_ASIDE: Final = f".{ABOUT_FILE}.damaged.part"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _About:
    __pydantic_config__ = STRICT

    format: int
    identity: str
    precision: Precision
    width: int
    segments: tuple[SegmentEntry, ...]
    heading: int = 0

    @classmethod
    def of(cls, identity: str, packing: Packing, segments: tuple[SegmentEntry, ...]) -> Self:
        return cls(FORMAT, identity, packing.precision, packing.width, segments, packing.heading)

    @property
    def packing(self) -> Packing:
        return Packing(self.precision, self.width, self.heading)


class ProductVectors:
    """The store in one folder; a VectorSource."""

    def __init__(self, folder: Path, about: _About, segments: Sequence[Segment]) -> None:
        self.folder = folder
        self.packing = about.packing
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
        with locked(folder):
            if not (folder / ABOUT_FILE).exists():
                about = _About.of(identity, packing, ())
                write_json(folder / ABOUT_FILE, plain(about))
                return cls(folder, about, [])
        store = cls.open(folder)
        if (store.identity, store.packing) != (identity, packing):
            raise DataError(
                f"{folder} holds vectors of another tower ({store.identity[:12]}, not "
                f"{identity[:12]}) or packing; give another folder, or remove this one"
            )
        return store

    @classmethod
    def mended(cls, folder: Path, identity: str, packing: Packing) -> Self:
        """As `create`, after every vector that is there was read: a damaged store becomes empty.

        The log tells of the damage.
        """
        if (folder / ABOUT_FILE).exists():
            with locked(folder):  # nor does another process mend it meanwhile
                try:
                    cls.open(folder).verify()
                except ReleaseError as error:
                    if _is_unread(error):
                        raise
                    (folder / ABOUT_FILE).replace(folder / _SET_ASIDE)
                    log.warning("set aside, to be computed again: %s", error)
        return cls.create(folder, identity, packing)

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
        halves = halves_of(keys)
        known = np.zeros(len(keys), bool)
        packed = np.empty((len(keys), self.packing.stride), np.uint8)
        for segment in self._segments:
            asked = np.flatnonzero(~known)
            at, there = find(halves[:, asked], segment.keys)
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
        halves = halves_of(keys)
        order = sorting(halves)
        halves = halves[:, order]
        repeats = np.append(False, (np.diff(halves) == 0).all(axis=0))[: len(order)]
        with self._latest():
            is_new = ~repeats & ~self.get_many(keys[order]).known
            if is_new.any():
                rows = packed[order[is_new]]
                entry = Segment.write(self.folder, halves[:, is_new], [rows], self.packing.stride)
                self._commit((*self._about.segments, entry))
        return int(is_new.sum())

    def merge(self) -> None:
        """Make one segment of all, which is looked up faster; needs disk for both meanwhile."""
        with self._latest():
            if len(self._segments) > 1:
                halves = self._all_keys()
                self._rewrite(halves, sorting(halves))

    def keep_only(self, keys: Keys) -> int:
        """Forget the vectors of all but `keys`, and return how many; needs disk as merging does."""
        wanted = halves_of(keys)
        wanted = wanted[:, sorting(wanted)]
        with self._latest():
            halves = self._all_keys()
            order = sorting(halves)
            kept = order[find(halves[:, order], wanted)[1]]
            if len(kept) < len(order):
                self._rewrite(halves, kept)
        return len(order) - len(kept)

    def _all_keys(self) -> Halves:
        nothing = np.empty((2, 0), np.uint64)
        return np.concatenate([nothing, *(segment.keys for segment in self._segments)], axis=1)

    def _rewrite(self, halves: Halves, order: NDArray[np.intp]) -> None:
        """Make one segment of some of all keys, in that order."""
        self.verify()  # else what has rotted would be written with a checksum of its own
        if not len(order):
            self._commit(())
            return
        counts = [len(segment.rows) for segment in self._segments]
        owner = np.repeat(np.arange(len(counts)), counts)
        place = np.concatenate([np.arange(count) for count in counts])
        parts = np.array_split(order, -(-len(order) // BLOCK_ROWS))
        blocks = (self._gathered(owner[rows], place[rows]) for rows in parts)
        entry = Segment.write(self.folder, halves[:, order], blocks, self.packing.stride)
        self._commit((entry,))

    def _gathered(self, owner: NDArray[np.int64], place: NDArray[np.int64]) -> Packed:
        packed = np.empty((len(owner), self.packing.stride), np.uint8)
        for number, segment in enumerate(self._segments):
            mine = owner == number
            packed[mine] = segment.rows[place[mine]]
        return packed

    @contextmanager
    def _latest(self) -> Iterator[None]:
        """Keep other writers away, with what they have written until now taken in."""
        with locked(self.folder):
            about, segments = _whole(self.folder, self._segments)
            if (about.identity, about.packing) != (self.identity, self.packing):
                raise DataError(
                    f"{self.folder} was made anew by another tower ({about.identity[:12]}, not "
                    f"{self.identity[:12]}) meanwhile; give another folder"
                )
            self._about, self._segments = about, segments
            self._sweep()
            yield

    def _commit(self, segments: tuple[SegmentEntry, ...]) -> None:
        """Name `segments` as those of the store, and remove files that none of them has."""
        about = _About.of(self.identity, self.packing, segments)
        write_json(self.folder / ABOUT_FILE, plain(about))
        self._about, self._segments = _whole(self.folder, self._segments)
        self._sweep()

    def _sweep(self) -> None:
        """Remove segments that the store does not name, and what killed writers have left.

        Only under the lock, with the latest list: then nobody else is writing any of it.
        """
        kept = {path for entry in self._about.segments for path in entry.files(self.folder)}
        left = self.folder.glob(f".{ABOUT_FILE}.*.part")
        for path in (segment_files(self.folder) - kept).union(left):
            path.unlink()


def _whole(folder: Path, have: Sequence[Segment] = ()) -> tuple[_About, list[Segment]]:
    """What the store names, opened, but for those of `have`, which are open already."""
    try:
        return _opened_all(folder, {segment.entry: segment for segment in have})
    except ValidationError as error:
        raise ReleaseError(f"{folder / ABOUT_FILE}: {complaints(error)}; {_REBUILD}") from error
    except (OSError, EOFError, ValueError, EsciError) as error:
        raise ReleaseError(f"{folder} holds no whole store: {error}; {_REBUILD}") from error


def _opened_all(folder: Path, have: Mapping[SegmentEntry, Segment]) -> tuple[_About, list[Segment]]:
    found = read_json(folder / ABOUT_FILE)
    while True:
        _check_format(folder, found)
        about = parse(_About, found)
        stride = about.packing.stride
        try:
            return about, [
                have.get(entry) or Segment.open(folder, entry, stride) for entry in about.segments
            ]
        except FileNotFoundError:
            # A writer may have removed what it named before; then it names other segments now.
            before, found = found, read_json(folder / ABOUT_FILE)
            if found == before:
                raise


def _is_unread(error: ReleaseError) -> bool:
    """Whether the files could not be read, which says nothing of what is in them."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)


def _check_format(folder: Path, found: Any) -> None:
    number = found.get("format") if isinstance(found, dict) else None
    if number != FORMAT:
        raise ReleaseError(
            f"{folder} holds vectors in format {number!r} and this code reads {FORMAT}"
        )

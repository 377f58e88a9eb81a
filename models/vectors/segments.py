"""A segment of a store: keys in order and the packed vectors that go with them, in two files.

    <name>.keys.npy      uint64 (2, vectors): both halves of each key, sorted
    <name>.rows.npy      uint8 (vectors, stride): the packed vectors, in the order of the keys

Written once, a segment is never changed. Vectors are mapped and not read until they are asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import ReleaseError
from models.files import atomic_file
from models.typed import STRICT
from models.vectors.packing import Packed
from models.vectors.source import KEY_BYTES, Keys

BLOCK_ROWS: Final = 1 << 15  # read at a time when segments are merged or verified
# Segments whose vectors take no more are read whole when opened: some hundredths of a second.
_VERIFIED_BYTES: Final = 1 << 24
_ENDINGS: Final = ("keys.npy", "rows.npy")

Halves: TypeAlias = NDArray[np.uint64]
"""Both halves of each key as numbers, shape (2, keys); their order is that of the bytes."""


@dataclass(frozen=True)
class SegmentEntry:
    """A segment as its store names it."""

    __pydantic_config__ = STRICT

    name: str
    count: int
    keys_sha256: str
    rows_sha256: str

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Where its keys and its vectors lie."""
        keys, rows = (folder / f"{self.name}.{ending}" for ending in _ENDINGS)
        return keys, rows


@dataclass(frozen=True, eq=False)
class Segment:
    """An open segment."""

    entry: SegmentEntry
    keys: Halves  # sorted
    rows: Packed  # (vectors, stride), mapped

    @classmethod
    def open(cls, folder: Path, entry: SegmentEntry, stride: int) -> Self:
        """The segment of `entry`, checked to be whole; large ones but for their vectors."""
        keys_file, rows_file = entry.files(folder)
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
        segment = cls(entry, np.ascontiguousarray(keys, np.uint64), rows)
        if rows.nbytes <= _VERIFIED_BYTES:
            segment.verify()
        return segment

    @classmethod
    def write(
        cls, folder: Path, keys: Halves, blocks: Iterable[Packed], stride: int
    ) -> SegmentEntry:
        """Write the vectors of sorted `keys`, given in blocks; nothing refers to them yet."""
        digest, of_rows = sha256(np.ascontiguousarray(keys).tobytes()).hexdigest(), sha256()
        count = keys.shape[1]
        keys_file, rows_file = SegmentEntry(digest[:16], count, digest, "").files(folder)
        with atomic_file(keys_file) as scratch, scratch.open("wb") as target:
            np.save(target, keys.astype("<u8"), allow_pickle=False)
        with atomic_file(rows_file) as scratch, scratch.open("wb") as target:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, stride)}
            np.lib.format.write_array_header_1_0(target, header)
            for block in blocks:
                of_rows.update(block.tobytes())
                target.write(block.tobytes())
        return SegmentEntry(digest[:16], count, digest, of_rows.hexdigest())

    def verify(self) -> None:
        """Refuse vectors that are not those that were written, by reading all of them."""
        digest = sha256()
        for start in range(0, len(self.rows), BLOCK_ROWS):
            digest.update(self.rows[start : start + BLOCK_ROWS].tobytes())
        if digest.hexdigest() != self.entry.rows_sha256:
            raise ReleaseError(f"vectors of segment {self.entry.name} are not what was written")


def halves_of(keys: Keys) -> Halves:
    """The halves of each key."""
    halves = np.ascontiguousarray(keys).reshape(len(keys), KEY_BYTES).view(">u8")
    return np.ascontiguousarray(halves.T.astype(np.uint64))


def sorting(keys: Halves) -> NDArray[np.intp]:
    """The order that sorts `keys`."""
    first, second = keys
    return np.lexsort((second, first))


def find(asked: Halves, among: Halves) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The place of each key `among` sorted ones, and whether it is there."""
    (first, second), (firsts, seconds) = asked, among
    last = len(firsts) - 1
    at = np.minimum(np.searchsorted(firsts, first), last)
    if last < 0:
        return at, np.zeros(len(first), bool)
    there = (firsts[at] == first) & (seconds[at] == second)
    # Keys that share their first half: chance makes none in a million products, but a store must
    # not answer with another's vector, nor miss one.
    astray = np.flatnonzero(~there & (firsts[at] == first) & (at < last))
    while len(astray):
        at[astray] += 1
        there[astray] = (firsts[at[astray]] == first[astray]) & (
            seconds[at[astray]] == second[astray]
        )
        goes_on = ~there[astray] & (firsts[at[astray]] == first[astray])
        astray = astray[goes_on & (at[astray] < last)]
    return at, there


def segment_files(folder: Path) -> set[Path]:
    """The files of all segments in `folder`, and what killed writers have left of some."""
    found: set[Path] = set()
    for ending in _ENDINGS:
        found.update(folder.glob(f"*.{ending}"), folder.glob(f".*.{ending}.*.part"))
    return found

"""A column of strings as one buffer of UTF-8 and one of offsets.

The layout is Arrow's `large_string` without nulls, so a Parquet column arrives without a copy, yet
the service needs numpy alone. A million short strings cost their bytes plus eight each, where a
list of Python strings costs some sixty more.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Rows = NDArray[np.integer[Any]]
"""Row numbers, shape (rows,)."""

_BLOCK_BYTES: Final = 1 << 20
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Texts:
    """Immutable strings; an absent one is the empty string."""

    data: NDArray[np.uint8]  # (bytes,)
    offsets: NDArray[np.int64]  # (rows + 1,); text i is data[offsets[i]:offsets[i + 1]]

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Texts holding `strings`. Lone surrogates, which UTF-8 cannot hold, become U+FFFD."""
        encoded = [_utf8(text) for text in strings]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        joined = b"".join(encoded)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(np.frombuffer(joined, np.uint8), offsets)

    @classmethod
    def empty(cls, rows: int) -> Self:
        """As many empty strings as `rows`."""
        return cls(np.empty(0, np.uint8), np.zeros(rows + 1, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} texts")
        row %= len(self)
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        buffer = self.data.data
        bounds = self.offsets.tolist()
        for start, stop in pairwise(bounds):
            yield str(buffer[start:stop], "utf-8")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Texts):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal by content and large: not a key

    def same(self, other: "Texts") -> NDArray[np.bool_]:
        """Whether each text is the one in its place in `other`, which has as many."""
        found = np.asarray(self.lengths() == other.lengths())
        if found.all() and np.array_equal(self.own(), other.own()):
            return found
        return np.fromiter((a == b for a, b in zip(self, other, strict=True)), bool, len(self))

    def own(self) -> NDArray[np.uint8]:
        """The bytes of the texts: `data` may hold others before and after them."""
        return self.data[self.offsets[0] : self.offsets[-1]]

    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each text."""
        return np.diff(self.offsets)

    def take(self, rows: Rows) -> "Texts":
        """The texts of `rows`, in that order; rows may repeat."""
        if rows.dtype.kind not in "iu":
            raise DataError(f"rows come as {rows.dtype}; expected row numbers")
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        starts, lengths = self.offsets[:-1][rows], self.lengths()[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        data = np.empty(int(offsets[-1]), np.uint8)
        # Where each byte comes from takes eight bytes to say: in blocks, that is a few megabytes
        # instead of eight times the text, and stays in the processor's cache.
        ends = np.searchsorted(offsets, np.arange(_BLOCK_BYTES, len(data), _BLOCK_BYTES))
        for first, last in pairwise([0, *ends.tolist(), len(lengths)]):
            here = slice(int(offsets[first]), int(offsets[last]))
            # Byte j of the result comes from its text's start plus its place in that text.
            source = np.repeat(starts[first:last] - offsets[first:last], lengths[first:last])
            source += np.arange(here.start, here.stop, dtype=np.int64)
            data[here] = self.data[source]
        return Texts(data, offsets)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()

"""Token ids of many texts, one after the other in one buffer, and padded batches of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.texts import Rows


@dataclass(frozen=True, eq=False)
class Sequences:
    """Token ids of texts; text i is `ids[starts[i]:starts[i + 1]]`.

    `segments` tells, where a model asks, which of two joined texts a token belongs to.
    """

    ids: NDArray[np.int32]  # (tokens,)
    segments: NDArray[np.uint8]  # (tokens,)
    starts: NDArray[np.int64]  # (texts + 1,)

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Self:
        """Sequences from lists of token ids, all of segment 0."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.fromiter(chain.from_iterable(texts), np.int32, int(starts[-1]))
        return cls(ids, np.zeros(len(ids), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.starts)

    def take(self, rows: Rows) -> "Sequences":
        """The texts of `rows`, in that order; rows may repeat."""
        lengths = self.lengths()[rows]
        places = ranges(self.starts[:-1][rows], lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Sequences(self.ids[places], self.segments[places], starts)

    def part(self, first: int, last: int) -> "Sequences":
        """The texts from `first` to before `last`, in the same memory."""
        start, end = self.starts[first], self.starts[last]
        starts = self.starts[first : last + 1] - start
        return Sequences(self.ids[start:end], self.segments[start:end], starts)

    def followed_by(self, other: "Sequences") -> "Sequences":
        """These texts and then those of `other`."""
        return Sequences(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.segments, other.segments]),
            np.concatenate([self.starts, other.starts[1:] + self.starts[-1]]),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences padded to the longest of them; `mask` is 1 where a token stands."""

    ids: NDArray[np.int64]  # (texts, length)
    mask: NDArray[np.int64]  # (texts, length)
    segments: NDArray[np.int64]  # (texts, length)


def stacked(parts: Iterable[Sequences]) -> Sequences:
    """The texts of every part, one part after the other.

    Parts that are made as they are asked for are never all there at once, nor twice.
    """
    ids, segments = np.empty(0, np.int32), np.empty(0, np.uint8)
    starts = [np.zeros(1, np.int64)]
    for part in parts:
        # The system moves what it holds, where concatenating would hold it twice.
        at = len(ids)
        ids.resize(at + len(part.ids), refcheck=False)
        segments.resize(len(ids), refcheck=False)
        ids[at:], segments[at:] = part.ids, part.segments
        starts.append(part.starts[1:] + at)
    return Sequences(ids, segments, np.concatenate(starts))


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers `starts[i] .. starts[i] + lengths[i] - 1` of every i, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + lengths, lengths) + np.arange(total, dtype=np.int64)


def padded(sequences: Sequences, rows: Rows, pad_id: int) -> Batch:
    """The batch of `rows`, as wide as the longest of them."""
    lengths = sequences.lengths()[rows]
    width = int(lengths.max(initial=1))
    mask = np.arange(width) < lengths[:, None]
    places = ranges(sequences.starts[:-1][rows], lengths)
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = sequences.ids[places]
    segments = np.zeros(mask.shape, np.int64)
    segments[mask] = sequences.segments[places]
    return Batch(ids, mask.astype(np.int64), segments)


def token_batches(
    lengths: NDArray[np.int64], max_tokens: int, max_texts: int
) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of similar length, longest first, each of at most `max_tokens` with padding.

    A text longer than `max_tokens` is a batch by itself. Longest first, so that memory is at its
    highest at the start, where running out of it costs the least.
    """
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        longest = max(int(lengths[order[at]]), 1)
        size = min(max(max_tokens // longest, 1), max_texts)
        yield order[at : at + size]
        at += size

"""Tokens of millions of texts, counted as `models.text.truncate` counts them."""

from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.text import truncate

# What a character does to the count. A word goes on until something else comes; a mark, or a
# Japanese or Chinese character, is a token of its own.
_UNKNOWN, _SPACE, _WORD, _SINGLE = range(4)

# Filled as characters are met: asking about all of Unicode would take a second.
_ROLES: Final = np.full(0x110000, _UNKNOWN, np.uint8)


def count_tokens(texts: pa.Array) -> NDArray[np.int64]:
    """The number of tokens of each text, as it is written; none in a null."""
    texts = texts.cast(pa.large_string()).fill_null("")
    counts = np.zeros(len(texts), np.int64)
    ascii_only = np.asarray(pc.string_is_ascii(texts))
    for chosen in (ascii_only, ~ascii_only):
        if chosen.any():
            counts[chosen] = _count(texts.filter(pa.array(chosen)))
    return counts


def _count(texts: pa.Array) -> NDArray[np.int64]:
    roles = _roles(_content(texts))
    is_word = roles == _WORD
    begins = roles == _SINGLE
    begins[:1] |= is_word[:1]
    begins[1:] |= is_word[1:] & ~is_word[:-1]
    ends = np.cumsum(np.asarray(pc.utf8_length(texts)), dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    first = starts[starts < ends]  # where a text begins, so does its first word
    begins[first] |= is_word[first]
    # Fewer than one character in five begins a token, so looking up the texts' bounds among those
    # that do is faster than a running count over all characters.
    places = np.flatnonzero(begins)
    return np.asarray(np.searchsorted(places, ends) - np.searchsorted(places, starts))


def _content(texts: pa.Array) -> bytes:
    """All texts, one after the other."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return b"" if data is None else bytes(memoryview(data)[bounds[0] : bounds[-1]])


def _roles(content: bytes) -> NDArray[np.uint8]:
    """The role of each character."""
    if content.isascii():
        return np.frombuffer(content.translate(_ascii_roles()), np.uint8)
    points = np.frombuffer(content.decode().encode("utf-32-le"), np.uint32)
    roles = _ROLES[points]
    if (new := np.unique(points[roles == _UNKNOWN])).size:
        for point in new.tolist():
            _ROLES[point] = _role(chr(point))
        roles = _ROLES[points]
    return np.asarray(roles)


@cache
def _ascii_roles() -> bytes:
    return bytes(_role(chr(point)) for point in range(256))


def _role(character: str) -> int:
    # The first token of two of the character and a word that no truncation could begin with.
    first = truncate(f"{character * 2} 1", 1)
    return {f"{character * 2} 1": _SPACE, character * 2: _WORD}.get(first, _SINGLE)

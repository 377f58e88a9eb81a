"""Where an ONNX file says that its weights are: read before an engine does, and without `onnx`.

An engine opens whatever file a network names, so what it names has to be known first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import MappingProxyType
from typing import Final

from models.errors import ReleaseError

# By message of ONNX, the numbers of the fields that lead to tensors and the messages they hold.
_INSIDE: Final = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse"}
        | {23: "sparse"},
        "sparse": {1: "tensor", 2: "tensor"},
    }
)
_EXTERNAL_DATA: Final = 13  # of a tensor
_KEY, _VALUE = 1, 2  # of an entry
_NUMBER, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # kinds of fields
_LONGEST_NUMBER: Final = 10  # bytes


@dataclass(frozen=True)
class Place:
    """What an ONNX file says of one tensor outside of it."""

    location: str
    end: int  # of the bytes it takes of that file; its start, where it does not say how many


def weight_places(path: Path) -> list[Place]:
    """The place of every tensor that `path` does not hold itself; ReleaseError for no ONNX file.

    The content of tensors is skipped, so that it costs little however many they are.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return list(_places(content))
    except (ValueError, IndexError) as error:
        raise ReleaseError(f"{path} is no ONNX file: {error}; restore it, or export again") from (
            error
        )


def _places(content: mmap) -> Iterator[Place]:
    todo = [("model", 0, len(content))]  # not by recursion: a file decides how deep it goes
    while todo:
        kind, start, end = todo.pop()
        if kind == "tensor":
            yield from _tensor(content, start, end)
            continue
        inside = _INSIDE[kind]
        for number, *part in _fields(content, start, end):
            if number in inside:
                todo.append((inside[number], part[0], part[1]))


def _tensor(content: mmap, start: int, end: int) -> Iterator[Place]:
    """A place for every location named, of which an engine takes the last."""
    said = [
        {at: content[first:last].decode() for at, first, last in _fields(content, *entry)}
        for number, *entry in _fields(content, start, end)
        if number == _EXTERNAL_DATA
    ]
    entries = [(entry.get(_KEY, ""), entry.get(_VALUE, "")) for entry in said]
    numbers = {key: int(value) for key, value in entries if key in ("offset", "length")}
    if any(number < 0 for number in numbers.values()):
        raise ValueError("a tensor lies before the start of its file")
    for key, value in entries:
        if key == "location":
            yield Place(value, sum(numbers.values()))


def _fields(content: mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length: number, start and end."""
    while start < end:
        tag, start = _number(content, start)
        kind = tag & 7
        if kind == _NUMBER:
            start = _number(content, start)[1]
        elif kind == _LENGTH:
            length, start = _number(content, start)
            if start + length > end:
                break
            yield tag >> 3, start, start + length
            start += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            start += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}, which ONNX has none of")
    if start != end:
        raise ValueError("it ends in the midst of a field")


def _number(content: mmap, start: int) -> tuple[int, int]:
    number = 0
    for at in range(_LONGEST_NUMBER):
        byte = content[start + at]
        number |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return number, start + at + 1
    raise ValueError("a number without an end")

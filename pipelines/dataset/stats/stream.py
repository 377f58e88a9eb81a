"""Reading columns batch by batch, and sums over more rows than memory should hold."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError
from pipelines.console import Tick
from pipelines.dataset.checks.files import castable
from pipelines.dataset.layout import SCHEMAS
from pipelines.dataset.stats.summary import ABSENT, Spread

Keys = NDArray[np.uint64]
"""Hashes that stand for texts, equal within one run of Python only."""

Codes = NDArray[np.int64]
"""Positions in a vocabulary."""

_BATCH_ROWS: Final = 131_072
# Longer texts are counted with their true length in the mean and the maximum alone.
_LONGEST: Final = 65_535
# Parts of a tally wait until so many keys have come together.
_PENDING_KEYS: Final = 2_000_000


def batches(
    path: Path,
    columns: Sequence[str],
    tick: Tick,
    *,
    rows: int = _BATCH_ROWS,
    plain: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Columns of a Parquet file, as Arrow arrays by name.

    Texts come as dictionaries, so that what occurs often is looked at once, save for `plain` ones.
    A file that cannot be read as the layout says is a DataError.
    """
    schema = SCHEMAS[path.name]
    names = [name for name in columns if _is_text(schema, name) and name not in plain]
    try:
        _check(path, pq.read_schema(path), schema, columns)  # before they are asked for
        file = pq.ParquetFile(path, read_dictionary=names, buffer_size=1 << 20)
        for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
            yield {
                name: _as(batch.column(name), schema.field(name).type, dictionary=name in names)
                for name in columns
            }
            tick(batch.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {' '.join(str(error).split())}; "
            f"`esci data validate {path.parent}` says more"
        ) from error


def _is_text(schema: pa.Schema, name: str) -> bool:
    return bool(pa.types.is_string(schema.field(name).type))


def _check(path: Path, found: pa.Schema, wanted: pa.Schema, columns: Iterable[str]) -> None:
    for name in columns:
        if name not in found.names:
            trouble = f"has no column {name!r}; it has {', '.join(found.names) or 'none'}"
        elif (times := found.names.count(name)) > 1:
            trouble = f"has {times} columns {name!r}"
        elif not castable(kind := found.field(name).type, wanted.field(name).type):
            trouble = f"column {name!r} is {kind}; expected {wanted.field(name).type}"
        else:
            continue
        raise DataError(f"{path} {trouble}; `esci data validate {path.parent}` says more")


def _as(array: pa.Array, kind: pa.DataType, *, dictionary: bool) -> pa.Array:
    if not pa.types.is_string(kind):
        # What may be lost on the way is the hour of a timestamp or the last digits of a weight.
        return array.cast(kind, safe=pa.types.is_integer(kind))
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.large_string())
        array.validate(full=True)  # that it is UTF-8: Parquet does not see to it
        return array.dictionary_encode() if dictionary else array
    array.dictionary.validate(full=True)
    return array if dictionary else array.dictionary_decode().cast(pa.large_string())


def _indices(column: pa.DictionaryArray) -> Codes:
    """Positions in the dictionary; a null is -1, which finds the last element of a table."""
    return np.asarray(column.indices.fill_null(-1), dtype=np.int64)


def text_keys(texts: Iterable[str | None]) -> Keys:
    """A key per text. Python's string hash is keyed and 64 bits wide: no two of millions meet."""
    return np.fromiter(map(hash, texts), np.int64).view(np.uint64)


def keys(column: pa.DictionaryArray, locales: Keys) -> Keys:
    """A key per row from a text and the key of its locale."""
    table = text_keys([*column.dictionary.to_pylist(), None])
    return np.asarray(table[_indices(column)] ^ locales)


def distinct(row_keys: Keys) -> Keys:
    """The keys without repetition, ascending; np.unique's hashing takes thirty times as long."""
    ordered = np.sort(row_keys)
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    return np.asarray(ordered[first])


def among(row_keys: Keys, known: Keys) -> NDArray[np.bool_]:
    """Whether each key is one of `known`, which ascends."""
    if not len(known):
        return np.zeros(len(row_keys), bool)
    places = np.minimum(np.searchsorted(known, row_keys), len(known) - 1)
    return np.asarray(known[places] == row_keys)


class Vocabulary:
    """The words of a column with few of them, in the order they come; nulls are ABSENT."""

    def __init__(self, first: Iterable[str] = ()) -> None:
        self.words = list(first)

    def codes(self, column: pa.DictionaryArray) -> Codes:
        """The position of each row's word, which is added where it is new."""
        table = [self._code(word) for word in column.dictionary.to_pylist()]
        indices = _indices(column)
        table.append(self._code(ABSENT) if (indices < 0).any() else -1)
        return np.asarray(table, dtype=np.int64)[indices]

    def keys(self) -> Keys:
        """A key per word that no text of another column shares."""
        return text_keys(f"\0word\0{word}" for word in self.words)

    def _code(self, word: str | None) -> int:
        word = ABSENT if word is None else word
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)


class Tally:
    """Sums by key, in memory bounded by the number of distinct keys."""

    def __init__(self) -> None:
        self._parts: list[tuple[Keys, NDArray[np.float64]]] = []
        self._pending = 0

    def add(self, row_keys: Keys, weights: NDArray[Any] | None = None) -> None:
        """Add each row's weight, or one, to its key."""
        part = _summed(row_keys, weights)
        self._parts.append(part)
        self._pending += len(part[0])
        if self._pending > max(_PENDING_KEYS, 2 * len(self._parts[0][0])):
            self._merge()

    def result(self) -> tuple[Keys, NDArray[np.float64]]:
        """The distinct keys, ascending, and their sums."""
        self._merge()
        return self._parts[0]

    def _merge(self) -> None:
        if len(self._parts) != 1:
            every = [part[0] for part in self._parts]
            sums = [part[1] for part in self._parts]
            none = np.empty(0, np.uint64), np.empty(0, np.float64)
            self._parts = [
                _summed(np.concatenate([none[0], *every]), np.concatenate([none[1], *sums]))
            ]
        self._pending = 0


def _summed(row_keys: Keys, weights: NDArray[Any] | None) -> tuple[Keys, NDArray[np.float64]]:
    found, at = np.unique(row_keys, return_inverse=True)
    return found, np.bincount(at, weights, minlength=len(found)).astype(np.float64)


class Histogram:
    """How often each length occurs."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._sum = 0
        self._longest = 0

    def add(self, lengths: NDArray[Any]) -> None:
        """Count `lengths`."""
        if not len(lengths):
            return
        found = np.bincount(np.minimum(lengths, _LONGEST))
        if len(found) > len(self._counts):
            self._counts = np.pad(self._counts, (0, len(found) - len(self._counts)))
        self._counts[: len(found)] += found
        self._sum += int(lengths.sum())
        self._longest = max(self._longest, int(lengths.max()))

    def spread(self) -> Spread:
        """The lengths in five numbers."""
        found = Spread.of_counts(self._counts)
        if not found.count:
            return found
        return Spread(found.count, self._sum / found.count, found.median, found.p95, self._longest)

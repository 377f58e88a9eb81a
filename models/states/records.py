"""What is stored under a key: a state behind the digest of everything it was computed from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.states.protocol import Digests, Stamped
from models.vectors.packing import Packed, Packing
from models.vectors.source import KEY_BYTES, Found, Keys

DIGEST_BYTES: Final = 8
_DIGEST: Final = np.dtype("<u8")


@dataclass(frozen=True)
class RecordForm:
    """Eight bytes of digest, little-endian, and a state as `states` packs it."""

    states: Packing

    @cached_property
    def records(self) -> Packing:
        """How a whole record is packed: its heading is the digest."""
        return replace(self.states, heading=DIGEST_BYTES)

    @property
    def stride(self) -> int:
        """Bytes of a record."""
        return self.records.stride

    def join(self, keys: Keys, digests: Digests, packed: Packed) -> Packed:
        """The records of states to be stored, which must be fit for it."""
        expected = (len(keys), self.states.stride)
        if packed.shape != expected or digests.shape != (len(keys),):
            raise DataError(
                f"{len(keys)} keys with {len(digests)} digests and packed states of shape "
                f"{packed.shape}; expected as many digests and {expected}"
            )
        if not self.states.is_finite(packed).all():
            raise DataError("states to store hold numbers that are not finite; check the network")
        return np.hstack([as_bytes(digests), packed])

    def found(self, known: NDArray[np.bool_], records: Packed) -> Found:
        """What readers get of the records of `known` keys: states, of those that are finite."""
        return self.states_in(*self._finite(known, records))

    def states_in(self, known: NDArray[np.bool_], records: Packed) -> Found:
        """What readers get of the records of `known` keys, which are known to be finite."""
        return Found(known, np.ascontiguousarray(records[:, DIGEST_BYTES:]))

    def stamped(self, known: NDArray[np.bool_], records: Packed) -> Stamped:
        """The digests of the records of `known` keys, of those that are finite."""
        known, records = self._finite(known, records)
        return Stamped(known, digests_in(records))

    def nothing(self, keys: Keys) -> Found:
        """None of `keys`."""
        return Found(np.zeros(len(keys), bool), np.empty((0, self.states.stride), np.uint8))

    def read(self, found: bytes) -> Packed:
        """The records in `found`, one behind the other."""
        return np.frombuffer(found, np.uint8).reshape(-1, self.stride)

    def _finite(
        self, known: NDArray[np.bool_], records: Packed
    ) -> tuple[NDArray[np.bool_], Packed]:
        finite = self.records.is_finite(records)
        if finite.all():
            return known, records
        known = known.copy()
        known[np.flatnonzero(known)[~finite]] = False
        return known, records[finite]


def as_bytes(digests: Digests) -> Packed:
    """The bytes of each digest as they are stored."""
    return np.ascontiguousarray(digests, _DIGEST).view(np.uint8).reshape(-1, DIGEST_BYTES)


def digests_in(records: Packed) -> Digests:
    """The digest at the head of each of `records`."""
    return read_digests(records[:, :DIGEST_BYTES].tobytes())


def read_digests(found: bytes) -> Digests:
    """The digests in `found`, one behind the other."""
    return np.frombuffer(found, _DIGEST).astype(np.uint64)


def cut(rows: Packed) -> list[bytes]:
    """Each row as bytes."""
    data, stride = rows.tobytes(), rows.shape[1]
    return [data[start : start + stride] for start in range(0, len(data), stride)]


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, start + size)


def require_keys(keys: Keys) -> None:
    """Refuse what are no keys, before half of them is stored."""
    if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
        raise DataError(
            f"keys of shape {keys.shape} in {keys.dtype}; expected {KEY_BYTES} bytes each"
        )

"""Vectors as bytes of a fixed length, one row each: what is stored of a product."""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "int8"]

Vectors: TypeAlias = NDArray[np.float32]
"""Shape (vectors, width)."""

Packed: TypeAlias = NDArray[np.uint8]
"""Vectors as bytes, shape (vectors, stride)."""

_LARGEST: Final = 127  # of an int8; -128 stays unused, so that signs are alike


@dataclass(frozen=True)
class Packing:
    """How a vector is written: little-endian floats, or int8 behind one float32 scale each."""

    precision: Precision
    width: int  # numbers in a vector
    heading: int = 0  # bytes in front of each vector, which are for whoever stores it to fill

    @property
    def stride(self) -> int:
        """Bytes of one vector with its heading."""
        numbers = {"fp32": 4 * self.width, "fp16": 2 * self.width, "int8": 4 + self.width}
        return self.heading + numbers[self.precision]

    def pack(self, vectors: Vectors) -> Packed:
        """The bytes of `vectors`, which lose what the precision cannot hold; headings are zero."""
        if self.heading:
            empty = np.zeros((len(vectors), self.heading), np.uint8)
            return np.hstack([empty, replace(self, heading=0).pack(vectors)])
        if self.precision != "int8":
            kind = "<f4" if self.precision == "fp32" else "<f2"
            return _as_bytes(vectors.astype(kind), self.stride)
        scales = np.abs(vectors).max(axis=1, initial=0, keepdims=True) / np.float32(_LARGEST)
        whole = np.rint(vectors / np.where(scales > 0, scales, 1))
        # Of numbers so small that their scale is inexact, the largest would overflow.
        whole = np.clip(whole, -_LARGEST, _LARGEST).astype(np.int8)
        return np.hstack([_as_bytes(scales.astype("<f4"), 4), _as_bytes(whole, self.width)])

    def unpack(self, packed: Packed) -> Vectors:
        """The vectors in `packed`, as near to what was packed as the precision allows."""
        packed = np.ascontiguousarray(packed[:, self.heading :])
        if self.precision != "int8":
            kind = "<f4" if self.precision == "fp32" else "<f2"
            return packed.view(kind).reshape(len(packed), self.width).astype(np.float32)
        scales = np.ascontiguousarray(packed[:, :4]).view("<f4").astype(np.float32)
        whole = np.ascontiguousarray(packed[:, 4:]).view(np.int8)
        return whole.astype(np.float32) * scales

    def is_finite(self, packed: Packed) -> NDArray[np.bool_]:
        """Whether each vector in `packed` holds finite numbers only, (vectors,)."""
        packed = packed[:, self.heading :]
        if self.precision == "int8":
            packed = packed[:, :4]
        kind = "<f2" if self.precision == "fp16" else "<f4"
        numbers = np.ascontiguousarray(packed).view(kind)
        return np.asarray(np.isfinite(numbers).all(axis=1), bool)


def _as_bytes(array: NDArray[np.generic], stride: int) -> Packed:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), stride)

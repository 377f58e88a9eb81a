"""Hashes of tokens and n-grams that agree between processes, machines and years.

A token's hash is a polynomial in its bytes modulo 2^64, so the hash of two tokens written together
follows from theirs: "lawn mower" and "lawnmower" meet without another look at the text. What is
stored or compared is that polynomial, mixed, and cut to 32 bits: within one product, where hashes
are compared, a collision is a matter of one in ten million.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.mixing import scrambled

Hashes = NDArray[np.uint32]
"""Mixed hashes, the form that is stored and compared."""

Polynomials = NDArray[np.uint64]
"""Unmixed hashes, the form that can be joined."""

_BASE: Final = 0x9E3779B97F4A7C15 | 1
_WORD: Final = (1 << 64) - 1


def polynomial(text: str) -> tuple[int, int]:
    """The polynomial of a text's bytes, and the power that joins it to what stands before it."""
    value, power = 0, 1
    for byte in text.encode("utf-8", "surrogatepass"):
        value = (value * _BASE + byte + 1) & _WORD
        power = (power * _BASE) & _WORD
    return value, power


def joined(first: Polynomials, second: Polynomials, second_power: Polynomials) -> Polynomials:
    """The polynomials of two texts written together, without a space."""
    return first * second_power + second


def mixed(values: NDArray[Any], salt: int = 0) -> Hashes:
    """32 well-mixed bits of each value; `salt` sets kinds apart."""
    bits = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) & _WORD)
    return np.asarray(scrambled(bits) >> np.uint64(32), dtype=np.uint32)

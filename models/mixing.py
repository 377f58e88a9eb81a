"""Bits that say nothing of the number they come from: the finaliser of SplitMix64."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bits: TypeAlias = NDArray[np.uint64]


def scrambled(bits: Bits) -> Bits:
    """`bits` with each depending on all, one to one.

    Written over what was given: they come by the million.
    """
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits

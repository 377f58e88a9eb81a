"""What the fits of one run have in common: features and edges, made once from the same data."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.graphs.arrays import save_array
from models.surroundings import Surroundings
from models.texts import Texts
from models.workbench import NO_WORKBENCH, Workbench

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays by their names."""


@dataclass(frozen=True, eq=False)
class Sharing:
    """What is made of some surroundings, for whoever fits on the same bench."""

    surroundings: Surroundings
    bench: Workbench = NO_WORKBENCH

    @cached_property
    def _data(self) -> str:
        # Lists are over the products that are here already.
        around, lists = self.surroundings, self.surroundings.lists
        listed = (lists.queries, lists.query_rows, lists.product_rows)
        return identity_of(around.products, around.behaviours, around.links, *listed)

    def arrays(self, make: Callable[[], Arrays], *decides: object) -> Arrays:
        """What `make` gives: made now, or mapped from where a fit of the same run has left it.

        `decides` must say all that it depends on besides the surroundings: names, numbers, arrays,
        texts, and frozen dataclasses of those.
        """
        if self.bench.common is None:
            return make()

        def write(folder: Path) -> None:
            for name, array in make().items():
                save_array(folder / f"{name}.npy", array)

        folder = self.bench.shared(identity_of(self._data, *decides), write)
        # As writable as what was just made, which torch asks for: who writes has a page of his own.
        return {
            path.stem: np.asarray(np.lib.format.open_memmap(path, mode="c"))
            for path in folder.glob("*.npy")
        }


def identity_of(*decides: object) -> str:
    """A digest of values by what they hold."""
    digest = blake2b(digest_size=16)
    for part in decides:
        _tell(digest, part)
    return digest.hexdigest()


def _tell(digest: blake2b, part: object) -> None:
    """Every part says first what comes and how much of it, so that none runs into the next."""
    if isinstance(part, np.ndarray):
        digest.update(f"array {part.dtype.str} {part.shape} ".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Texts):
        _tell(digest, part.lengths())
        _tell(digest, part.own())
    elif is_dataclass(part):
        told = fields(part)
        digest.update(f"{type(part).__name__} {len(told)} ".encode())
        for field in told:
            _tell(digest, getattr(part, field.name))
    else:
        digest.update(json.dumps(part, sort_keys=True).encode() + b" ")

"""Product states in a table, as a store would give them."""

import numpy as np

from models.vectors.source import Found


class Stored:
    """States in a table."""

    def __init__(self, identity, keys, packed) -> None:
        self.identity = identity
        self._rows = {key.tobytes(): row for key, row in zip(keys, packed, strict=True)}

    def get_many(self, keys) -> Found:
        known = np.array([key.tobytes() in self._rows for key in keys], bool)
        found = [self._rows[key.tobytes()] for key in keys[known]]
        stride = len(next(iter(self._rows.values())))
        return Found(known, np.array(found, np.uint8).reshape(-1, stride))

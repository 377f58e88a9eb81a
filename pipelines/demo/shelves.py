"""Finding products by what they are: all of one type and brand, of one line, for one device."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.catalogue import Columns

ProductRows = NDArray[np.int64]
"""Rows of the catalogue; -1 where no product was found."""


def _addresses(locales: Any, types: Any, values: Any) -> NDArray[np.int64]:
    return (
        np.asarray(locales, np.int64) << 48
        | np.asarray(types, np.int64) << 40
        | np.asarray(values, np.int64)
    )


@dataclass(frozen=True)
class Shelf:
    """Products grouped by (locale, type, value), any of which may be left out as 0."""

    addresses: NDArray[np.int64]  # (groups,), sorted
    starts: NDArray[np.int64]  # (groups + 1,)
    order: NDArray[np.int32]  # (products,)

    @classmethod
    def of(cls, locales: Any, types: Any, values: Any) -> Self:
        """Group products by the columns given."""
        keys = _addresses(locales, types, values)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        addresses, starts = np.unique(keys[order], return_index=True)
        return cls(addresses, np.append(starts, len(keys)), order)

    def pick(self, locales: Any, types: Any, values: Any, draws: NDArray[Any]) -> ProductRows:
        """A product of each group, by draws between 0 and 1 of any shape the groups fit to."""
        keys = _addresses(locales, types, values)
        group = np.minimum(np.searchsorted(self.addresses, keys), len(self.addresses) - 1)
        first, stop = self.starts[group], self.starts[group + 1]
        rows = self.order[first + (draws * (stop - first)).astype(np.int64)]
        return np.where(self.addresses[group] == keys, rows, -1).astype(np.int64)


class Shelves:
    """Every grouping the generator looks products up by."""

    def __init__(self, columns: Columns) -> None:
        locale, type_ = columns["locale"], columns["type"]
        self.by_locale = Shelf.of(locale, 0, np.zeros(len(columns)))
        self.by_type = Shelf.of(locale, type_, 0)
        self.by_brand = Shelf.of(locale, type_, columns["brand"])
        self.by_maker = Shelf.of(locale, 0, columns["brand"])
        self.by_colour = Shelf.of(locale, type_, columns["colour"])
        self.by_size = Shelf.of(locale, type_, columns["size"])
        self.by_material = Shelf.of(locale, type_, columns["material"])
        self.by_audience = Shelf.of(locale, type_, columns["audience"])
        self.by_device = Shelf.of(locale, type_, columns["device"])
        self.by_line = Shelf.of(locale, 0, columns["line"])

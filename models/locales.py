"""The locales we know and what differs between them."""

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Locale = Literal["us", "es", "jp"]

# Positions are stored in columns, so the order is fixed; a new locale goes to the end.
LOCALES: Final[tuple[Locale, ...]] = ("us", "es", "jp")

LocaleCodes = NDArray[np.int8]
"""Positions in LOCALES, one per row."""


def encode_locales(locales: Iterable[str]) -> LocaleCodes:
    """Codes of `locales`; an unknown locale is an error that names its row."""
    code_of: dict[str, int] = {locale: code for code, locale in enumerate(LOCALES)}
    codes = []
    for row, locale in enumerate(locales):
        if locale not in code_of:
            raise DataError(
                f"row {row} has locale {locale!r}; expected one of {', '.join(LOCALES)}"
            )
        codes.append(code_of[locale])
    return np.array(codes, dtype=np.int8)

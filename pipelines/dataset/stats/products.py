"""The catalogue: which fields products have, how long they are, and the brands."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.locales import LOCALES
from pipelines.console import Tick
from pipelines.dataset.layout import PRODUCT_COLUMNS, PRODUCTS_FILE
from pipelines.dataset.stats.pairs import TOP, most_common
from pipelines.dataset.stats.stream import (
    Codes,
    Histogram,
    Keys,
    Vocabulary,
    batches,
    distinct,
    keys,
)
from pipelines.dataset.stats.summary import Catalogue, Field
from pipelines.dataset.stats.tokens import count_tokens

# Texts are long and are taken apart character by character: a batch of them is kept small.
_BATCH_ROWS: Final = 16_384


@dataclass(frozen=True)
class ProductStats:
    """The catalogues by locale, the brands, and a key per product."""

    catalogues: Sequence[Catalogue]
    brands: int
    top_brands: dict[str, int]
    keys: Keys  # ascending


class _Field:
    """What is counted of one field in one locale."""

    def __init__(self) -> None:
        self.characters, self.tokens = Histogram(), Histogram()

    def result(self) -> Field:
        tokens = self.tokens.spread()
        return Field(tokens.count, self.characters.spread(), tokens)


def read_products(folder: Path, tick: Tick) -> ProductStats:
    """Everything counted of the products, in one pass."""
    locales = Vocabulary(LOCALES)
    fields: dict[tuple[int, str], _Field] = {}
    products: Counter[int] = Counter()
    brands: Counter[str] = Counter()
    key_parts: list[Keys] = [np.empty(0, np.uint64)]
    columns = ("product_id", "product_locale", *PRODUCT_COLUMNS.values())
    texts = set(PRODUCT_COLUMNS.values()) - {PRODUCT_COLUMNS["brand"]}
    path = folder / PRODUCTS_FILE
    for batch in batches(path, columns, tick, rows=_BATCH_ROWS, plain=texts):
        locale = locales.codes(batch["product_locale"])
        key_parts.append(keys(batch["product_id"], locales.keys()[locale]))
        products.update(dict(enumerate(np.bincount(locale).tolist())))
        brands.update(_counts(batch[PRODUCT_COLUMNS["brand"]]))
        for name, column in PRODUCT_COLUMNS.items():
            _add_field(fields, name, batch[column], locale)
    del brands[""]
    return ProductStats(
        [
            Catalogue(
                locales.words[code],
                products[code],
                {name: fields[code, name].result() for name in PRODUCT_COLUMNS},
            )
            for code in sorted(products)
            if products[code]
        ],
        len(brands),
        dict(most_common(brands, TOP)),
        distinct(np.concatenate(key_parts)),
    )


def _add_field(
    fields: dict[tuple[int, str], _Field], name: str, column: Any, locale: Codes
) -> None:
    texts = column.cast(pa.large_string()).fill_null("")
    tokens, characters = count_tokens(texts), np.asarray(pc.utf8_length(texts))
    present = tokens > 0  # a text without a token is blank
    for code in np.flatnonzero(np.bincount(locale)).tolist():
        chosen = present & (locale == code)
        found = fields.setdefault((code, name), _Field())
        found.tokens.add(tokens[chosen])
        found.characters.add(characters[chosen])


def _counts(column: pa.DictionaryArray) -> dict[str, int]:
    """How often each text of a column occurs; a null counts as the empty one."""
    words = [*column.dictionary.to_pylist(), ""]
    rows = np.asarray(column.indices.fill_null(len(words) - 1))
    counts = np.bincount(rows, minlength=len(words)).tolist()
    found: Counter[str] = Counter()
    for word, count in zip(words, counts, strict=True):
        found[word.strip()] += count
    return {word: count for word, count in found.items() if count}

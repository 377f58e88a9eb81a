"""A dataset folder as the columns of `models.pairs`.

Text columns go from Parquet to `Texts` one at a time, so that reading a catalogue costs its text
and its largest column once more, not twice the catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import DataError
from models.files import file_sha256
from models.labels import LABELS
from models.locales import LOCALES, Locale
from models.pairs import LabelledPairs, Products, Queries
from models.texts import Rows
from pipelines.dataset.columns import (
    ASK_VALIDATE,
    as_texts,
    distinct,
    encode,
    read_column,
    read_columns,
)
from pipelines.dataset.layout import (
    EXAMPLES_FILE,
    JUDGEMENT_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCTS_FILE,
    SCHEMAS,
    SPLITS,
)

Split = Literal["train", "test"]
Version = Literal["small", "large"]

TRAIN, TEST = range(2)


@dataclass(frozen=True, eq=False)
class Judgements:
    """Labelled pairs with what the dataset says of each besides its label."""

    pairs: LabelledPairs
    example_ids: NDArray[np.int64]
    query_ids: NDArray[np.int64]
    splits: NDArray[np.int8]  # positions in SPLITS

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, rows: Rows) -> "Judgements":
        """The judgements of `rows`, over the same queries and products."""
        return Judgements(
            self.pairs.take(rows), self.example_ids[rows], self.query_ids[rows], self.splits[rows]
        )


def fingerprint(folder: Path) -> str:
    """Sixteen hexadecimal digits that change with any byte of the dataset's files."""
    digest = sha256()
    for name in SCHEMAS:
        if (path := folder / name).is_file():
            digest.update(f"{name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def read_catalogue(folder: Path) -> Products:
    """Every product of the dataset."""
    path = folder / PRODUCTS_FILE
    return _products(path, *_product_keys(path), None)


def read_judgements(
    folder: Path,
    *,
    split: Split | None = None,
    version: Version | None = None,
    locales: Sequence[Locale] | None = None,
) -> Judgements:
    """The judged pairs of the dataset, over the products they name.

    `split`, `version` and `locales` keep a part of them; the others are never decoded.
    """
    path = folder / EXAMPLES_FILE
    of_version = [f"{version}_version"] if version else []
    examples = read_columns(path, [*JUDGEMENT_COLUMNS, *of_version])
    keep = np.ones(len(examples), dtype=bool)
    if split:
        keep &= _equals(examples["split"], split)
    if version:
        keep &= examples[f"{version}_version"].to_numpy() == 1
    if locales is not None:
        wanted_locales = pa.array(locales, pa.large_string())
        keep &= np.asarray(pc.is_in(examples["product_locale"], value_set=wanted_locales))
    examples = examples.filter(pa.array(keep))
    first_rows = np.flatnonzero(keep)

    locale_codes = encode(examples["product_locale"], LOCALES, "locale", path, first_rows)
    labels = encode(examples["esci_label"], LABELS, "label", path, first_rows)
    splits = encode(examples["split"], SPLITS, "split", path, first_rows)
    _, query_rows = distinct(_keys(examples["query"], examples["product_locale"]))
    _, first = np.unique(query_rows, return_index=True)
    queries = Queries(as_texts(examples["query"].take(first)), locale_codes[first])
    products, product_rows = _named_products(folder, examples, path, first_rows)
    return Judgements(
        pairs=LabelledPairs(queries, products, query_rows.astype(np.int32), product_rows, labels),
        example_ids=examples["example_id"].to_numpy(),
        query_ids=examples["query_id"].to_numpy(),
        splits=splits,
    )


def _named_products(
    folder: Path, examples: pa.Table, path: Path, first_rows: NDArray[np.int64]
) -> tuple[Products, NDArray[np.int32]]:
    """The products that `examples` name, and each example's row among them."""
    products_path = folder / PRODUCTS_FILE
    ids, locales = _product_keys(products_path)
    at = pc.index_in(
        _keys(examples["product_id"], examples["product_locale"]), value_set=_keys(ids, locales)
    )
    if at.null_count:
        row = int(np.flatnonzero(np.asarray(at.is_null()))[0])
        raise DataError(
            f"{path} row {first_rows[row]} names product {examples['product_id'][row].as_py()!r} "
            f"in locale {examples['product_locale'][row].as_py()!r}, which {products_path} lacks "
            f"({at.null_count} such rows); {ASK_VALIDATE}"
        )
    used, rows = np.unique(at.to_numpy(), return_inverse=True)
    return _products(products_path, ids, locales, used), rows.astype(np.int32)


def _product_keys(path: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    keys = read_columns(path, ["product_id", "product_locale"])
    return keys["product_id"], keys["product_locale"]


def _products(
    path: Path, ids: pa.ChunkedArray, locales: pa.ChunkedArray, rows: Rows | None
) -> Products:
    first_rows = np.arange(len(ids)) if rows is None else np.asarray(rows, np.int64)
    if rows is not None:
        ids, locales = ids.take(pa.array(rows)), locales.take(pa.array(rows))
    fields = {}
    for name, column_name in PRODUCT_COLUMNS.items():
        column = read_column(path, column_name)
        fields[name] = as_texts(column if rows is None else column.take(pa.array(rows)))
    return Products(
        ids=as_texts(ids),
        locales=encode(locales, LOCALES, "locale", path, first_rows),
        **fields,
    )


def _equals(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.equal(column, value), False))


def _keys(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.ChunkedArray:
    """Both texts as one key; no text of a product id, query or locale holds a NUL."""
    return pc.binary_join_element_wise(first, second, pa.scalar("\0", pa.large_string()))

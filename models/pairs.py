"""Queries, products and the pairs between them, as columns.

A pair is two row numbers into shared tables. Slicing a million pairs moves two integer arrays and
no text, and whatever is computed for a product or a query is computed once, however many pairs
name it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.labels import LABELS, Codes, encode_labels
from models.locales import LOCALES, Locale, LocaleCodes, encode_locales
from models.text import fold, normalise
from models.texts import Rows, Texts

# The texts of a product, in the order they are written, hashed and printed.
PRODUCT_FIELDS: Final = ("title", "description", "bullets", "brand", "colour")


def _same_length(what: str, **columns: Any) -> int:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{what} need columns of one length; found {found}")
    return next(iter(lengths.values()))


def _check_codes(what: str, codes: NDArray[Any], limit: int) -> None:
    if codes.dtype.kind not in "iu":
        raise DataError(f"{what} comes as {codes.dtype}; expected whole numbers")
    if len(codes) and (codes.min() < 0 or codes.max() >= limit):
        row = int(np.flatnonzero((codes < 0) | (codes >= limit))[0])
        raise DataError(f"{what} of row {row} is {codes[row]}; expected 0 to {limit - 1}")


@dataclass(frozen=True, eq=False)
class Queries:
    """Distinct queries of one or more locales; the text is as the customer typed it."""

    texts: Texts
    locales: LocaleCodes

    def __post_init__(self) -> None:
        _same_length("queries", text=self.texts, locale=self.locales)
        _check_codes("the locale", self.locales, len(LOCALES))

    @classmethod
    def of(cls, texts: Iterable[str], locales: Iterable[str]) -> Self:
        """Queries from Python strings."""
        return cls(Texts.of(texts), encode_locales(locales))

    def __len__(self) -> int:
        return len(self.texts)

    def locale(self, row: int) -> Locale:
        """The locale of a query."""
        return LOCALES[int(self.locales[row])]

    def take(self, rows: Rows) -> "Queries":
        """The queries of `rows`."""
        return Queries(self.texts.take(rows), self.locales[rows])

    def text_codes(self) -> NDArray[np.int64]:
        """A code per query, equal where the folded text is the same, whatever the locale."""
        folded = [fold(text) for text in self.texts]
        code_of = {text: code for code, text in enumerate(sorted(set(folded)))}
        return np.fromiter((code_of[text] for text in folded), np.int64, len(folded))


@dataclass(frozen=True, eq=False)
class Products:
    """Products, keyed by (product_id, locale): the same id in two locales is two products."""

    ids: Texts
    locales: LocaleCodes
    title: Texts
    description: Texts
    bullets: Texts
    brand: Texts
    colour: Texts

    def __post_init__(self) -> None:
        _same_length(
            "products", **{column.name: getattr(self, column.name) for column in fields(self)}
        )
        _check_codes("the locale", self.locales, len(LOCALES))

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]]) -> Self:
        """Products from mappings with `product_id`, `locale` and any of PRODUCT_FIELDS."""
        return cls(
            ids=Texts.of(row["product_id"] for row in rows),
            locales=encode_locales(row["locale"] for row in rows),
            **{name: Texts.of(row.get(name, "") for row in rows) for name in PRODUCT_FIELDS},
        )

    def __len__(self) -> int:
        return len(self.ids)

    def locale(self, row: int) -> Locale:
        """The locale of a product."""
        return LOCALES[int(self.locales[row])]

    def field(self, name: str) -> Texts:
        """The column of one of PRODUCT_FIELDS."""
        column: Texts = getattr(self, name)
        return column

    def texts(self, row: int) -> dict[str, str]:
        """Every field of one product, as it came."""
        return {name: self.field(name)[row] for name in PRODUCT_FIELDS}

    def content_hashes(self) -> list[bytes]:
        """Sixteen bytes per product that change whenever one of its texts changes in meaning."""
        return [digest.tobytes() for digest in self._contents]

    @cached_property
    def _contents(self) -> NDArray[np.uint8]:
        """Those bytes, (products, 16). Every text has to be normalised for them, so they are kept.

        Label keys and product keys of every member are made of them, mostly of one request's
        products after another.
        """
        columns = [self.field(name) for name in PRODUCT_FIELDS]
        digests = b"".join(
            blake2b("\0".join(map(normalise, texts)).encode(), digest_size=16).digest()
            for texts in zip(*columns, strict=True)
        )
        return np.frombuffer(digests, np.uint8).reshape(len(self), 16)

    def take(self, rows: Rows) -> "Products":
        """The products of `rows`."""
        columns = {name: self.field(name).take(rows) for name in PRODUCT_FIELDS}
        taken = Products(self.ids.take(rows), self.locales[rows], **columns)
        if "_contents" in self.__dict__:
            taken.__dict__["_contents"] = self._contents[rows]
        return taken


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and a product: row i joins `query_rows[i]` with `product_rows[i]`."""

    queries: Queries
    products: Products
    query_rows: NDArray[np.int32]  # (pairs,)
    product_rows: NDArray[np.int32]  # (pairs,)

    def __post_init__(self) -> None:
        _same_length("pairs", query=self.query_rows, product=self.product_rows)
        _check_codes("the query", self.query_rows, len(self.queries))
        _check_codes("the product", self.product_rows, len(self.products))

    @classmethod
    def of_query(cls, query: str, locale: str, products: Products) -> "Pairs":
        """One query with every one of `products`."""
        rows = np.arange(len(products), dtype=np.int32)
        return Pairs(Queries.of([query], [locale]), products, np.zeros_like(rows), rows)

    def __len__(self) -> int:
        return len(self.query_rows)

    def take(self, rows: Rows) -> "Pairs":
        """The pairs of `rows`, over the same tables."""
        return Pairs(self.queries, self.products, self.query_rows[rows], self.product_rows[rows])

    def compact(self) -> "Pairs":
        """The same pairs over tables that hold only the queries and products they name."""
        used_queries, query_rows = np.unique(self.query_rows, return_inverse=True)
        used_products, product_rows = np.unique(self.product_rows, return_inverse=True)
        return Pairs(
            self.queries.take(used_queries),
            self.products.take(used_products),
            query_rows.astype(np.int32),
            product_rows.astype(np.int32),
        )

    def locales(self) -> LocaleCodes:
        """The locale of each pair: its product's."""
        return self.products.locales[self.product_rows]

    def read_in_product_locales(self) -> "Pairs":
        """The same pairs, each query once for each locale of its products, and in that locale.

        A pair's fingerprint knows the product's locale alone, so that is how its query is read.
        """
        asked = self.query_rows.astype(np.int64) * len(LOCALES) + self.locales()
        distinct, query_rows = np.unique(asked, return_inverse=True)
        texts, locales = np.divmod(distinct, len(LOCALES))
        queries = Queries(self.queries.texts.take(texts), locales.astype(np.int8))
        return Pairs(queries, self.products, query_rows.astype(np.int32), self.product_rows)

    def texts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Query and product fields of each pair, in order."""
        for query_row, product_row in zip(self.query_rows, self.product_rows, strict=True):
            yield self.queries.texts[query_row], self.products.texts(product_row)

    def fingerprints(self) -> list[bytes]:
        """A key per pair that changes whenever its answer may: locale, query, product, content."""
        used_queries, query_at = np.unique(self.query_rows, return_inverse=True)
        used_products, product_at = np.unique(self.product_rows, return_inverse=True)
        queries = [normalise(text).encode() for text in self.queries.texts.take(used_queries)]
        named = self.products.take(used_products)
        products = [
            b"\0".join((LOCALES[locale].encode(), product_id.encode(), content))
            for locale, product_id, content in zip(
                named.locales.tolist(), named.ids, named.content_hashes(), strict=True
            )
        ]
        return [
            blake2b(queries[q] + b"\0" + products[p], digest_size=16).digest()
            for q, p in zip(query_at, product_at, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class LabelledPairs(Pairs):
    """Pairs with the label a person gave each."""

    labels: Codes = field(default_factory=lambda: np.empty(0, np.int8))  # (pairs,)

    def __post_init__(self) -> None:
        super().__post_init__()
        _same_length("labelled pairs", pair=self.query_rows, label=self.labels)
        _check_codes("the label", self.labels, len(LABELS))

    @classmethod
    def of(cls, pairs: Pairs, labels: Sequence[str]) -> Self:
        """`pairs` with `labels` given as letters."""
        return cls(
            pairs.queries,
            pairs.products,
            pairs.query_rows,
            pairs.product_rows,
            encode_labels(labels),
        )

    def take(self, rows: Rows) -> "LabelledPairs":
        """The labelled pairs of `rows`, over the same tables."""
        kept = super().take(rows)
        return LabelledPairs(
            kept.queries, kept.products, kept.query_rows, kept.product_rows, self.labels[rows]
        )

    def compact(self) -> "LabelledPairs":
        """The same labelled pairs over tables that hold only what they name."""
        small = super().compact()
        return LabelledPairs(
            small.queries, small.products, small.query_rows, small.product_rows, self.labels
        )

    def without_labels(self) -> Pairs:
        """The pairs alone: what a member may see of pairs it is to answer."""
        return Pairs(self.queries, self.products, self.query_rows, self.product_rows)

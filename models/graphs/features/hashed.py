"""Words and character n-grams of a text, hashed, weighed by TF-IDF and cut down by an SVD.

The vectors of a text need no vocabulary: a stem or an n-gram falls into one of some ten thousand
buckets by its hash. What is fitted are the rarity of each bucket and the directions that keep most.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.errors import ReleaseError
from models.files import atomic_file
from models.lexical.matching.ragged import expand, indptr_of
from models.lexical.reading.tokens import Vocabulary, gram_hashes, number_tokens
from models.locales import LocaleCodes
from models.pairs import Products, Queries
from models.texts import Texts
from models.vectors.packing import Vectors

FILE: Final = "hashed.npz"
_BUCKETS: Final = 1 << 15
_WORDS: Final = np.uint32(0x9E3779B1)  # sets the buckets of words apart from those of n-grams
# Tokens that count of each field, and how much: a title says what a product is.
_FIELDS: Final = {"title": (48, 2.0), "brand": (8, 1.0), "colour": (8, 1.0), "bullets": (64, 0.5)}
_OF_QUERY: Final = {"query": (32, 1.0)}
_GRAMS_IN: Final = frozenset({"query", "title", "brand"})  # fields whose words are taken apart
_GRAM_WEIGHT: Final = 0.5
_BLOCK: Final = 1 << 13  # texts at a time
_SAMPLE: Final = 100_000  # texts that the directions are fitted on


@dataclass(frozen=True, eq=False)
class _Bags:
    """Weighed buckets of texts: text i has those of indptr[i] to indptr[i + 1], each once."""

    indptr: NDArray[np.int64]
    buckets: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def take(self, rows: NDArray[np.int64]) -> "_Bags":
        """The bags of `rows`."""
        indptr, places = expand(self.indptr, rows)
        return _Bags(indptr, self.buckets[places], self.weights[places])


@dataclass(frozen=True, eq=False)
class HashedText:
    """The fitted vectors; a FeatureSource of numpy alone."""

    rarity: NDArray[np.float32]  # (buckets,), the IDF of each
    directions: NDArray[np.float16]  # (buckets, width)

    @classmethod
    def fit(cls, queries: Queries, products: Products, width: int, seed: int) -> Self:
        """Rarity from all texts that are given, directions from a sample of them."""
        # Imported here: what serves must not need it.
        from sklearn.decomposition import TruncatedSVD

        texts = len(queries) + len(products)
        is_sampled = np.ones(texts, bool)
        if texts > _SAMPLE:
            chosen = np.random.default_rng(seed).choice(texts, _SAMPLE, replace=False)
            is_sampled = np.isin(np.arange(texts), chosen)
        # Bags of a million products would take gigabytes: those of the sample alone stay.
        seen, sampled, start = np.zeros(_BUCKETS, np.int64), [], 0
        for bags in chain(_query_bags(queries), _product_bags(products)):
            seen += np.bincount(bags.buckets, minlength=_BUCKETS)
            end = start + len(bags)
            sampled.append(bags.take(np.flatnonzero(is_sampled[start:end])))
            start = end
        rarity = np.log((1 + texts) / (1 + seen)).astype(np.float32) + 1
        matrix = _matrix(sampled, rarity)
        # An SVD gives no more directions than there are texts; the others stay empty.
        found = min(width, texts - 1, _BUCKETS - 1)
        directions = np.zeros((_BUCKETS, width), np.float16)
        if found > 0:
            svd = TruncatedSVD(found, random_state=seed).fit(matrix)
            directions[:, :found] = svd.components_.T.astype(np.float16)
        return cls(rarity, directions)

    @cached_property
    def _directions(self) -> NDArray[np.float32]:
        return self.directions.astype(np.float32)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.directions.shape[1])

    @property
    def identity(self) -> str:
        """A digest of rarity and directions."""
        digest = sha256(json.dumps(["hashed", 1]).encode())
        digest.update(self.rarity.tobytes())
        digest.update(self.directions.tobytes())
        return digest.hexdigest()

    def of_queries(self, queries: Queries) -> Vectors:
        """A vector per query, of unit length; zero of one without a known word."""
        return self._vectors(_query_bags(queries))

    def of_products(self, products: Products) -> Vectors:
        """A vector per product, likewise."""
        return self._vectors(_product_bags(products))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What makes it again, by the names of the fields."""
        return {"rarity": self.rarity, "directions": self.directions}

    def save(self, folder: Path) -> None:
        """Write hashed.npz."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / FILE) as scratch, scratch.open("wb") as target:
            np.savez(target, allow_pickle=False, **self.arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        with (folder / FILE).open("rb") as source, np.load(source, allow_pickle=False) as arrays:
            found = cls(arrays["rarity"], arrays["directions"])
        if found.rarity.shape != (_BUCKETS,) or found.directions.shape[:1] != (_BUCKETS,):
            raise ReleaseError(
                f"{folder / FILE} holds arrays of shapes {found.rarity.shape} and "
                f"{found.directions.shape}; expected {_BUCKETS} rows in each"
            )
        return found

    def _vectors(self, blocks: Iterable[_Bags]) -> Vectors:
        found = [np.empty((0, self.width), np.float32)]
        for bags in blocks:
            vectors = _matrix([bags], self.rarity) @ self._directions
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            found.append(vectors / np.where(lengths > 0, lengths, 1))
        return np.concatenate(found)


def _query_bags(queries: Queries) -> Iterator[_Bags]:
    for rows in _blocks(len(queries)):
        yield _bags({"query": queries.texts.take(rows)}, queries.locales[rows], _OF_QUERY)


def _product_bags(products: Products) -> Iterator[_Bags]:
    for rows in _blocks(len(products)):
        fields = {name: products.field(name).take(rows) for name in _FIELDS}
        yield _bags(fields, products.locales[rows], _FIELDS)


def _blocks(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(at, min(at + _BLOCK, count)) for at in range(0, count, _BLOCK)]


def _bags(
    fields: dict[str, Texts], locales: LocaleCodes, budgets: dict[str, tuple[int, float]]
) -> _Bags:
    vocabulary = Vocabulary()
    owners, numbers, weights, is_taken_apart = [], [], [], []
    for name, texts in fields.items():
        limit, weight = budgets[name]
        indptr, found = number_tokens(texts, locales, vocabulary, limit)
        owners.append(np.repeat(np.arange(len(locales)), np.diff(indptr)))
        numbers.append(found.astype(np.int64))
        weights.append(np.full(len(found), weight, np.float32))
        is_taken_apart.append(np.full(len(found), name in _GRAMS_IN))
    owner, number = np.concatenate(owners), np.concatenate(numbers)
    weight_of = np.concatenate(weights)
    columns = vocabulary.columns()
    gram_bounds, grams = gram_hashes(vocabulary, np.arange(len(vocabulary.words)))
    counts = np.where(np.concatenate(is_taken_apart), np.diff(gram_bounds)[number], 0)
    places = np.arange(int(counts.sum())) + np.repeat(
        gram_bounds[:-1][number] - (np.cumsum(counts) - counts), counts
    )
    buckets = np.concatenate([columns.hash[number] ^ _WORDS, grams[places]]) % _BUCKETS
    shares = _GRAM_WEIGHT / np.sqrt(np.maximum(counts, 1))
    keys = np.concatenate([owner, np.repeat(owner, counts)]) * _BUCKETS + buckets
    masses = np.concatenate([weight_of, np.repeat(weight_of * shares, counts)])
    order = np.argsort(keys, kind="stable")
    keys, masses = keys[order], masses[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    sums = np.add.reduceat(masses, starts) if len(starts) else masses
    owner, bucket = np.divmod(keys[starts], _BUCKETS)
    indptr = indptr_of(np.bincount(owner, minlength=len(locales)))
    return _Bags(indptr, bucket, np.log1p(sums).astype(np.float32))


def _matrix(blocks: list[_Bags], rarity: NDArray[np.float32]) -> csr_array:
    """The TF-IDF of the texts of `blocks`, (texts, buckets)."""
    counts = [np.diff(bags.indptr) for bags in blocks]
    indptr = indptr_of(np.concatenate([np.empty(0, np.int64), *counts]))
    values = [_unit(bags, rarity) for bags in blocks]
    buckets = [bags.buckets for bags in blocks]
    return csr_array(
        (
            np.concatenate([np.empty(0, np.float32), *values]),
            np.concatenate([np.empty(0, np.int64), *buckets]),
            indptr,
        ),
        shape=(len(indptr) - 1, _BUCKETS),
    )


def _unit(bags: _Bags, rarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The TF-IDF of each bucket of each text, each text's of unit length."""
    values = bags.weights * rarity[bags.buckets]
    owner = np.repeat(np.arange(len(bags.indptr) - 1), np.diff(bags.indptr))
    lengths = np.sqrt(np.bincount(owner, values.astype(np.float64) ** 2))
    return np.asarray(values / lengths[owner], dtype=np.float32)

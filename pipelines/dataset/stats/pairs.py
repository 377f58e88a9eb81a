"""The judged pairs: slices, judged products per query, unseen products, words of queries."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.labels import LABELS
from models.locales import LOCALES
from pipelines.console import Tick
from pipelines.dataset.checks.folding import fold_all
from pipelines.dataset.layout import EXAMPLES_FILE, SPLITS
from pipelines.dataset.stats.stream import (
    Codes,
    Histogram,
    Keys,
    Vocabulary,
    among,
    batches,
    distinct,
    keys,
)
from pipelines.dataset.stats.summary import EVERY, Judged, QueryTexts, Shift, Slice, Spread, Unseen
from pipelines.dataset.stats.tokens import count_tokens

TOP: Final = 20
_COLUMNS: Final = ("query", "product_id", "product_locale", "esci_label", "split")
# Deep lists are rare; their queries are counted in the last bar of the histogram.
_DEEPEST: Final = 50
_FIVE: Final = 5


@dataclass(frozen=True)
class Pairs:
    """What the rest needs of every pair, one element each; a query or product is its key."""

    queries: Keys
    products: Keys
    locales: Codes
    splits: Codes
    labels: Codes
    locale_words: Sequence[str]
    split_words: Sequence[str]
    label_words: Sequence[str]

    def take(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """The pairs that are chosen."""
        return Pairs(
            self.queries[chosen],
            self.products[chosen],
            self.locales[chosen],
            self.splits[chosen],
            self.labels[chosen],
            self.locale_words,
            self.split_words,
            self.label_words,
        )

    def __len__(self) -> int:
        return len(self.queries)


def read_pairs(folder: Path, tick: Tick) -> tuple[Pairs, list[QueryTexts]]:
    """Every pair as keys and codes, and what the distinct queries look like."""
    locales, splits, labels = Vocabulary(LOCALES), Vocabulary(SPLITS), Vocabulary(LABELS)
    texts = _QueryTexts()
    parts: list[tuple[NDArray[Any], ...]] = []
    for batch in batches(folder / EXAMPLES_FILE, _COLUMNS, tick):
        locale = locales.codes(batch["product_locale"])
        of_locale = locales.keys()[locale]
        query = keys(batch["query"], of_locale)
        parts.append(
            (
                query,
                keys(batch["product_id"], of_locale),
                locale.astype(np.int16),
                splits.codes(batch["split"]).astype(np.int16),
                labels.codes(batch["esci_label"]).astype(np.int16),
            )
        )
        texts.add(batch["query"], query, locale)
    none = (*[np.empty(0, np.uint64)] * 2, *[np.empty(0, np.int16)] * 3)
    query, product, locale, split, label = map(np.concatenate, zip(none, *parts, strict=True))
    words = locales.words, splits.words, labels.words
    return Pairs(query, product, locale, split, label, *words), texts.result(locales.words)


class _QueryTexts:
    """Lengths and words of each distinct query of a locale, counted once."""

    def __init__(self) -> None:
        self._seen: Keys = np.empty(0, np.uint64)
        self._characters: dict[int, Histogram] = {}
        self._tokens: dict[int, Histogram] = {}
        self._words: dict[int, Counter[str]] = {}

    def add(self, column: pa.DictionaryArray, query_keys: Keys, locales: Codes) -> None:
        """Count the queries of `column` that have not been seen before."""
        found, first = np.unique(query_keys, return_index=True)
        new = ~among(found, self._seen)
        self._seen = np.sort(np.concatenate([self._seen, found[new]]))
        rows = first[new]
        for locale in np.flatnonzero(np.bincount(locales[rows])).tolist():
            chosen = column.take(pa.array(rows[locales[rows] == locale]))
            texts = chosen.cast(pa.large_string()).fill_null("")
            characters = np.asarray(pc.utf8_length(texts))
            self._characters.setdefault(locale, Histogram()).add(characters)
            self._tokens.setdefault(locale, Histogram()).add(count_tokens(texts))
            self._words.setdefault(locale, Counter()).update(dict(_words(texts)))

    def result(self, locale_words: Sequence[str]) -> list[QueryTexts]:
        """What was counted, by locale."""
        return [
            QueryTexts(
                locale_words[locale],
                self._characters[locale].spread(),
                self._tokens[locale].spread(),
                dict(most_common(self._words[locale], TOP)),
            )
            for locale in sorted(self._words)
        ]


def _words(texts: pa.Array) -> Iterator[tuple[str, int]]:
    """Each word between spaces, as case and width do not matter, and how often it occurs."""
    words = pc.list_flatten(pc.utf8_split_whitespace(fold_all(texts)))
    for entry in pc.value_counts(words).to_pylist():
        if any(character.isalnum() for character in entry["values"]):
            yield entry["values"], entry["counts"]


def most_common(counts: Counter[str], top: int) -> list[tuple[str, int]]:
    """As Counter.most_common, with ties by name, so that runs agree."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:top]


def slices(pairs: Pairs) -> tuple[list[Slice], list[Shift]]:
    """Pairs, queries, products and labels per locale and split, and the shifts between splits."""
    every = np.ones(len(pairs), bool)
    of_locale = [(EVERY, every)] + [
        (word, pairs.locales == code) for code, word in enumerate(pairs.locale_words)
    ]
    of_split = [(EVERY, every)] + [
        (word, pairs.splits == code) for code, word in enumerate(pairs.split_words)
    ]
    found, shifts = [], []
    for locale, in_locale in of_locale:
        by_split = {
            split: _slice(locale, split, pairs.take(in_locale & in_split))
            for split, in_split in of_split
        }
        found += [one for one in by_split.values() if one.pairs]
        train, test = (by_split[split] for split in SPLITS)
        if train.pairs and test.pairs:
            shifts.append(Shift.between(train, test))
    return found, shifts


def _slice(locale: str, split: str, pairs: Pairs) -> Slice:
    counts = np.bincount(pairs.labels, minlength=len(pairs.label_words)).tolist()
    return Slice(
        locale,
        split,
        len(pairs),
        len(distinct(pairs.queries)),
        len(distinct(pairs.products)),
        {
            word: count
            for word, count in zip(pairs.label_words, counts, strict=True)
            if count or word in LABELS
        },
    )


def judged_per_query(pairs: Pairs) -> list[Judged]:
    """The depth of the judged lists, over all and per split."""
    found = [_judged(EVERY, pairs)]
    for code, split in enumerate(pairs.split_words):
        chosen = pairs.take(pairs.splits == code)
        if len(chosen):
            found.append(_judged(split, chosen))
    return found


def _judged(split: str, pairs: Pairs) -> Judged:
    _, query = np.unique(pairs.queries, return_inverse=True)
    depths = np.bincount(query)
    kinds = len(pairs.label_words)
    labels = np.bincount(query * kinds + pairs.labels, minlength=len(depths) * kinds)
    levels = (labels.reshape(-1, kinds) > 0).sum(axis=1)
    queries = max(len(depths), 1)
    return Judged(
        split,
        Spread.of_counts(np.bincount(depths)),
        np.bincount(np.minimum(depths, _DEEPEST)).tolist(),
        float((levels == 1).sum()) / queries,
        float((depths >= _FIVE).sum()) / queries,
    )


def unseen_in_test(pairs: Pairs) -> Unseen | None:
    """What of the products in test no training pair names; None without both splits."""
    train, test = (
        pairs.products[pairs.splits == pairs.split_words.index(split)] for split in SPLITS
    )
    if not (len(train) and len(test)):
        return None
    known, tested = distinct(train), distinct(test)
    return Unseen(
        products=len(tested),
        unseen_products=int((~among(tested, known)).sum()),
        pairs=len(test),
        unseen_pairs=int((~among(test, known)).sum()),
    )

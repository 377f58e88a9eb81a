"""What a catalogue says about words: how rare they are, and how often they name a brand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.postings import Postings
from models.lexical.matching.products import ANYWHERE, BRAND, ProductFeatures
from models.lexical.matching.ragged import owners
from models.lexical.reading.hashing import Hashes
from models.locales import LOCALES, LocaleCodes


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts per locale, from the training side's products alone."""

    products: NDArray[np.float64]  # (locales,)
    title_words: NDArray[np.float64]  # (locales,) mean length of a title
    all_words: NDArray[np.float64]  # (locales,) mean length of all fields together
    frequencies: Postings  # row = locale; payload = products that hold the term
    brands: Postings  # row = locale; payload = products whose brand holds it

    def idf(self, locales: LocaleCodes, terms: Hashes) -> NDArray[np.float64]:
        """Inverse document frequency of each term in its locale: log(1 + (N - n + ½)/(n + ½)).

        A term of one product counts as one of none, n = 1 for both: else every rare term of a
        training product would look unlike the rare terms of the products to come.
        """
        count = np.maximum(self.products[locales], 1)
        found = np.clip(self.frequencies.find(locales, terms), 1, count)
        return np.asarray(np.log1p((count - found + 0.5) / (found + 0.5)))

    def greatest_idf(self, locales: LocaleCodes) -> NDArray[np.float64]:
        """The idf of a term that no product holds."""
        count = np.maximum(self.products[locales], 1)
        return np.asarray(np.log1p((count - 0.5) / 1.5))

    def brandness(self, locales: LocaleCodes, terms: Hashes) -> NDArray[np.float64]:
        """Of the products that hold a term, the share whose brand holds it; 0 if unknown."""
        found = self.frequencies.find(locales, terms)
        # Two imagined products without the brand: one product is no evidence of a brand's name.
        return np.asarray(self.brands.find(locales, terms) / (found + 2.0))


def count_words(features: ProductFeatures) -> Statistics:
    """The statistics of these products."""
    locales = len(LOCALES)
    products = np.bincount(features.locales, minlength=locales).astype(np.float64)

    def mean(words: NDArray[np.int32]) -> NDArray[np.float64]:
        total = np.bincount(features.locales, weights=words, minlength=locales)
        return np.maximum(total / np.maximum(products, 1), 1.0)

    return Statistics(
        products=products,
        title_words=mean(features.title_words),
        all_words=mean(features.all_words),
        frequencies=_frequencies(features, ANYWHERE),
        brands=_frequencies(features, BRAND),
    )


def _frequencies(features: ProductFeatures, bits: int) -> Postings:
    kept = (features.terms.payload & bits) != 0
    locale_of = features.locales[owners(features.terms.indptr)[kept]]
    counted = Postings.of(
        len(LOCALES),
        locale_of,
        features.terms.hashes[kept],
        np.ones(len(locale_of), np.uint32),
        lambda payload, starts: np.add.reduceat(payload, starts),
    )
    # What one product holds is most of a vocabulary and, by `idf`, worth nothing.
    common = counted.payload > 1
    return Postings(
        np.append(0, np.cumsum(common))[counted.indptr].astype(np.int64),
        counted.hashes[common],
        counted.payload[common],
    )

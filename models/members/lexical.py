"""The lexical member: what query and product say in common, weighed by an additive model.

It needs no GPU, no downloads and, when it answers, numpy alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, EsciError, ReleaseError
from models.files import write_json
from models.labels import LABELS
from models.lexical.matching.arrays import load_arrays, save_arrays
from models.lexical.matching.crosses import joined_crosses, pair_crosses
from models.lexical.matching.matches import Matches, matched
from models.lexical.matching.pair_features import feature_names, features_of
from models.lexical.matching.products import ProductFeatures, prepare_products
from models.lexical.matching.queries import prepare_queries
from models.lexical.matching.statistics import Statistics, count_words
from models.lexical.weighing.additive import AdditiveModel
from models.lexical.weighing.choosing import choose_model
from models.lexical.weighing.fitting import Sample
from models.lexical.weighing.options import LexicalOptions
from models.locales import LOCALES
from models.member import Cost, Logits, require_fitted, require_pairs
from models.pairs import LabelledPairs, Pairs
from models.registry import named_extra
from models.saved_member import ABOUT, read_about
from models.typed import parse, plain
from models.weights import pair_weights
from models.workbench import NO_WORKBENCH, Workbench

# Also what tokens, hashes and features mean: it rises when a saved member would answer otherwise.
FORMAT: Final = 1
_KIND: Final = "lexical"
_MODEL, _STATISTICS = "model.npz", "statistics.npz"


class LexicalMember:
    """Overlap of words, brands, colours, numbers and denials, into four logits."""

    Options: ClassVar[type[Any]] = LexicalOptions

    def __init__(self, name: str = _KIND, options: LexicalOptions | None = None) -> None:
        self.name = name
        self.options = options or LexicalOptions()
        self._model: AdditiveModel | None = None
        self._statistics: Statistics | None = None
        self._trials: list[dict[str, float | None]] = []

    @named_extra(_KIND, "be fitted")
    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        """Count the words of the training side's products, then choose penalties on `valid`."""
        del bench  # a matter of seconds
        require_pairs(self.name, train)
        named = train.compact()
        products = prepare_products(named.products)
        statistics = count_words(products)
        weights = pair_weights(
            train.labels, named.query_rows, self.options.class_weight, self.options.list_weight
        )
        judged = valid.compact()
        model, trials = choose_model(
            _sample(train, named, products, statistics, weights),
            _sample(
                valid, judged, prepare_products(judged.products), statistics, np.ones(len(valid))
            ),
            self.options,
        )
        self._model, self._statistics = model, statistics
        self._trials = [trial.as_json() for trial in trials]
        return self

    def predict_logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; the products that pairs name are prepared here."""
        self._fitted()
        named = pairs.compact()
        return self.predict_prepared(named, prepare_products(named.products))

    def predict_prepared(self, pairs: Pairs, products: ProductFeatures) -> Logits:
        """Four logits per pair, where row i of `products` was prepared from `pairs.products` row i.

        Preparing is most of the work, and what it makes of a product depends on no training.
        """
        model, statistics = self._fitted()
        if len(products) != len(pairs.products):
            raise DataError(
                f"{len(products)} prepared products for a table of {len(pairs.products)}; expected "
                "the features that prepare_products made of this very table"
            )
        return np.concatenate(
            [
                model.logits(features_of(m), m.of_product(products.locales), pair_crosses(m))
                for m in _matched(pairs, products, statistics)
            ]
        )

    def cost(self) -> Cost:
        """What a benchmark measured, zero where none did."""
        return Cost()

    def save(self, folder: Path) -> None:
        """Write `member.json` and two npz files."""
        model, statistics = self._fitted()
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / _MODEL, model)
        save_arrays(folder / _STATISTICS, statistics)
        write_json(
            folder / ABOUT,
            {
                "kind": _KIND,
                "format": FORMAT,
                "name": self.name,
                "options": plain(self.options),
                **_meanings(),
                "trials": self._trials,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member saved in `folder`, refused where a column of it means something else here."""
        about = _read_about(folder)
        try:
            member = cls(about["name"], parse(LexicalOptions, about["options"]))
            member._trials = about["trials"]
            member._model = load_arrays(folder / _MODEL, AdditiveModel)
            member._statistics = load_arrays(folder / _STATISTICS, Statistics)
        except (OSError, KeyError, TypeError, ValueError, BadZipFile, EsciError) as error:
            raise ReleaseError(
                f"{folder} does not hold a whole lexical member: {error}; "
                "restore the folder, or train the member again"
            ) from error
        return member

    def _fitted(self) -> tuple[AdditiveModel, Statistics]:
        return require_fitted(self.name, self._model), require_fitted(self.name, self._statistics)


def _meanings() -> dict[str, list[str]]:
    """What the columns of the arrays stand for, in their order."""
    return {"labels": list(LABELS), "locales": list(LOCALES), "features": list(feature_names())}


def _read_about(folder: Path) -> dict[str, Any]:
    """The content of `member.json`, checked to be ours and of this format."""
    found = read_about(folder, _KIND, FORMAT)
    for what, expected in _meanings().items():
        if found.get(what) != expected:
            raise ReleaseError(
                f"{folder} was saved with other {what} than this code's ({', '.join(expected)}); "
                "train the member again, or run the version that wrote it"
            )
    return found


def _matched(pairs: Pairs, products: ProductFeatures, statistics: Statistics) -> Iterator[Matches]:
    """The matches of all pairs in order, a chunk at a time."""
    asked = pairs.read_in_product_locales()
    queries = prepare_queries(asked.queries.texts, asked.queries.locales, statistics)
    return matched(queries, products, statistics, asked.query_rows, pairs.product_rows)


def _sample(
    labelled: LabelledPairs,
    pairs: Pairs,
    products: ProductFeatures,
    statistics: Statistics,
    weights: NDArray[np.float64],
) -> Sample:
    """`pairs` with the labels of `labelled`, as the fit sees them."""
    features, crosses, lengths, queries = [], [], [], []
    for m in _matched(pairs, products, statistics):
        features.append(features_of(m))
        crosses.append(pair_crosses(m))
        lengths.append(len(m))
        queries.append(m.query_of)
    return Sample(
        features=np.concatenate(features),
        locales=pairs.locales(),
        crosses=joined_crosses(crosses, lengths),
        queries=np.concatenate(queries),
        labels=labelled.labels,
        weights=weights,
    )

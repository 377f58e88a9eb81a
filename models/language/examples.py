"""What a fit takes from its pairs besides the pairs themselves."""

from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np

from models.pairs import PRODUCT_FIELDS, LabelledPairs, Pairs

_COMPARED: Final = 2000  # enough to see a flip in a thousand, and answered in a minute


def every_text(pairs: Pairs) -> Iterator[str]:
    """Every text of the queries and products that `pairs` name, each once."""
    named = pairs.compact()
    return chain(named.queries.texts, *(named.products.field(name) for name in PRODUCT_FIELDS))


def pairs_to_compare(train: LabelledPairs, valid: LabelledPairs, seed: int) -> LabelledPairs:
    """The pairs on which an export is compared with what was trained.

    They are drawn from `valid`, or from `train` where that is empty.
    """
    pairs = valid if len(valid) else train
    if len(pairs) <= _COMPARED:
        return pairs
    drawn = np.random.default_rng(seed).choice(len(pairs), _COMPARED, replace=False)
    return pairs.take(np.sort(drawn))

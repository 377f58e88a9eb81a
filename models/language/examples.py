"""What a fit takes from its pairs besides the pairs themselves."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from models.pairs import PRODUCT_FIELDS, LabelledPairs, Pairs

_COMPARED: Final = 2000  # enough to see a flip in a thousand, and answered in a minute


def every_text(pairs: Pairs) -> Iterator[str]:
    """Every text of the queries and products that `pairs` name, each once.

    Nothing is gathered before the first is asked for: few backbones ask.
    """
    yield from pairs.queries.texts.take(np.unique(pairs.query_rows))
    products = np.unique(pairs.product_rows)
    for name in PRODUCT_FIELDS:
        yield from pairs.products.field(name).take(products)


def pairs_to_compare(train: LabelledPairs, valid: LabelledPairs, seed: int) -> LabelledPairs:
    """The pairs on which an export is compared with what was trained.

    They are drawn from `valid`, or from `train` where that is empty.
    """
    pairs = valid if len(valid) else train
    if len(pairs) <= _COMPARED:
        return pairs
    drawn = np.random.default_rng(seed).choice(len(pairs), _COMPARED, replace=False)
    return pairs.take(np.sort(drawn))

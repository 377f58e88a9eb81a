"""Which judged products customers have done anything with; the others are cold.

What was done after a query that is judged counts for nobody: a member that is judged by it has not
heard of it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.locales import LOCALES
from models.text import fold
from pipelines.console import silent
from pipelines.dataset.layout import BEHAVIOURS_FILE, LINKS_FILE
from pipelines.dataset.stats.stream import Vocabulary, among, batches, keys
from pipelines.dataset.stats.stream import distinct as distinct_keys

_IDS: Final = {
    BEHAVIOURS_FILE: ("product_id",),
    LINKS_FILE: ("product_id_a", "product_id_b"),
}
COLD, KNOWN = range(2)


def warmth(
    folder: Path, ids: pa.ChunkedArray, locales: NDArray[np.int8], judged: Collection[str]
) -> NDArray[np.int8] | None:
    """Of each row COLD or KNOWN; None for a dataset without behaviours and links.

    `judged` are folded texts of queries.
    """
    found = []
    for name, columns in _IDS.items():
        if (folder / name).is_file():
            vocabulary = Vocabulary(LOCALES)
            asked = ("query",) if name == BEHAVIOURS_FILE else ()
            for batch in batches(folder / name, (*columns, *asked, "product_locale"), silent):
                of_locale = vocabulary.codes(batch["product_locale"])
                words = vocabulary.keys()[of_locale]
                counts = np.ones(len(words), bool)
                if asked:
                    texts = batch["query"]
                    told = [fold(text or "") not in judged for text in texts.dictionary.to_pylist()]
                    counts = np.array([*told, True])[np.asarray(texts.indices.fill_null(-1))]
                found += [distinct_keys(keys(batch[one], words)[counts]) for one in columns]
    if not found:
        return None
    known = distinct_keys(np.concatenate(found))
    named = ids.combine_chunks().cast(pa.string()).dictionary_encode()
    return among(keys(named, Vocabulary(LOCALES).keys()[locales]), known).astype(np.int8)

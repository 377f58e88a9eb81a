"""Which judged products customers have done anything with; the others are cold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.locales import LOCALES
from pipelines.console import silent
from pipelines.dataset.layout import BEHAVIOURS_FILE, LINKS_FILE
from pipelines.dataset.stats.stream import Vocabulary, among, batches, keys
from pipelines.dataset.stats.stream import distinct as distinct_keys

_IDS = {
    BEHAVIOURS_FILE: ("product_id",),
    LINKS_FILE: ("product_id_a", "product_id_b"),
}
COLD, KNOWN = range(2)


def warmth(
    folder: Path, ids: pa.ChunkedArray, locales: NDArray[np.int8]
) -> NDArray[np.int8] | None:
    """Of each row COLD or KNOWN; None for a dataset without behaviours and links."""
    found = []
    for name, columns in _IDS.items():
        if (folder / name).is_file():
            vocabulary = Vocabulary(LOCALES)
            for batch in batches(folder / name, (*columns, "product_locale"), silent):
                of_locale = vocabulary.codes(batch["product_locale"])
                words = vocabulary.keys()[of_locale]
                found += [distinct_keys(keys(batch[column], words)) for column in columns]
    if not found:
        return None
    known = distinct_keys(np.concatenate(found))
    asked = ids.combine_chunks().cast(pa.string()).dictionary_encode()
    return among(keys(asked, Vocabulary(LOCALES).keys()[locales]), known).astype(np.int8)

"""Columns of a few known words: labels, locales, splits."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from models.errors import DataError
from models.labels import LABEL_NAMES, LABELS
from models.locales import LOCALES
from pipelines.dataset.checks.columns import Column
from pipelines.dataset.checks.report import show
from pipelines.dataset.importing.mapping import ImportMapping
from pipelines.dataset.importing.readers import Block
from pipelines.dataset.layout import SPLITS

_SHOWN: Final = 20


class Words:
    """Translates words; gathers the unknown ones, so that one run tells them all."""

    def __init__(self, column: str, known: Mapping[str, str], mend: str) -> None:
        self._column = column
        self._known = known
        self._mend = mend
        self._unknown: dict[str, tuple[int, str]] = {}  # word: rows, place of the first

    def translate(self, texts: pa.Array, block: Block) -> pa.Array:
        """Our words for `texts`; null where there is none."""
        column = Column.of(texts.fill_null(""))
        meanings = []
        for code, word in enumerate(column.values.to_pylist()):
            meaning = self._known.get(word.strip(), self._known.get(word.strip().casefold()))
            if meaning is None:
                rows = np.flatnonzero(column.codes == code)
                count, place = self._unknown.get(word, (0, block.where(int(rows[0]))))
                self._unknown[word] = (count + len(rows), place)
            meanings.append(meaning)
        return pa.array(meanings, pa.string()).take(pa.array(column.codes))

    def refuse_unknown(self) -> None:
        """Raise if any word was unknown, naming them all."""
        if not self._unknown:
            return
        words = [
            f"{show(word)} ({count:,} rows, the first is {place})"
            for word, (count, place) in list(self._unknown.items())[:_SHOWN]
        ]
        if (more := len(self._unknown) - len(words)) > 0:
            words.append(f"and {more} more")
        raise DataError(
            f"column {self._column} holds words without a meaning: {'; '.join(words)}; "
            f"expected {', '.join(dict.fromkeys(self._known.values()))}; "
            + self._mend.format(word=next(iter(self._unknown)))
        )


def translators(mapping: ImportMapping) -> dict[str, Words]:
    """A translator per column of words, for one file.

    Labels may be letters or names and locales ours, in any case, or what the mapping says.
    """
    labels = {label.casefold(): str(label) for label in LABELS}
    labels |= {name.casefold(): str(label) for label, name in LABEL_NAMES.items()}
    locales = {str(locale): str(locale) for locale in LOCALES}
    splits = {name: name for name in SPLITS}
    return {
        "esci_label": Words(
            "esci_label",
            labels | mapping.labels,
            'say what each means, as in --label-map "{word}=E"',
        ),
        "product_locale": Words(
            "product_locale",
            locales | mapping.locales,
            'say what each means, as in --locale-map "{word}=us"',
        ),
        "split": Words(
            "split",
            splits,
            "rename them in the file, or let the split be assigned: --map split=",
        ),
    }

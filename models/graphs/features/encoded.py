"""The vectors of a trained bi-encoder as what nodes start from.

The bi-encoder must have learned from the same training side as the member that uses it, as one does
that goes through `esci train` before it, in the same run. Another may have learned the very labels
that the member is to be judged by.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final, Literal, Self, cast
from weakref import WeakValueDictionary

import numpy as np

from models.errors import ConfigError
from models.files import file_sha256, read_json
from models.locales import LOCALES
from models.pairs import LabelledPairs, Products, Queries
from models.registry import member_class
from models.saved_member import ABOUT
from models.sealed import pairs_sha256
from models.text import normalise
from models.vectors.packing import Vectors

FOLDER: Final = "encoder"
_KIND: Final = "bi_encoder"

Teachers = Literal["the same pairs", "other pairs", "unknown"]
"""What an encoder has learned from, as far as its folder says."""

_REMEMBERED: Final = 4096  # queries, of some kilobytes each


class EncodedText:
    """A FeatureSource that asks a bi-encoder.

    Members that start from one bi-encoder share it, and the vectors of the last queries: a request
    asks each of them about the same one.
    """

    _open: ClassVar[WeakValueDictionary[str, "EncodedText"]] = WeakValueDictionary()
    _opening = Lock()

    def __init__(self, member: Any) -> None:
        self._member = member
        self._known: OrderedDict[tuple[int, str], Vectors] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The bi-encoder saved in `folder`, which must stay there."""
        if not (folder / ABOUT).is_file():
            raise ConfigError(
                f"{folder} holds no {ABOUT}; expected the folder of a trained bi_encoder, or the "
                "name of one that the same run trains before"
            )
        with cls._opening:
            digest = file_sha256(folder / ABOUT)
            found = cls._open.get(digest)
            if found is None:
                found = cls(member_class(_KIND).load(folder))
                cls._open[digest] = found
            return cast(Self, found)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self._member.vector_width)

    @property
    def identity(self) -> str:
        """That of the bi-encoder's vectors."""
        return f"encoded {self._member.vectors_identity()}"

    def of_queries(self, queries: Queries) -> Vectors:
        """The unit vector of each query."""
        asked = [
            (locale, normalise(text))
            for locale, text in zip(queries.locales.tolist(), queries.texts, strict=True)
        ]
        with self._lock:
            found = {key: self._known[key] for key in asked if key in self._known}
        missing = [key for key in dict.fromkeys(asked) if key not in found]
        if missing:
            texts, locales = [key[1] for key in missing], [LOCALES[key[0]] for key in missing]
            vectors = self._member.query_vectors(Queries.of(texts, locales))
            found |= dict(zip(missing, vectors, strict=True))
            self._remember(missing, vectors)
        empty = np.empty((0, self.width), np.float32)
        return np.stack([found[key] for key in asked]) if asked else empty

    def of_products(self, products: Products) -> Vectors:
        """The unit vector of each product."""
        vectors: Vectors = self._member.product_vectors(products)
        return vectors

    def save(self, folder: Path) -> None:
        """Write the bi-encoder's folder."""
        self._member.save(folder / FOLDER)

    def _remember(self, keys: Sequence[tuple[int, str]], vectors: Vectors) -> None:
        with self._lock:
            for key, vector in zip(keys[-_REMEMBERED:], vectors[-_REMEMBERED:], strict=True):
                self._known[key] = vector
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def teachers(folder: Path, train: LabelledPairs, valid: LabelledPairs) -> Teachers:
    """Whether the bi-encoder in `folder` has learned from `train` and chosen on `valid`."""
    about = read_json(folder / ABOUT)
    made = about.get("made") if isinstance(about, dict) else None
    if not isinstance(made, dict):
        return "unknown"
    said = [made.get(side) for side in ("train", "valid")]
    known = [one.get("sha256") if isinstance(one, dict) else None for one in said]
    if None in known:
        return "unknown"
    same = known == [pairs_sha256(train), pairs_sha256(valid)]
    return "the same pairs" if same else "other pairs"

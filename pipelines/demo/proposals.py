"""Intents thought up from products, so that every query has something to find."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.locales import LOCALES
from pipelines.demo.catalogue import Columns
from pipelines.demo.concepts import (
    ADDITIVES,
    BRAND_NAMES,
    DEVICE_TYPES,
    MAX_FEATURES,
    N_TYPES,
    PRODUCT_TYPES,
)
from pipelines.demo.intents import (
    ATTRIBUTE_COLUMNS,
    ATTRIBUTES,
    BRAND_ALONE,
    COMPATIBLE,
    GENERIC,
    INTENT,
    MANY_SENSES,
    MODEL,
    NO_TYPE,
    SENSE_WORDS,
    WITH,
    WITHOUT,
    Intents,
)
from pipelines.demo.options import stream
from pipelines.demo.shelves import Shelves

_SHAPE_SHARES: Final = {
    GENERIC: 0.10, ATTRIBUTES: 0.50, MODEL: 0.07, COMPATIBLE: 0.13,
    WITH: 0.055, WITHOUT: 0.065, BRAND_ALONE: 0.03, MANY_SENSES: 0.05,
}  # fmt: skip
_ATTRIBUTE_COUNT_SHARES: Final = (0.56, 0.34, 0.10)  # of queries by attributes: 1, 2 and 3
_ATTRIBUTE_APPEAL: Final = np.array([1.0, 0.8, 0.8, 0.45, 0.8])  # as in ATTRIBUTE_COLUMNS
_EXTRA_ATTRIBUTE: Final = 0.5  # how often the other shapes name one attribute as well
_NUMBERED: Final = np.array([spec.numbered for spec in PRODUCT_TYPES])
_IS_DEVICE: Final = np.isin(np.arange(N_TYPES), DEVICE_TYPES)
_ALL_FEATURES: Final = np.array([(1 << len(spec.features)) - 1 for spec in PRODUCT_TYPES])
# Bits of the features that people ask for, rather than ask to be spared.
_SELLING: Final = np.array(
    [
        sum(1 << bit for bit, name in enumerate(spec.features) if name not in ADDITIVES)
        for spec in PRODUCT_TYPES
    ]
)


@dataclass(frozen=True)
class Meanings:
    """What customers mean by words that leave the type open: one thing per word and locale."""

    words: NDArray[np.int64]  # by row of SENSE_WORDS: a type
    appeal: NDArray[np.float64]  # (locales, brands, types): a brand means the most appealing

    @classmethod
    def of(cls, seed: int) -> "Meanings":
        """The meanings that a seed leads to."""
        rng = stream(seed, "meanings")
        words = [types[int(rng.integers(len(types)))] for _, _, types in SENSE_WORDS]
        return cls(np.array(words), rng.random((len(LOCALES), len(BRAND_NAMES), N_TYPES)))

    def of_brands(
        self, shelves: Shelves, locales: NDArray[Any], brands: NDArray[Any]
    ) -> NDArray[np.int64]:
        """The type meant by each brand, among those that it makes for the locale."""
        nothing_drawn = np.zeros((len(brands), N_TYPES))
        made = shelves.by_brand.pick(
            locales[:, None], np.arange(N_TYPES), brands[:, None], nothing_drawn
        )
        appeal = np.where(made >= 0, self.appeal[locales, brands], -1)
        return np.asarray(np.argmax(appeal, axis=1))


def propose(
    rng: np.random.Generator, count: int, columns: Columns, shelves: Shelves, meanings: Meanings
) -> Intents:
    """Up to `count` intents of all shapes; fewer where a word means what is not sold."""
    shares = np.array(list(_SHAPE_SHARES.values()))
    shape = rng.choice(np.array(list(_SHAPE_SHARES)), count, p=shares / shares.sum())
    target = rng.integers(0, len(columns), count)
    target, sense = _settle_types(rng, shape, target, columns, shelves, meanings)
    shape, target, sense = (column[target >= 0] for column in (shape, target, sense))

    like = columns[target]
    absent = _ALL_FEATURES[like["type"]] & ~like["features"].astype(np.int64)
    selling = _SELLING[like["type"]] & like["features"]
    # A shape that the target cannot carry falls back to a query by attributes.
    lacks = (
        ((shape == MODEL) & ~_NUMBERED[like["type"]])
        | ((shape == COMPATIBLE) & (like["device"] == 0))
        | ((shape == WITH) & (selling == 0))
        | ((shape == WITHOUT) & (absent == 0))
    )
    intents = np.zeros(len(target), INTENT)
    intents["target"], intents["sense"] = target, sense
    intents["shape"] = np.where(lacks, ATTRIBUTES, shape)
    intents["locale"], intents["type"] = like["locale"], like["type"]
    _name_attributes(rng, intents, like)
    for name, of_shape, values in (
        ("brand", BRAND_ALONE, like["brand"]),
        ("line", MODEL, like["line"]),
        ("device", COMPATIBLE, like["device"]),
        ("wants", WITH, _one_bit(rng, selling)),
        ("avoids", WITHOUT, _one_bit(rng, absent)),
    ):
        here = intents["shape"] == of_shape
        intents[name][here] = values[here]
    return intents


def _settle_types(
    rng: np.random.Generator,
    shape: NDArray[Any],
    target: NDArray[np.int64],
    columns: Columns,
    shelves: Shelves,
    meanings: Meanings,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Target and sense of each query; where words leave the type open, a target that is meant."""
    locale, draws = columns["locale"][target], rng.random(len(target))
    sense = columns["type"][target].astype(np.int64)
    meant = sense.copy()

    word_locales = np.array([word_locale for word_locale, _, _ in SENSE_WORDS])
    many = shape == MANY_SENSES
    for code in range(len(LOCALES)):
        here = many & (locale == code)
        word = rng.choice(np.flatnonzero(word_locales == code), int(here.sum()))
        sense[here], meant[here] = NO_TYPE + 1 + word, meanings.words[word]

    alone, brand = shape == BRAND_ALONE, columns["brand"][target]
    sense[alone] = NO_TYPE
    meant[alone] = meanings.of_brands(shelves, locale[alone], brand[alone])
    target = np.where(many, shelves.by_type.pick(locale, meant, 0, draws), target)
    return np.where(alone, shelves.by_brand.pick(locale, meant, brand, draws), target), sense


def _name_attributes(rng: np.random.Generator, intents: Intents, like: Columns) -> None:
    """Ask for some attributes of the target: as many as the shape of the query calls for."""
    shape = intents["shape"]
    counts = (rng.random(len(shape)) < _EXTRA_ATTRIBUTE).astype(np.int64)
    by_attributes = shape == ATTRIBUTES
    counts[by_attributes] = rng.choice(
        [1, 2, 3], int(by_attributes.sum()), p=_ATTRIBUTE_COUNT_SHARES
    )
    counts[shape == GENERIC] = 0

    has = np.stack([like[name] != 0 for name in ATTRIBUTE_COLUMNS], axis=1)
    # A device names its brand already, and a brand alone is the whole query.
    named = (shape == BRAND_ALONE) | ((shape == COMPATIBLE) & _IS_DEVICE[like["type"]])
    has[named, ATTRIBUTE_COLUMNS.index("brand")] = False
    # Every variant of a line is made of the same.
    has[shape == MODEL, ATTRIBUTE_COLUMNS.index("material")] = False
    # Without replacement, by weight (Efraimidis and Spirakis 2006).
    keys = np.where(has, rng.random(has.shape) ** (1 / _ATTRIBUTE_APPEAL), -1)
    place = np.argsort(np.argsort(-keys, axis=1, kind="stable"), axis=1, kind="stable")
    taken = has & (place < counts[:, None])
    for at, name in enumerate(ATTRIBUTE_COLUMNS):
        intents[name] = np.where(taken[:, at], like[name], 0)


def _one_bit(rng: np.random.Generator, masks: NDArray[Any]) -> NDArray[np.int64]:
    """One of the bits set in each mask; any bit where none is."""
    bits = np.arange(MAX_FEATURES)
    is_set = (masks[:, None].astype(np.int64) >> bits) & 1
    return np.asarray(1 << np.argmax(is_set * rng.random(is_set.shape), axis=1))

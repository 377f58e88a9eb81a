"""What a customer means by a query, and the hidden rule that labels follow from."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import COMPLEMENT, EXACT, IRRELEVANT, SUBSTITUTE, Codes
from pipelines.demo.catalogue import Columns, Plan
from pipelines.demo.concepts import (
    DEVICE_TYPES,
    FAR,
    GOES_WITH,
    N_TYPES,
    NEAR,
    PRODUCT_TYPES,
    RELATIONS,
    SAME,
    SIZE_COUNTS,
    TYPE_OF,
)
from pipelines.demo.words import VOCABULARIES

# The shapes a query may have.
(
    GENERIC,
    ATTRIBUTES,
    MODEL,
    COMPATIBLE,
    WITH,
    WITHOUT,
    BRAND_ALONE,
    MANY_SENSES,
) = range(8)

# An attribute of 0 is one the customer does not care about. Names agree with catalogue.COLUMNS.
INTENT: Final = np.dtype(
    [
        ("target", np.int32),  # the product that the query was thought up from
        ("line", np.int32),
        ("device", np.int16),
        ("sense", np.int16),  # what its words say of the type: a row of SENSES
        ("shape", np.int8),
        ("locale", np.int8),
        ("type", np.int8),  # the type the customer means, whether or not the words say so
        ("brand", np.int8),
        ("colour", np.int8),
        ("size", np.int8),
        ("material", np.int8),
        ("audience", np.int8),
        ("wants", np.uint8),  # feature bits that must be there
        ("avoids", np.uint8),  # feature bits that must not
    ]
)
Intents = NDArray[np.void]
"""Records of INTENT."""

ATTRIBUTE_COLUMNS: Final = ("brand", "colour", "size", "material", "audience")

# Words with several senses, per locale, as rows of SENSES behind those of the types.
SENSE_WORDS: Final = tuple(
    (locale, word, tuple(TYPE_OF[name] for name in names))
    for locale, vocabulary in enumerate(VOCABULARIES)
    for word, names in vocabulary.senses.items()
)
NO_TYPE: Final = N_TYPES  # the words name no type at all


def _senses() -> NDArray[np.bool_]:
    table = np.zeros((N_TYPES + 1 + len(SENSE_WORDS), N_TYPES), bool)
    np.fill_diagonal(table, True)
    for row, (_, _, types) in enumerate(SENSE_WORDS, start=N_TYPES + 1):
        table[row, list(types)] = True
    return table


SENSES: Final = _senses()  # (senses, types): which types a query's words may name
_SIZE_SYSTEMS: Final = np.array(
    [list(SIZE_COUNTS).index(spec.sizes) for spec in PRODUCT_TYPES]
)  # (types,): a size code counts within its system
_IS_DEVICE: Final = np.isin(np.arange(N_TYPES), DEVICE_TYPES)


def _agree(name: str, wanted: Intents, offered: Columns) -> NDArray[np.bool_]:
    """Whether an attribute is the one asked for; shoes in 42 are not a screen of 42 inches."""
    agree = wanted[name] == offered[name]
    if name == "size":
        agree &= _SIZE_SYSTEMS[wanted["type"]] == _SIZE_SYSTEMS[offered["type"]]
    return np.asarray(agree)


def relevance(wanted: Intents, offered: Columns, plan: Plan) -> Codes:
    """The label of each offered product, shapes (queries, 1) and (queries, products).

    - Exact: the type that is meant, and every specification met.
    - Substitute: that type with one or two specifications failed, or a near type with one at most.
    - Complement: a type used together with it, made for the same device where both name one.
    - Irrelevant: the rest, however alike the texts: an accessory for another device among them.
    """
    fails = np.zeros(np.broadcast_shapes(wanted.shape, offered.shape), np.int8)
    for name in (*ATTRIBUTE_COLUMNS, "line"):
        fails += (wanted[name] != 0) & ~_agree(name, wanted, offered)
    # A feature bit means something else on another type.
    same_type = wanted["type"] == offered["type"]
    fails += same_type & ((wanted["wants"] & ~offered["features"]) != 0)
    fails += same_type & ((wanted["avoids"] & offered["features"]) != 0)

    named = (wanted["device"] != 0) & (offered["device"] != 0)
    other_device = named & (wanted["device"] != offered["device"])
    is_device = _IS_DEVICE[wanted["type"]]
    fails += other_device & is_device

    relation = RELATIONS[wanted["type"], offered["type"]]
    labels = np.full(fails.shape, IRRELEVANT, np.int8)
    labels[(relation == NEAR) & (fails <= 1)] = SUBSTITUTE
    same = (relation == SAME) & ~(other_device & ~is_device)
    labels[same & (fails <= 2)] = SUBSTITUTE
    labels[same & (fails == 0)] = EXACT

    # "Zentara smartphone": a case for another maker's phone does not go with any of them.
    other_maker = (
        is_device
        & (wanted["brand"] != 0)
        & (offered["device"] != 0)
        & (plan.device_brands[offered["device"]] != wanted["brand"])
    )
    labels[(relation == GOES_WITH) & ~other_device & ~other_maker] = COMPLEMENT
    return labels


def word_match(wanted: Intents, offered: Columns) -> NDArray[np.float32]:
    """How well a search engine that reads words alone would like each product.

    It takes a case for the Zentara N7 for a good answer to "Zentara N7", and a jacket with a hood
    for one to "jacket without hood": the traps that labels do not fall for.
    """
    relation = RELATIONS[wanted["type"], offered["type"]]
    typed = SENSES[wanted["sense"], offered["type"]]
    spoken = wanted["sense"] != NO_TYPE
    score = np.where(typed, np.float32(2.2), np.float32(0))
    score += np.where(spoken & (relation == NEAR), np.float32(0.9), np.float32(0))
    score += np.where(spoken & (relation == GOES_WITH), np.float32(0.7), np.float32(0))
    score -= np.where(spoken & ~typed & (relation == FAR), np.float32(1.0), np.float32(0))
    for name, weight in (
        ("brand", 0.9), ("colour", 0.5), ("size", 0.6), ("material", 0.4), ("audience", 0.4),
        ("line", 2.0), ("device", 1.5),
    ):  # fmt: skip
        match = (wanted[name] != 0) & _agree(name, wanted, offered)
        score += np.where(match, np.float32(weight), np.float32(0))
    spoken_of = (wanted["wants"] | wanted["avoids"]) & offered["features"]
    score += np.where(typed & (spoken_of != 0), np.float32(0.4), np.float32(0))
    return np.asarray(score, np.float32)


def specificity(intents: Intents) -> NDArray[Any]:
    """How many things each query asks for: tail queries ask for more than head queries."""
    asked = sum((intents[name] != 0).astype(np.int64) for name in ATTRIBUTE_COLUMNS)
    asked = asked + 2 * (intents["line"] != 0) + (intents["device"] != 0)
    return np.asarray(asked + (intents["wants"] != 0) + (intents["avoids"] != 0))

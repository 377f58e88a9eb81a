"""The queries of the demo's log: what customers type, how often, and on which side of the split."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.text import fold
from pipelines.demo.catalogue import Columns, Plan
from pipelines.demo.concepts import DEVICE_TYPES
from pipelines.demo.intents import (
    ATTRIBUTE_COLUMNS,
    ATTRIBUTES,
    BRAND_ALONE,
    COMPATIBLE,
    MANY_SENSES,
    MODEL,
    NO_TYPE,
    SENSE_WORDS,
    WITHOUT,
    Intents,
    specificity,
)
from pipelines.demo.options import DemoOptions, stream
from pipelines.demo.phrasing import ask, phrase, wish
from pipelines.demo.products import model_names
from pipelines.demo.proposals import Meanings, propose
from pipelines.demo.shelves import Shelves
from pipelines.demo.typos import misspell

_QUESTION_SHARE: Final = 0.003
_TRAIN_SHARE: Final = 0.7
# Searches a year of the rarest query, on average: some queries were never searched for.
_SEARCHES_OF_THE_LAST: Final = 1.0
# How far a query strays from the place that its plainness gives it.
_RANK_NOISE: Final = 0.8

_ROUND: Final = 65_536  # proposals at a time
# A round that finds next to nothing new means that the catalogue has no more to ask for.
_MIN_YIELD: Final = 0.01
_DRAWS: Final = 15  # per query, for its wording


@dataclass(frozen=True)
class QueryLog:
    """Every query of the log, the judged ones first."""

    intents: Intents  # (queries,)
    texts: tuple[str, ...]
    sources: tuple[str, ...]  # the official vocabulary
    trains: NDArray[np.bool_]  # (queries,) in train rather than test
    searches: NDArray[np.int64]  # (queries,) over the year
    judged: int

    def __len__(self) -> int:
        return len(self.texts)


def make_queries(options: DemoOptions, plan: Plan, columns: Columns, shelves: Shelves) -> QueryLog:
    """The log's queries: no text twice in a locale, and one side of the split for each text."""
    wanted = options.logged_queries()
    meanings = Meanings.of(options.seed)
    intents: list[Intents] = []
    texts: list[str] = []
    sources: list[str] = []
    trains: list[bool] = []
    seen: set[tuple[int, str]] = set()
    number, found = 0, 1.0
    while len(texts) < wanted and found >= _MIN_YIELD:
        rng = stream(options.seed, "queries", number)
        proposals = propose(rng, min(max(wanted, 64), _ROUND), columns, shelves, meanings)
        kept = []
        worded = _word(rng, proposals, columns, plan, options)
        for row, (locale, (text, source)) in enumerate(
            zip(proposals["locale"].tolist(), worded, strict=True)
        ):
            key = fold(text)
            if (locale, key) not in seen:
                seen.add((locale, key))
                kept.append(row)
                texts.append(text)
                sources.append(source)
                trains.append(_is_train(key, options.seed))
        intents.append(proposals[kept])
        found = len(kept) / max(len(proposals), 1)
        number += 1
    log = np.concatenate(intents)[:wanted]
    # The share of judged queries holds when there are fewer than were asked for.
    judged = max(1, round(len(log) * options.judged_queries() / wanted))
    return QueryLog(
        log,
        tuple(texts[:wanted]),
        tuple(sources[:wanted]),
        np.array(trains[:wanted]),
        _searches(stream(options.seed, "volumes"), log),
        judged,
    )


def _is_train(key: str, seed: int) -> bool:
    """The side of the split: of the folded text alone, so that locales agree on it."""
    digest = blake2b(key.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") < _TRAIN_SHARE * 2**64


def _searches(rng: np.random.Generator, intents: Intents) -> NDArray[np.int64]:
    """Searches of each query: Zipf's law, with the plainer queries towards the head."""
    straying = rng.gumbel(0, _RANK_NOISE, len(intents))
    order = np.argsort(specificity(intents) + straying, kind="stable")
    rank = np.empty(len(intents))
    rank[order] = np.arange(1, len(intents) + 1)
    return rng.poisson(_SEARCHES_OF_THE_LAST * len(intents) / rank)


def _word(
    rng: np.random.Generator, intents: Intents, columns: Columns, plan: Plan, options: DemoOptions
) -> Iterator[tuple[str, str]]:
    """Text and source of each query."""
    # The brand is the line's, whether or not the customer names it.
    brands = columns["brand"][intents["target"]]
    models = model_names(intents["line"], brands, intents["type"], options).to_pylist()
    draws = rng.random((len(intents), _DRAWS)).tolist()
    for intent, model, draw in zip(intents, models, draws, strict=True):
        yield _text(intent, model, draw, plan, options)


def _text(
    intent: Any, model: str, draws: list[float], plan: Plan, options: DemoOptions
) -> tuple[str, str]:
    shape, locale, type_ = int(intent["shape"]), int(intent["locale"]), int(intent["type"])
    is_device = type_ in DEVICE_TYPES
    name: str | None = None
    if shape == MANY_SENSES:
        name = SENSE_WORDS[int(intent["sense"]) - NO_TYPE - 1][1]
    elif (
        shape == BRAND_ALONE
        or (shape == COMPATIBLE and is_device and draws[0] < 0.5)
        or (shape == MODEL and draws[0] < 0.4)
    ):
        name = ""  # the rest says it, or is left to say it
    device = plan.device_names[int(intent["device"])]
    said = wish(
        locale,
        type_,
        {column: int(intent[column]) for column in (*ATTRIBUTE_COLUMNS, "wants", "avoids")},
        name=name,
        # A device is its model; an accessory is made for one.
        model=device if is_device else model if shape == MODEL else "",
        device="" if is_device else device,
        draws=draws[1:4],
    )
    text = phrase(said, draws[4:10])
    if draws[11] < _QUESTION_SHARE:
        return ask(locale, text, draws[10]), "nlqec"
    if draws[11] > 1 - options.typo_share:
        text = misspell(text, *draws[12:15])
    return text, _source(shape, draws[10])


def _source(shape: int, draw: float) -> str:
    """Where the query would have been sampled from, in the official vocabulary."""
    if shape == WITHOUT:
        return "negations"
    if shape in (BRAND_ALONE, MANY_SENSES) and draw < 0.5:
        return "behavioral"
    if shape == ATTRIBUTES and draw < 0.1:
        return "parse_pattern"
    return "other"

"""The demo's search engine: which products come up for a query, whoever looks afterwards.

The judges and the log both see its results, each through draws of their own. No behaviour exists
because a pair was judged, and no pair is judged because somebody clicked on it.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import Codes
from pipelines.demo.catalogue import Columns, Plan
from pipelines.demo.concepts import GOES_WITH, N_TYPES, NEAR, RELATIONS
from pipelines.demo.intents import SENSES, Intents, relevance, word_match
from pipelines.demo.shelves import ProductRows, Shelves

# Products looked up per query, by what they share with the product it was thought up from.
_PICKS: Final = {
    "line": 10, "type": 18, "brand": 18, "colour": 12, "size": 12, "material": 8, "audience": 6,
    "device": 14, "near": 8, "goes_with": 18, "sense": 12, "maker": 8, "locale": 6,
}  # fmt: skip
# What the engine has learnt to like beyond words, in the order of LABELS.
_LEARNT: Final = np.array([1.7, -0.4, 1.2, 0.3], np.float32)
_POPULARITY: Final = np.float32(0.15)

_WIDTH: Final = 4  # the most partner types that a type is given


def _partners(relation: int) -> NDArray[np.int64]:
    """Types that stand in a relation to each type, repeated to one width; -1 where none does."""
    table = np.full((N_TYPES, _WIDTH), -1, np.int64)
    for t in range(N_TYPES):
        if (others := np.flatnonzero(RELATIONS[t] == relation)).size:
            table[t] = np.resize(others, _WIDTH)
    return table


NEAR_TYPES: Final = _partners(NEAR)
PARTNER_TYPES: Final = _partners(GOES_WITH)


@dataclass(frozen=True)
class Results:
    """Candidates per query and what the engine makes of them."""

    rows: ProductRows  # (queries, candidates)
    labels: Codes  # (queries, candidates) the truth, before any annotator errs
    scores: NDArray[np.float32]  # (queries, candidates); -inf where there is no candidate

    def head(self, queries: int) -> "Results":
        """The results of the first queries."""
        return Results(self.rows[:queries], self.labels[:queries], self.scores[:queries])


def retrieve(
    rng: np.random.Generator, intents: Intents, columns: Columns, shelves: Shelves, plan: Plan
) -> Results:
    """Candidates of each query from the whole catalogue, no product twice."""
    rows = np.sort(_candidates(rng, intents, columns, shelves), axis=1)
    none = rows < 0
    none[:, 1:] |= rows[:, 1:] == rows[:, :-1]
    rows = np.maximum(rows, 0)
    wanted, offered = intents[:, None], columns[rows]
    labels = relevance(wanted, offered, plan)
    learnt = _LEARNT[labels] + _POPULARITY * offered["popularity"]
    scores = (word_match(wanted, offered) + learnt).astype(np.float32)
    scores[none] = -np.inf
    return Results(rows, labels, scores)


def _candidates(
    rng: np.random.Generator, intents: Intents, columns: Columns, shelves: Shelves
) -> ProductRows:
    like = columns[intents["target"]][:, None]
    locale, type_ = like["locale"], like["type"].astype(np.int64)

    def draws(what: str) -> NDArray[Any]:
        return rng.random((len(intents), _PICKS[what]))

    # A device that is asked for or that the target is made for.
    device = like["device"]
    sense = intents["sense"]
    found = [
        intents["target"][:, None],
        shelves.by_line.pick(locale, 0, like["line"], draws("line")),
        shelves.by_type.pick(locale, type_, 0, draws("type")),
        shelves.by_brand.pick(locale, type_, like["brand"], draws("brand")),
        shelves.by_colour.pick(locale, type_, like["colour"], draws("colour")),
        shelves.by_size.pick(locale, type_, like["size"], draws("size")),
        shelves.by_material.pick(locale, type_, like["material"], draws("material")),
        shelves.by_audience.pick(locale, type_, like["audience"], draws("audience")),
        shelves.by_device.pick(locale, type_, device, draws("device")),
        shelves.by_maker.pick(locale, 0, like["brand"], draws("maker")),
        shelves.by_locale.pick(locale, 0, 0, draws("locale")),
    ]
    near = _any(rng, NEAR_TYPES[type_[:, 0]], _PICKS["near"])
    found.append(_of_types(shelves.by_type, locale, near, 0, draws("near")))
    partners = _any(rng, PARTNER_TYPES[type_[:, 0]], _PICKS["goes_with"])
    half = _PICKS["goes_with"] // 2
    chance = draws("goes_with")
    found += [
        _of_types(shelves.by_type, locale, partners[:, :half], 0, chance[:, :half]),
        _of_types(shelves.by_device, locale, partners[:, half:], device, chance[:, half:]),
    ]
    # Whatever else the words may mean.
    typed = np.argsort(-(SENSES[sense] * rng.random((len(sense), N_TYPES))), axis=1)[:, :_WIDTH]
    typed = np.where(np.take_along_axis(SENSES[sense], typed, axis=1), typed, -1)
    found.append(
        _of_types(shelves.by_type, locale, _any(rng, typed, _PICKS["sense"]), 0, draws("sense"))
    )
    return np.concatenate(found, axis=1)


def _any(rng: np.random.Generator, table: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many entries of each row, drawn with replacement."""
    at = rng.integers(0, table.shape[1], (len(table), count))
    return np.take_along_axis(table, at, axis=1)


def _of_types(
    shelf: Any, locale: Any, types: NDArray[np.int64], values: Any, draws: NDArray[Any]
) -> ProductRows:
    rows = shelf.pick(locale, np.maximum(types, 0), values, draws)
    return np.where(types >= 0, rows, -1)

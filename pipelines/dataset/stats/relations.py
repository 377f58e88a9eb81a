"""Behaviours and product links: who did what how often, where it concentrates, and what is cold."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.locales import LOCALES
from pipelines.console import Tick
from pipelines.dataset.layout import (
    BEHAVIOUR_RELATIONS,
    BEHAVIOURS_FILE,
    LINK_RELATIONS,
    LINKS_FILE,
)
from pipelines.dataset.stats.graph import Edges
from pipelines.dataset.stats.stream import Codes, Keys, Tally, Vocabulary, among, batches, keys
from pipelines.dataset.stats.summary import (
    ABSENT,
    Amount,
    Behaviours,
    Cold,
    Concentration,
    Links,
    Spread,
)

_CURVE_POINTS: Final = 60
_TOP_SHARE: Final = 0.01

Cells = dict[tuple[int, int, int], tuple[int, float]]
"""Rows and weight by codes of relation and locale, and the month counted from 1970, or -1."""


def read_behaviours(
    folder: Path, judged_queries: Keys, catalogue: Keys, edges: Edges, tick: Tick
) -> Behaviours:
    """Everything counted of the behaviours, in one pass over them; `edges` gets theirs."""
    relations, locales = Vocabulary(BEHAVIOUR_RELATIONS), Vocabulary(LOCALES)
    cells: Cells = {}
    queries, products = Tally(), Tally()
    columns = ("query", "product_id", "product_locale", "relation", "weight", "date")
    for batch in batches(folder / BEHAVIOURS_FILE, columns, tick):
        relation = relations.codes(batch["relation"])
        locale = locales.codes(batch["product_locale"])
        weight = _weights(batch["weight"])
        _add_cells(cells, relation, locale, _months(batch["date"]), weight)
        of_locale = locales.keys()[locale]
        edge = (keys(batch["query"], of_locale), keys(batch["product_id"], of_locale))
        queries.add(edge[0], weight)
        products.add(edge[1])
        edges.add(relations.words, relation, locale, edge, links=False)
    query_keys, query_weights = queries.result()
    product_keys, _ = products.result()
    amounts = [
        Amount(relations.words[relation], locales.words[locale], _month_name(month), rows, weight)
        for (relation, locale, month), (rows, weight) in sorted(cells.items())
    ]
    return Behaviours(
        rows=sum(amount.rows for amount in amounts),
        weight=sum(amount.weight for amount in amounts),
        amounts=amounts,
        concentration=concentration(query_weights),
        cold=Cold(
            len(judged_queries),
            int((~among(judged_queries, query_keys)).sum()),
            len(catalogue),
            int((~among(catalogue, product_keys)).sum()),
        ),
    )


def concentration(weights: NDArray[np.float64]) -> Concentration:
    """How much of the weight the heaviest share of the queries carries."""
    heaviest_first = np.sort(weights)[::-1]
    total, queries = float(heaviest_first.sum()), len(weights)
    if total <= 0:
        return Concentration(queries, 0.0, [], [])
    up_to = np.minimum(np.cumsum(heaviest_first) / total, 1.0)
    ranks = np.unique(np.geomspace(1, queries, _CURVE_POINTS).astype(np.int64))
    return Concentration(
        queries,
        float(up_to[int(np.ceil(queries * _TOP_SHARE)) - 1]),
        (ranks / queries).tolist(),
        up_to[ranks - 1].tolist(),
    )


def read_links(folder: Path, edges: Edges, tick: Tick) -> list[Links]:
    """Links and degrees per relation, in one pass; `edges` gets those of the graph."""
    relations, locales = Vocabulary(LINK_RELATIONS), Vocabulary(LOCALES)
    counts: dict[int, int] = {}
    weights: dict[int, float] = {}
    degrees: dict[int, Tally] = {}
    columns = ("product_id_a", "product_id_b", "product_locale", "relation", "weight")
    for batch in batches(folder / LINKS_FILE, columns, tick):
        relation = relations.codes(batch["relation"])
        locale = locales.codes(batch["product_locale"])
        of_locale = locales.keys()[locale]
        ends = [keys(batch[name], of_locale) for name in columns[:2]]
        edges.add(relations.words, relation, locale, (ends[0], ends[1]), links=True)
        weight = _weights(batch["weight"])
        for code in np.flatnonzero(np.bincount(relation)).tolist():
            chosen = relation == code
            counts[code] = counts.get(code, 0) + int(chosen.sum())
            weights[code] = weights.get(code, 0.0) + float(weight[chosen].sum())
            tally = degrees.setdefault(code, Tally())
            tally.add(np.concatenate([end[chosen] for end in ends]))
    return [
        _links(relations.words[code], counts[code], weights[code], degrees[code])
        for code in sorted(counts)
    ]


def _links(relation: str, links: int, weight: float, degrees: Tally) -> Links:
    degree = degrees.result()[1].astype(np.int64)
    counts = np.bincount(degree)
    powers = np.bincount(np.log2(degree).astype(np.int64)).tolist()
    return Links(
        relation,
        links,
        weight,
        len(degree),
        Spread.of_counts(counts),
        {
            str(low) if (low := 1 << power) == 1 else f"{low}-{2 * low - 1}": products
            for power, products in enumerate(powers)
        },
    )


def _weights(column: pa.Array) -> NDArray[np.float64]:
    weights = np.asarray(column.fill_null(0.0), dtype=np.float64)
    return np.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)


def _months(column: pa.Array) -> Codes:
    """Months since January 1970; -1 without a date or before."""
    days = np.asarray(column.cast(pa.int32()).fill_null(-1), dtype=np.int64)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return np.maximum(months, -1)


def _month_name(month: int) -> str:
    return ABSENT if month < 0 else str(np.datetime64(month, "M"))


def _add_cells(
    cells: Cells, relation: Codes, locale: Codes, month: Codes, weight: NDArray[np.float64]
) -> None:
    if not len(relation):
        return
    shape: Any = (relation.max() + 1, locale.max() + 1, month.max() + 2)
    found, at = np.unique(
        np.ravel_multi_index((relation, locale, month + 1), shape), return_inverse=True
    )
    rows, sums = np.bincount(at), np.bincount(at, weight)
    for cell, cell_rows, cell_weight in zip(
        zip(*np.unravel_index(found, shape), strict=True), rows, sums, strict=True
    ):
        key = (int(cell[0]), int(cell[1]), int(cell[2]) - 1)
        before = cells.get(key, (0, 0.0))
        cells[key] = (before[0] + int(cell_rows), before[1] + float(cell_weight))

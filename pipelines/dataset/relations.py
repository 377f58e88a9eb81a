"""Behaviours and product links of a dataset folder, as columns over its products.

Files stream by in batches. What stays of a row is its numbers, some twenty bytes, and every
distinct query and product id once, so ten million rows cost some hundred megabytes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import DataError
from models.locales import LOCALES, Locale, LocaleCodes
from models.pairs import Products, Queries
from models.surroundings import NO_DAY, Behaviours, Links
from pipelines.console import Tick, silent
from pipelines.dataset.checks.columns import Column, ColumnBuilder
from pipelines.dataset.columns import ASK_VALIDATE, as_arrow, as_texts
from pipelines.dataset.layout import (
    BEHAVIOUR_RELATIONS,
    BEHAVIOURS_FILE,
    LINK_RELATIONS,
    LINKS_FILE,
    SCHEMAS,
)
from pipelines.dataset.stats.stream import Vocabulary, batches

# Held as codes into their distinct values.
_KEYS: Final = frozenset({"query", "product_id", "product_id_a", "product_id_b"})


def read_behaviours(
    folder: Path,
    products: Products,
    *,
    relations: Sequence[str] | None = None,
    locales: Collection[Locale] | None = None,
    tick: Tick = silent,
) -> Behaviours:
    """The behaviours that name one of `products`, in the order of the file, if there is one.

    `relations` and `locales` keep a part of them, and `relations` are the relation names then;
    what they leave out does not count as dropped. `tick` counts the rows of the file.
    """
    path = folder / BEHAVIOURS_FILE
    rows = _read(path, _Relations(relations, BEHAVIOUR_RELATIONS), locales, tick)
    at = _finder(products)(rows.keys["product_id"], rows.locales)
    known = at >= 0
    queries, query_rows = _queries(rows.keys["query"], rows.locales, known)
    return Behaviours(
        queries=queries,
        query_rows=query_rows,
        product_rows=at[known],
        relations=rows.relations[known],
        relation_names=rows.relation_names,
        weights=rows.weights[known],
        days=rows.days[known],
        dropped=int(np.count_nonzero(~known)),
        present=path.is_file(),
    )


def read_links(
    folder: Path,
    products: Products,
    *,
    relations: Sequence[str] | None = None,
    locales: Collection[Locale] | None = None,
    tick: Tick = silent,
) -> Links:
    """The links between two of `products`; everything else is as in `read_behaviours`."""
    path = folder / LINKS_FILE
    rows = _read(path, _Relations(relations, LINK_RELATIONS), locales, tick)
    find = _finder(products)
    a, b = (find(rows.keys[name], rows.locales) for name in ("product_id_a", "product_id_b"))
    known = (a >= 0) & (b >= 0)
    return Links(
        product_rows_a=a[known],
        product_rows_b=b[known],
        relations=rows.relations[known],
        relation_names=rows.relation_names,
        weights=rows.weights[known],
        dropped=int(np.count_nonzero(~known)),
        present=path.is_file(),
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The wanted rows of a file, before anything is known of their products."""

    keys: Mapping[str, Column]
    locales: LocaleCodes
    relations: NDArray[np.int16]
    relation_names: tuple[str, ...]
    weights: NDArray[np.float32]
    days: NDArray[np.int32]


class _Relations:
    """The relations that are wanted: those given, or whatever comes behind the usual ones."""

    def __init__(self, wanted: Sequence[str] | None, usual: Sequence[str]) -> None:
        self._vocabulary = Vocabulary(usual if wanted is None else wanted)
        self._wanted = None if wanted is None else len(wanted)

    def codes(self, column: pa.DictionaryArray) -> NDArray[np.int64]:
        """The position of each row's relation among the names; -1 where it is not wanted."""
        codes = self._vocabulary.codes(column)
        return codes if self._wanted is None else np.where(codes < self._wanted, codes, -1)

    def names(self) -> tuple[str, ...]:
        """The names that positions stand for."""
        return tuple(self._vocabulary.words[: self._wanted])


def _read(
    path: Path, relations: _Relations, locales: Collection[Locale] | None, tick: Tick
) -> _Rows:
    wanted = np.array([locales is None or locale in locales for locale in LOCALES])
    names = SCHEMAS[path.name].names
    builders = {name: ColumnBuilder() for name in names if name in _KEYS}
    kinds = {"locale": np.int8, "relation": np.int16, "weight": np.float32, "date": np.int32}
    parts: dict[str, list[NDArray[Any]]] = {
        name: [np.empty(0, kind)] for name, kind in kinds.items()
    }
    for batch in _batches(path, names, tick):
        columns = {
            "locale": _locale_codes(batch["product_locale"], path),
            "relation": relations.codes(batch["relation"]),
            "weight": np.asarray(batch["weight"]),
        }
        if "date" in batch:
            columns["date"] = np.asarray(batch["date"].view(pa.int32()).fill_null(NO_DAY))
        kept = wanted[columns["locale"]] & (columns["relation"] >= 0)
        for name, column in columns.items():
            parts[name].append(column[kept].astype(kinds[name], copy=False))
        for name, builder in builders.items():
            builder.append(Column.of(batch[name].filter(pa.array(kept))))
    whole = {name: np.concatenate(part) for name, part in parts.items()}
    return _Rows(
        {name: _build(builder, len(whole["locale"])) for name, builder in builders.items()},
        whole["locale"],
        whole["relation"],
        relations.names(),
        whole["weight"],
        whole["date"],
    )


def _build(builder: ColumnBuilder, rows: int) -> Column:
    if not rows:
        return Column(np.empty(0, np.int32), pa.array([], pa.large_string()))
    column = builder.build()
    return Column(column.codes, column.values.cast(pa.large_string()))


def _batches(path: Path, names: Sequence[str], tick: Tick) -> Iterator[dict[str, Any]]:
    """The batches of the file, if there is one, each without nulls save for dates."""
    if not path.is_file():
        return
    start = 0
    for batch in batches(path, names, tick):
        for name in names:
            if name != "date" and batch[name].null_count:
                row = start + _first(batch[name].is_null())
                raise DataError(f"{path} row {row} has no {name}; {ASK_VALIDATE}")
        weights = batch["weight"]
        sound = pc.and_(pc.is_finite(weights), pc.greater_equal(weights, 0))
        if not pc.all(sound, min_count=0).as_py():
            row = _first(pc.invert(sound))
            raise DataError(
                f"{path} row {start + row} has weight {weights[row].as_py()}; "
                f"expected a finite number of zero or more; {ASK_VALIDATE}"
            )
        yield batch
        start += len(weights)


def _first(flags: pa.Array) -> int:
    return int(np.flatnonzero(np.asarray(flags))[0])


def _locale_codes(column: pa.DictionaryArray, path: Path) -> NDArray[np.int64]:
    vocabulary = Vocabulary(LOCALES)
    codes = vocabulary.codes(column)
    if len(codes) and codes.max() >= len(LOCALES):
        found = vocabulary.words[int(codes.max())]
        raise DataError(
            f"{path} holds locale {found!r}; expected one of {', '.join(LOCALES)}; {ASK_VALIDATE}"
        )
    return codes


def _finder(products: Products) -> Callable[[Column, LocaleCodes], NDArray[np.int32]]:
    """What gives each row, from its id and locale, its row among `products`; -1 where it has none.

    A table of ids by locales, as few ids are sold in more than one, takes twelve bytes per id.
    """
    ids = Column.of(as_arrow(products.ids))
    rows = np.full((len(ids.values) + 1, len(LOCALES)), -1, np.int32)  # the last for no such id
    rows[ids.codes, products.locales] = np.arange(len(products))

    def find(column: Column, locales: LocaleCodes) -> NDArray[np.int32]:
        places = pc.index_in(column.values, value_set=ids.values).fill_null(-1)
        found: NDArray[np.int32] = rows[np.asarray(places)[column.codes], locales]
        return found

    return find


def _queries(
    texts: Column, locales: LocaleCodes, chosen: NDArray[np.bool_]
) -> tuple[Queries, NDArray[np.int32]]:
    """The distinct queries of the chosen rows, and each such row's query."""
    keys = texts.codes[chosen].astype(np.int64) * len(LOCALES) + locales[chosen]
    used = np.zeros(len(texts.values) * len(LOCALES), bool)
    used[keys] = True
    row_of = np.cumsum(used, dtype=np.int32) - 1
    text, locale = np.divmod(np.flatnonzero(used), len(LOCALES))
    queries = Queries(as_texts(texts.values.take(pa.array(text))), locale.astype(np.int8))
    return queries, row_of[keys].astype(np.int32)

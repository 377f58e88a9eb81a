"""Generating a demo catalogue: a whole dataset, from a seed and a size.

How it keeps to bounded memory and to one outcome:

- Products are drawn as small integers (`catalogue`) and held as such, some thirty bytes each
  and about as many again to find them by. Queries are held too, with their texts: there are a
  fifth as many. Everything else, above all product texts, judgements and behaviours, is made for
  one chunk at a time and written.
- Every chunk of every stage draws from a stream of its own, keyed by seed, stage and number of the
  chunk, and chunks have one fixed size. So no outcome depends on threads, on hash randomisation, or
  on what another stage drew.
- `shelves` finds products by what they are (all phone cases for one phone, all variants of a
  line), so a query's candidates come from the whole catalogue however large it is, without a scan.

What follows from what:

- A query is thought up from a product: some of its attributes become what the customer means
  (`intents`), put into words, sometimes misspelt (`queries`, `phrasing`, `typos`).
- The label of any pair follows from intent and product by one hidden rule (`intents.relevance`).
- A search engine that reads words and is partly right (`retrieval`) finds candidates. Judges
  (`judgements`) and customers (`behaviours`) look at its results independently of each other.
- Labels come in about the shares of ESCI (exact 62 %, substitute 23 %, complement 4 %, irrelevant
  11 % of the default size), and test has fewer exact ones than train, as there.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.labels import LABELS
from models.locales import LOCALES
from pipelines.console import Tick, silent
from pipelines.dataset.layout import (
    BEHAVIOUR_RELATIONS,
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINK_RELATIONS,
    LINKS_FILE,
    PRODUCTS_FILE,
    SOURCES_FILE,
    SPLITS,
)
from pipelines.dataset.write import DatasetWriter, dataset_writer
from pipelines.demo.behaviours import browse
from pipelines.demo.catalogue import Columns, Plan, make_catalogue, make_plan, product_ids
from pipelines.demo.judgements import is_hard, judge
from pipelines.demo.links import link
from pipelines.demo.options import CHUNK_PRODUCTS, CHUNK_QUERIES, DemoOptions, chunks, stream
from pipelines.demo.products import product_texts
from pipelines.demo.queries import QueryLog, make_queries
from pipelines.demo.retrieval import Results, retrieve
from pipelines.demo.shelves import Shelves

__all__ = ["DemoOptions", "DemoSummary", "generate"]

_FIRST_DAY: Final = date(2025, 1, 1)
_EPOCH_DAYS: Final = (_FIRST_DAY - date(1970, 1, 1)).days


@dataclass(frozen=True)
class DemoSummary:
    """What was generated."""

    options: DemoOptions
    rows: dict[str, int]  # by file of the layout
    products: dict[str, int]  # by locale
    pairs: dict[str, int]  # by label, as judged
    queries: int  # judged
    unjudged_queries: int  # in the log only
    small_queries: int
    cold_products: int  # never shown to anyone
    cold_queries: int  # never searched for


def generate(folder: Path, options: DemoOptions, tick: Tick = silent) -> DemoSummary:
    """Write the catalogue of `options` to `folder`, replacing what is there.

    Equal options lead to equal tables. `tick` hears of `options.steps()` units of work at most:
    fewer where a tiny catalogue has no more queries to offer.
    """
    plan = make_plan(options)
    columns = make_catalogue(options, plan)
    shelves = Shelves(columns)
    with dataset_writer(folder) as writer:
        for _, first, stop in chunks(len(columns), CHUNK_PRODUCTS):
            writer.append(PRODUCTS_FILE, product_texts(columns[first:stop], plan, options))
            tick(stop - first)
        log = make_queries(options, plan, columns, shelves)
        pass_ = _Queries(writer, options, plan, columns, shelves, log)
        for number, first, stop in chunks(len(log), CHUNK_QUERIES):
            pass_.write(number, first, stop)
            tick(stop - first)
        for number, first, stop in chunks(len(columns), CHUNK_PRODUCTS):
            rng = stream(options.seed, "links", number)
            a, b, relations, weights = link(rng, first, stop, columns, shelves)
            writer.append(
                LINKS_FILE,
                {
                    "product_id_a": _ids(columns, a, options),
                    "product_id_b": _ids(columns, b, options),
                    "product_locale": _named(LOCALES, columns["locale"][a]),
                    "relation": _named(LINK_RELATIONS, relations),
                    "weight": weights.astype(np.float32),
                },
            )
            tick(stop - first)
        rows = dict(writer.rows)
    per_locale = np.bincount(columns["locale"], minlength=len(LOCALES)).tolist()
    return DemoSummary(
        options=options,
        rows=rows,
        products=dict(zip(LOCALES, per_locale, strict=True)),
        pairs=dict(zip(LABELS, pass_.labels.tolist(), strict=True)),
        queries=log.judged,
        unjudged_queries=len(log) - log.judged,
        small_queries=pass_.small,
        cold_products=int((~pass_.shown).sum()),
        cold_queries=int((log.searches == 0).sum()),
    )


def _named(names: tuple[str, ...], codes: NDArray[Any]) -> pa.Array:
    """The name of each code; one string per name is held, however many rows there are."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(names))


def _ids(columns: Columns, rows: NDArray[np.int64], options: DemoOptions) -> pa.Array:
    return pa.array(product_ids(columns["item"][rows], options.seed).astype(str))


class _Queries:
    """Writes what is about queries, chunk by chunk, and counts what it wrote."""

    def __init__(
        self,
        writer: DatasetWriter,
        options: DemoOptions,
        plan: Plan,
        columns: Columns,
        shelves: Shelves,
        log: QueryLog,
    ) -> None:
        self._writer, self._options, self._plan = writer, options, plan
        self._columns, self._shelves, self._log = columns, shelves, log
        rank = np.argsort(np.argsort(-log.searches, kind="stable"), kind="stable")
        self._headness = 1 - rank / len(log)
        self._examples = 0
        self.labels = np.zeros(len(LABELS), np.int64)
        self.small = 0
        self.shown = np.zeros(len(columns), bool)

    def write(self, number: int, first: int, stop: int) -> None:
        """Write judgements, sources and behaviours of the queries from `first` to `stop`."""
        seed, log = self._options.seed, self._log
        results = retrieve(
            stream(seed, "retrieval", number),
            log.intents[first:stop],
            self._columns,
            self._shelves,
            self._plan,
        )
        texts = pa.array(log.texts[first:stop])
        if first < log.judged:
            judged = results.head(log.judged - first)
            self._write_judgements(stream(seed, "judgements", number), judged, first, texts)
        self._write_behaviours(stream(seed, "log", number), results, first, texts)

    def _write_judgements(
        self, rng: np.random.Generator, results: Results, first: int, texts: pa.Array
    ) -> None:
        count, log = len(results.rows), self._log
        headness = self._headness[first : first + count]
        trains = log.trains[first : first + count]
        queries, products, labels = judge(rng, results, headness, trains, self._options.label_noise)
        small = is_hard(queries, labels, count)
        self._writer.append(
            EXAMPLES_FILE,
            {
                "example_id": self._examples + np.arange(len(queries)),
                "query": texts.take(pa.array(queries)),
                "query_id": first + queries,
                "product_id": _ids(self._columns, products, self._options),
                "product_locale": _named(LOCALES, self._columns["locale"][products]),
                "esci_label": _named(LABELS, labels),
                "small_version": small[queries].astype(np.int64),
                "large_version": np.ones(len(queries), np.int64),
                "split": _named(SPLITS, np.where(log.trains[first + queries], 0, 1)),
            },
        )
        self._writer.append(
            SOURCES_FILE,
            {
                "query_id": first + np.arange(count),
                "source": log.sources[first : first + count],
            },
        )
        self._examples += len(queries)
        self.labels += np.bincount(labels, minlength=len(LABELS))
        self.small += int(small.sum())

    def _write_behaviours(
        self, rng: np.random.Generator, results: Results, first: int, texts: pa.Array
    ) -> None:
        searches = self._log.searches[first : first + len(results.rows)]
        pages = browse(rng, results, self._columns, searches)
        self.shown[pages.products] = True
        rows, relations, weights = pages.flatten()
        products = pages.products[rows]
        days = _EPOCH_DAYS + pages.days[rows]
        self._writer.append(
            BEHAVIOURS_FILE,
            {
                "query": texts.take(pa.array(pages.queries[rows])),
                "product_id": _ids(self._columns, products, self._options),
                "product_locale": _named(LOCALES, self._columns["locale"][products]),
                "relation": _named(BEHAVIOUR_RELATIONS, relations),
                "weight": weights.astype(np.float32),
                "date": days.astype("datetime64[D]"),
            },
        )

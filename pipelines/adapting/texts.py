"""The unlabelled texts of a dataset: its catalogue, and queries that no test will ask."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError, MissingDataError
from models.language.metric.masks import title_codes
from models.locales import LOCALES
from models.pairs import Pairs, Products
from models.text import fold
from models.texts import Texts
from pipelines.adapting.config import AdaptConfig
from pipelines.dataset.read import read_catalogue, read_judgements
from pipelines.split import held_out, official_split

_QUERY: Final = "query"


@dataclass(frozen=True, eq=False)
class UnlabelledTexts:
    """What teaches, and what is held out to measure how much was learned."""

    products: Products
    queries: Texts
    measured_products: Products
    measured_queries: Texts

    def all_texts(self) -> Iterator[str]:
        """Queries and titles of those that teach, for a tokenizer that is made on the spot."""
        yield from self.queries
        yield from self.products.title


def gather_texts(data: Path, log: Path | None, config: AdaptConfig) -> UnlabelledTexts:
    """The products of `data` and its training queries, with those of the query log `log` if any.

    Queries of the test split are left out, whoever asked them in training too, and so are those
    that a training with the same seed and validation share chooses on. A query log is taken as it
    is, but for the held-out queries: whoever gives one knows what may be learned from it.
    """
    catalogue = read_catalogue(data)
    if config.locales is not None:
        wanted = [LOCALES.index(locale) for locale in config.locales]
        catalogue = catalogue.take(np.flatnonzero(np.isin(catalogue.locales, wanted)))
    measured = _measured(catalogue, config)

    judgements = read_judgements(data, locales=config.locales)
    train = judgements.take(official_split(judgements).train).pairs
    is_held = held_out(train, config.validation, config.seed)
    measured_queries = _query_texts(train.take(np.flatnonzero(is_held)))
    logged = list(read_query_log(log)) if log else []
    queries = _distinct([*_query_texts(train), *logged], without=measured_queries)
    texts = UnlabelledTexts(
        products=catalogue.take(np.flatnonzero(~measured)),
        queries=Texts.of(queries),
        measured_products=catalogue.take(np.flatnonzero(measured)),
        measured_queries=Texts.of(_distinct(measured_queries, without=())),
    )
    if not len(texts.products) and not len(texts.queries):
        raise DataError(f"{data} has no text to learn from; check the key locales")
    return texts


def read_query_log(path: Path) -> Texts:
    """The queries of a log: Parquet with a column `query`, or plain text with one per line."""
    if not path.is_file():
        raise MissingDataError(f"{path} is no file; expected a query log, Parquet or text")
    if path.suffix != ".parquet":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text in UTF-8: {error}; convert it first") from error
        return Texts.of(line for line in lines if line.strip())
    try:
        names = pq.read_schema(path).names
        if _QUERY not in names:
            raise DataError(f"{path} has no column {_QUERY!r}; it has {', '.join(names)}")
        column = pq.read_table(path, columns=[_QUERY]).column(_QUERY).unique()
        return Texts.of(text for text in column.to_pylist() if isinstance(text, str))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _measured(catalogue: Products, config: AdaptConfig) -> NDArray[np.bool_]:
    """Which products are held out: whole titles, for a catalogue lists many a product twice."""
    titles = title_codes(catalogue)
    count = min(config.measured_products, len(catalogue) // 10)
    distinct = int(titles.max(initial=-1)) + 1
    order = np.random.default_rng(config.seed).permutation(distinct)
    sizes = np.bincount(titles, minlength=distinct)[order]
    chosen = order[: int(np.searchsorted(np.cumsum(sizes), count, side="right"))]
    return np.isin(titles, chosen)


def _query_texts(pairs: Pairs) -> list[str]:
    return list(pairs.queries.texts.take(np.unique(pairs.query_rows)))


def _distinct(texts: Iterable[str], *, without: Iterable[str]) -> list[str]:
    """The texts that differ by more than case, the first of each, in their order."""
    seen = {fold(text) for text in without}
    kept = []
    for text in texts:
        if (folded := fold(text)) and folded not in seen:
            seen.add(folded)
            kept.append(text)
    return kept

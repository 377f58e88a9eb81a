"""`compute_stats`: a dataset folder to its figures, each file read once."""

from pathlib import Path

import pyarrow.parquet as pq

from models.errors import MissingDataError
from pipelines.console import Tick
from pipelines.dataset.layout import BEHAVIOURS_FILE, LINKS_FILE, SCHEMAS, is_dataset
from pipelines.dataset.stats.graph import Edges
from pipelines.dataset.stats.pairs import judged_per_query, read_pairs, slices, unseen_in_test
from pipelines.dataset.stats.products import read_products
from pipelines.dataset.stats.relations import read_behaviours, read_links
from pipelines.dataset.stats.stream import among, distinct
from pipelines.dataset.stats.summary import DatasetStats


def compute_stats(folder: Path, tick: Tick) -> DatasetStats:
    """The figures of the dataset in `folder`; `tick` is told of rows, as `count_rows` counts them.

    Memory grows with the pairs (some twenty bytes each), with behaviours and links (sixteen) and
    the distinct products and queries (eight), not with the texts. Trouble in single rows is counted
    along, not refused: `esci data validate` is for that.
    """
    if not is_dataset(folder):
        raise MissingDataError(
            f"{folder} is no dataset folder; expected the official ESCI layout: make one with "
            "`esci data demo`, `esci data import` or `esci data fetch`"
        )
    products = read_products(folder, tick)
    pairs, queries = read_pairs(folder, tick)
    every_slice, shifts = slices(pairs)
    behaviours = links = None
    edges = Edges()
    if (folder / BEHAVIOURS_FILE).is_file():
        judged = distinct(pairs.queries)
        behaviours = read_behaviours(folder, judged, products.keys, edges, tick)
    if (folder / LINKS_FILE).is_file():
        links = read_links(folder, edges, tick)
    return DatasetStats(
        folder=str(folder),
        rows={
            name: pq.read_metadata(folder / name).num_rows
            for name in SCHEMAS
            if name.endswith(".parquet") and (folder / name).is_file()
        },
        slices=every_slice,
        shifts=shifts,
        judged=judged_per_query(pairs),
        unseen=unseen_in_test(pairs),
        judged_in_catalogue=int(among(distinct(pairs.products), products.keys).sum()),
        catalogues=products.catalogues,
        brands=products.brands,
        top_brands=products.top_brands,
        queries=queries,
        behaviours=behaviours,
        links=links,
        graphs=edges.graphs(products.catalogues, products.keys),
    )

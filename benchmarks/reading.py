"""Reading a dataset into columns of pairs, against the plain pandas way.

    python -m benchmarks.reading DATASET [--repeats N]

Ours gives the judged pairs over the products they name, and the catalogue; pandas reads both files
and merges the product's texts into every pair. Each run is a process of its own, in turn.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.process import peak_mebibytes, run_module
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCTS_FILE

WAYS = ("ours", "pandas")


def read_ours(folder: Path) -> int:
    """Pairs over shared tables of queries and products."""
    from pipelines.dataset.read import read_catalogue, read_judgements

    catalogue, judgements = read_catalogue(folder), read_judgements(folder)
    return len(catalogue) + len(judgements)


def read_pandas(folder: Path) -> int:
    """A frame with the texts in every row."""
    import pandas as pd

    products = pd.read_parquet(folder / PRODUCTS_FILE)
    examples = pd.read_parquet(folder / EXAMPLES_FILE)
    merged = examples.merge(products, on=["product_id", "product_locale"], how="left")
    return len(products) + len(merged)


def measure(way: str, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of this process."""
    started = time.perf_counter()
    rows = {"ours": read_ours, "pandas": read_pandas}[way](folder)
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": seconds, "mebibytes": peak_mebibytes()}


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(measure(asked.run, asked.dataset)))
        return
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(asked.repeats):
        for way in WAYS:
            runs[way].append(run_module("benchmarks.reading", asked.dataset, "--run", way))
    middle = {
        way: {key: statistics.median(run[key] for run in runs[way]) for key in runs[way][0]}
        for way in WAYS
    }
    rows = [
        f"{pq.read_metadata(asked.dataset / name).num_rows:,} {what}"
        for name, what in ((PRODUCTS_FILE, "products"), (EXAMPLES_FILE, "pairs"))
    ]
    print(f"`python -m benchmarks.reading {' '.join(sys.argv[1:])}`\n")
    print(
        f"{', '.join(rows)}; {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; median of {asked.repeats}, in turn\n"
    )
    print("| way | seconds | rows per second | peak MiB |")
    print("|---|---:|---:|---:|")
    for way, found in middle.items():
        rate = found["rows"] / found["seconds"]
        print(f"| {way} | {found['seconds']:.1f} | {rate:,.0f} | {found['mebibytes']:,.0f} |")
    ours, pandas = middle["ours"], middle["pandas"]
    print(
        f"| pandas ÷ ours | {pandas['seconds'] / ours['seconds']:.1f} × | "
        f"| {pandas['mebibytes'] / ours['mebibytes']:.1f} × |"
    )


if __name__ == "__main__":
    main()

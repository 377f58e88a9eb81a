"""Validating a million products and two million pairs, against the plain pandas way.

    python -m benchmarks.validate [--data DIR] [--products N] [--pairs N] [--repeats N]

Both ways run in a process of their own, in turn, over the same folder, and must count the same rows
under the same codes. Without --data the folder is made with numpy: texts of catalogue length, one
query in six beyond ASCII, and a handful of every trouble.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.process import peak_mebibytes, run_module
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCT_COLUMNS, PRODUCTS_FILE
from pipelines.dataset.write import ROW_GROUP_ROWS, dataset_writer

WAYS = ("arrow", "pandas")
LOCALES = np.array(["us", "es", "jp"])
WORDS = 4_000


def main() -> None:
    """Run both ways and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="a dataset folder; made with numpy if not given")
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(_measure(asked.run, asked.data)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.data or Path(scratch) / "data"
        if asked.data is None:
            make_data(folder, asked.products, asked.pairs)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(asked.repeats):  # in turn, so that a busy machine slows both alike
            for way in WAYS:
                runs[way].append(run_module("benchmarks.validate", "--run", way, "--data", folder))
        _print(folder, runs, asked)


def _measure(way: str, folder: Path) -> dict[str, Any]:
    if way == "arrow":
        from pipelines.dataset.validate import ValidateOptions, validate

        started, worked = time.perf_counter(), time.process_time()
        report = validate(folder, ValidateOptions())
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        counts: dict[str, int] = {}
        for finding in report.findings:
            if finding.rows:
                counts[finding.code] = counts.get(finding.code, 0) + finding.count
    else:
        import pandas as _  # noqa: F401  # the import is not part of the work

        started, worked = time.perf_counter(), time.process_time()
        counts = validate_with_pandas(folder)
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {"seconds": seconds, "cpu": cpu, "mebibytes": peak_mebibytes(), "counts": counts}


def _print(folder: Path, runs: dict[str, list[dict[str, Any]]], asked: argparse.Namespace) -> None:
    counts = {way: runs[way][0]["counts"] for way in WAYS}
    if counts["arrow"] != counts["pandas"]:
        sys.exit(f"the two ways disagree:\n{counts['arrow']}\n{counts['pandas']}")
    rows = {
        name: pq.read_metadata(folder / name).num_rows for name in (PRODUCTS_FILE, EXAMPLES_FILE)
    }
    seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
    cpu = {way: statistics.median(run["cpu"] for run in runs[way]) for way in WAYS}
    memory = {way: statistics.median(run["mebibytes"] for run in runs[way]) for way in WAYS}
    megabytes = sum((folder / name).stat().st_size for name in rows) / 1e6
    print(f"`{' '.join(['python -m benchmarks.validate', *sys.argv[1:]])}`  ")
    print(
        f"{rows[PRODUCTS_FILE]:,} products, {rows[EXAMPLES_FILE]:,} pairs, {megabytes:,.0f} MB of "
        f"Parquet; {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, pyarrow {pa.__version__}; median of {asked.repeats}  "
    )
    print(f"Rows in trouble, alike in both: {json.dumps(counts['arrow'], sort_keys=True)}\n")
    print("| way | seconds | of processor | rows per second | peak MiB |")
    print("|---|---:|---:|---:|---:|")
    for way in WAYS:
        rate = sum(rows.values()) / seconds[way]
        print(f"| {way} | {seconds[way]:.1f} | {cpu[way]:.1f} | {rate:,.0f} | {memory[way]:,.0f} |")
    print(
        f"| pandas ÷ arrow | {seconds['pandas'] / seconds['arrow']:.1f} × "
        f"| {cpu['pandas'] / cpu['arrow']:.1f} × | | "
        f"{memory['pandas'] / memory['arrow']:.1f} × |"
    )


def validate_with_pandas(folder: Path) -> dict[str, int]:
    """The same checks as an analyst would write them."""
    import pandas as pd

    from models.text import fold, normalise

    products = pd.read_parquet(folder / PRODUCTS_FILE)
    examples = pd.read_parquet(folder / EXAMPLES_FILE)
    found: dict[str, int] = {}

    def add(code: str, flags: "pd.Series[bool]") -> None:
        if rows := int(flags.sum()):
            found[code] = found.get(code, 0) + rows

    limits = {"query": 1_000, "product_id": 100, "product_title": 2_000}
    limits |= {"product_description": 100_000, "product_bullet_point": 100_000}
    limits |= {"product_brand": 1_000, "product_color": 1_000}
    for frame in (products, examples):
        for name in frame.columns:
            if name not in PRODUCT_COLUMNS.values():
                add("null_value", frame[name].isna())
            if name in limits:
                add("overlong_text", frame[name].str.len() > limits[name])
    for name, frame in (("query", examples), ("product_id", examples), ("product_id", products)):
        texts = frame[name].dropna()
        is_blank = {text: not normalise(text) for text in texts.unique()}
        add("blank_value", texts.map(is_blank))
        add("control_character", texts.str.contains(r"[\x00-\x1f\x7f]") & ~texts.map(is_blank))
    for frame in (products, examples):
        add("unknown_locale", ~frame["product_locale"].isin(LOCALES))
    add("unknown_label", ~examples["esci_label"].isin(list("ESCI")))
    add("unknown_split", ~examples["split"].isin(["train", "test"]))
    for name in ("small_version", "large_version"):
        add("unknown_flag", ~examples[name].isin([0, 1]))

    titles = products["product_title"].fillna("")
    untitled = products[[not normalise(text) for text in titles]]
    texts = untitled[list(PRODUCT_COLUMNS.values())].fillna("")
    silent = pd.Series(
        [not any(normalise(text) for text in row) for row in texts.itertuples(index=False)],
        dtype=bool,
    )
    add("product_without_text", silent)
    add("product_without_title", ~silent)
    key = ["product_id", "product_locale"]
    add("repeated_product", products.duplicated(key))
    first = products.groupby("product_id")["product_locale"].transform("first")
    add("product_id_in_several_locales", products["product_locale"] != first)

    add("repeated_example_id", examples.duplicated("example_id"))
    joined = examples[key].merge(
        products[key].drop_duplicates(), on=key, how="left", indicator=True
    )
    add("absent_product", joined["_merge"] == "left_only")

    distinct = examples["query"].unique()
    examples["normal"] = examples["query"].map({text: normalise(text) for text in distinct})
    examples["folded"] = examples["query"].map({text: fold(text) for text in distinct})
    pair = ["normal", *key]
    first = examples.groupby(pair)["esci_label"].transform("first")
    conflict = examples["esci_label"] != first
    add("conflicting_pair", conflict)
    add("repeated_pair", examples.duplicated(pair) & ~conflict)

    train = examples["split"] == "train"
    tested = examples[examples["split"] == "test"]
    by_id = train & examples["query_id"].isin(tested["query_id"])
    add("query_id_in_two_splits", by_id)
    add("query_text_in_two_splits", train & examples["folded"].isin(tested["folded"]) & ~by_id)
    for code, group, value in (
        ("query_id_with_several_texts", "query_id", "folded"),
        ("query_text_with_several_ids", "folded", "query_id"),
        ("query_id_in_several_locales", "query_id", "product_locale"),
    ):
        first = examples.groupby(group)[value].transform("first")
        add(code, examples[value] != first)
    return found


def make_data(folder: Path, products: int, pairs: int) -> None:
    """A sound dataset of that size with a handful of every trouble, written in batches."""
    rng = np.random.default_rng(7)
    words = _words(rng)
    queries = max(pairs // 12, 1)
    with dataset_writer(folder) as writer:
        for start in range(0, products, ROW_GROUP_ROWS):
            rows = np.arange(start, min(start + ROW_GROUP_ROWS, products))
            writer.append(PRODUCTS_FILE, _product_rows(rng, words, rows))
        for start in range(0, pairs, ROW_GROUP_ROWS):
            rows = np.arange(start, min(start + ROW_GROUP_ROWS, pairs))
            writer.append(EXAMPLES_FILE, _example_rows(rng, words, rows, queries, products))


def _words(rng: np.random.Generator) -> pa.Array:
    """Words of the three locales: the last sixth has accents or is Japanese."""
    letters = list("aeioubcdfghlmnprst")
    latin = ["".join(rng.choice(letters, rng.integers(3, 10))) for _ in range(WORDS * 5 // 6)]
    kana = [chr(code) for code in range(0x30A2, 0x30F0)]
    beyond = ["".join(rng.choice(kana, rng.integers(2, 6))) for _ in range(WORDS // 12)]
    accented = [word.replace("a", "á").replace("n", "ñ") + "ó" for word in latin[: WORDS // 12]]
    return pa.array([*latin, *accented, *beyond])


def _phrases(rng: np.random.Generator, words: pa.Array, rows: int, length: int) -> pa.Array:
    drawn = [words.take(pa.array(rng.integers(0, len(words), rows))) for _ in range(length)]
    return pc.binary_join_element_wise(*drawn, " ")


def _numbered(prefix: str, numbers: np.ndarray[Any, Any]) -> pa.Array:
    texts = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), texts, "")


def _some(rng: np.random.Generator, texts: pa.Array, share: float) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(texts)) < share), texts, None)


def _product_rows(
    rng: np.random.Generator, words: pa.Array, rows: np.ndarray[Any, Any]
) -> pa.Table:
    titles = _phrases(rng, words, len(rows), 10)
    titled = rows % 100_000 != 17
    return pa.table(
        {
            # Every 50,000th is a product of before again; locale and id go together.
            "product_id": _numbered("B", np.where(rows % 50_000 == 49_999, rows - 1, rows)),
            "product_title": pc.if_else(pa.array(titled), titles, None),
            "product_description": _some(rng, _phrases(rng, words, len(rows), 60), 0.5),
            "product_bullet_point": _some(rng, _phrases(rng, words, len(rows), 50), 0.8),
            "product_brand": _some(rng, _phrases(rng, words, len(rows), 1), 0.95),
            "product_color": _some(rng, _phrases(rng, words, len(rows), 1), 0.6),
            "product_locale": pa.array(LOCALES[rows // 7 % 3]),
        }
    )


def _example_rows(
    rng: np.random.Generator,
    words: pa.Array,
    rows: np.ndarray[Any, Any],
    queries: int,
    products: int,
) -> pa.Table:
    query = np.minimum(rows // 12, queries - 1)
    locale = query % 3
    # Seven products in a row are of one locale: one of the query's own.
    product = rng.integers(0, max(products // 21, 1), len(rows)) * 21 + locale * 7
    product += rng.integers(0, 7, len(rows))
    product[rows % 100_000 == 99_999] += products  # absent
    # The text follows from the number of the query, whichever batch it is in, and is its own.
    wrapped = query // len(words) * 7
    parts = [words.take(pa.array(n % len(words))) for n in (query, query + wrapped, query * 31)]
    text = pc.binary_join_element_wise(*parts, " ")
    split = np.where(query % 5 == 0, "test", "train")
    split[rows % 200_000 == 123] = "train"
    label = rng.choice(list("ESCI"), len(rows), p=[0.65, 0.22, 0.03, 0.10])
    label[rows % 500_000 == 77] = "X"
    return pa.table(
        {
            "example_id": rows,
            "query": text,
            "query_id": query,
            "product_id": _numbered("B", product),
            "product_locale": pa.array(LOCALES[locale]),
            "esci_label": pa.array(label),
            "small_version": np.zeros_like(rows),
            "large_version": np.ones_like(rows),
            "split": pa.array(split),
        }
    )


if __name__ == "__main__":
    main()

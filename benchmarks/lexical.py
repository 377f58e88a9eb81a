"""How fast the lexical member prepares and answers: `python -m benchmarks.lexical [DATASET]`.

Every judged pair of a dataset folder (../shared/data/esci_real unless named) is scored once, with
the products prepared beforehand and with all that preparing takes. Each query is prepared for its
own few pairs, as it is when customers ask: repeating pairs would prepare it once for many. One
process is timed, then two that start together and do the same work, each on one thread.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from models.lexical.matching.products import prepare_products
from models.members.lexical import LexicalMember
from models.pairs import Pairs
from pipelines.dataset.read import read_judgements

DEFAULT_DATASET = Path("../shared/data/esci_real")
REPEATS = 7
LIST = 40  # products of one request

Work = Callable[[], Any]


def seconds(work: Work, repeats: int = REPEATS) -> float:
    """The median time of `work`, after one run that fills caches."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def distinct_pairs(dataset: Path) -> Pairs:
    """Each judged pair of the dataset once, shuffled."""
    pairs = read_judgements(dataset).pairs.without_labels().compact()
    keys = pairs.query_rows.astype(np.int64) * len(pairs.products) + pairs.product_rows
    rows = np.unique(keys, return_index=True)[1]
    return pairs.take(np.random.default_rng(0).permutation(rows))


def works(member: LexicalMember, dataset: Path) -> Iterator[tuple[str, int, Work]]:
    """What is timed: a name, how many units it does, the work."""
    pairs = distinct_pairs(dataset)
    products = pairs.products
    prepared = prepare_products(products)
    yield "pairs, products prepared", len(pairs), lambda: member.predict_prepared(pairs, prepared)
    yield "the same pairs, unprepared", len(pairs), lambda: member.predict_logits(pairs)
    yield "products prepared", len(products), lambda: prepare_products(products)


def requests(member: LexicalMember, dataset: Path) -> Iterator[tuple[str, Work]]:
    """One query with a list of products, prepared and not."""
    listed = distinct_pairs(dataset).products.take(np.arange(LIST))
    asked = Pairs.of_query("wireless headphones without microphone 64gb", "us", listed)
    prepared = prepare_products(listed)
    yield f"1 query x {LIST} products, prepared", lambda: member.predict_prepared(asked, prepared)
    yield f"1 query x {LIST} products, unprepared", lambda: member.predict_logits(asked)


def _worker(folder: str, dataset: str, index: int, barrier: Any, times: Any) -> None:
    with threadpool_limits(limits=1):
        _, _, work = list(works(LexicalMember.load(Path(folder)), Path(dataset)))[index]
        barrier.wait()
        times.put(seconds(work))


def seconds_of(processes: int, folder: Path, dataset: Path, index: int) -> float:
    """The time that the slowest of some processes needs for the same work, all at once."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(processes), context.Queue()
    arguments = (str(folder), str(dataset), index, barrier, times)
    started = [context.Process(target=_worker, args=arguments) for _ in range(processes)]
    for process in started:
        process.start()
    found = [times.get() for _ in started]
    for process in started:
        process.join()
    return max(found)


def main() -> None:
    """Fit on the training split, time, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", default=DEFAULT_DATASET)
    dataset: Path = parser.parse_args().dataset
    if not dataset.is_dir():
        sys.exit(f"{dataset} is not there; name a dataset folder, or make one with: esci data demo")
    with threadpool_limits(limits=1):
        report(dataset)


def report(dataset: Path) -> None:
    """Fit, time and print."""
    pairs = read_judgements(dataset, split="train").pairs
    is_held = pairs.query_rows % 5 == 0
    train, valid = pairs.take(np.flatnonzero(~is_held)), pairs.take(np.flatnonzero(is_held))
    started = time.perf_counter()
    member = LexicalMember().fit(train, valid)
    fit_seconds = time.perf_counter() - started

    asked = distinct_pairs(dataset)
    print(f"`python -m benchmarks.lexical {dataset}`, Python {platform.python_version()},")
    print(f"numpy {np.__version__}, {os.cpu_count()} cores, {platform.machine()}; ", end="")
    print(f"medians of {REPEATS}; a core is a process of one thread.")
    print(f"{len(asked):,} distinct pairs of {len(asked.queries):,} queries ", end="")
    print(f"and {len(asked.products):,} products.\n")
    print("| work | 1 core, per second | 2 cores, per second | ratio |")
    print("|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        member.save(folder)
        for index, (what, units, _) in enumerate(works(member, dataset)):
            one, two = (n * units / seconds_of(n, folder, dataset, index) for n in (1, 2))
            print(f"| {what} | {one:,.0f} | {two:,.0f} | {two / one:.2f} |")
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print("\n| request | ms |")
    print("|---|---:|")
    for what, work in requests(member, dataset):
        print(f"| {what} | {1000 * seconds(work, 101):.2f} |")
    print(f"\nFitting {len(train):,} pairs took {fit_seconds:.1f} s; saved, {megabytes:.2f} MB.")


if __name__ == "__main__":
    main()

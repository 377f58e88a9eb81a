"""The judge with intervals, against a straightforward scikit-learn loop over resamples.

    python -m benchmarks.judge [--pairs N] [--queries N] [--repeats N] [--loop-resamples N]

Both judge the same made pairs (whole, three locales, seen and unseen products) under the same
draws. The loop picks the pairs of the drawn queries and calls scikit-learn; it is given the nDCG of
each list and has no OPIS, the judge computes both. At full size the loop runs a few resamples and
its time is scaled in proportion; at the small size it runs all of 100, and the intervals must
agree. Every run is a process of its own with one BLAS thread.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from benchmarks.process import peak_mebibytes, run_module
from models.judge.consistency import Classes
from models.judge.judge import Slice, judge, slices_of
from models.judge.judged import Judged, System
from models.judge.probability import BINS
from models.judge.ranking import expected_gain, list_ndcg
from models.judge.resample import Draws, resample_queries
from models.judge.verdict import Terms
from models.labels import DEFAULT_GAINS

WAYS = ("judge", "compare", "loop")
METRICS = ("accuracy", "macro_f1", "weighted_f1", "log_loss", "brier", "ece", "ndcg")
SMALL = (20_000, 1_000)
SMALL_RESAMPLES = 100


class Made(NamedTuple):
    """Pairs to judge, two systems, and how to cut them."""

    judged: Judged
    system: System
    other: System
    slices: list[Slice]
    classes: list[Classes]


def main() -> None:
    """Run every way and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop-resamples", type=int, default=2)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        made = make(asked.pairs, asked.queries)
        print(json.dumps(measure(asked.run, made, asked.resamples)))
        return

    full = (asked.pairs, asked.queries)
    judged = _median([_run("judge", *full, asked.resamples) for _ in range(asked.repeats)])
    both = _median([_run("compare", *full, asked.resamples) for _ in range(asked.repeats)])
    few = [_run("loop", *full, asked.loop_resamples) for _ in range(asked.repeats)]
    loop = _median(few)
    scaled = loop["seconds"] * asked.resamples / asked.loop_resamples
    small = _run("judge", *SMALL, SMALL_RESAMPLES)
    small_loop = _run("loop", *SMALL, SMALL_RESAMPLES)
    gap = max(
        abs(mine - theirs)
        for name in METRICS
        for mine, theirs in zip(
            small["intervals"][name], small_loop["intervals"][name], strict=True
        )
    )
    rows = [
        ("judge, 6 slices, OPIS by query and locale", full, judged["seconds"], "", judged),
        ("judge with a second system and p-values", full, both["seconds"], "", both),
        (
            f"scikit-learn loop, {asked.loop_resamples} resamples scaled to {asked.resamples:,}",
            full,
            scaled,
            f"{scaled / judged['seconds']:,.0f} x the judge",
            loop,
        ),
        (f"judge, {SMALL_RESAMPLES} resamples", SMALL, small["seconds"], "", small),
        (
            f"scikit-learn loop, all {SMALL_RESAMPLES} resamples",
            SMALL,
            small_loop["seconds"],
            f"{small_loop['seconds'] / small['seconds']:,.0f} x the judge",
            small_loop,
        ),
    ]
    print(f"`python -m benchmarks.judge {' '.join(sys.argv[1:])}`".replace(" `", "`"))
    print(
        f"made pairs, {asked.resamples:,} resamples of queries, median of {asked.repeats} at full "
        f"size; {platform.processor() or platform.machine()}, {os.cpu_count()} cores, one BLAS "
        f"thread; Python {platform.python_version()}, numpy {np.__version__}\n"
    )
    print("| what | pairs | queries | seconds | | peak memory, GiB |")
    print("|---|--:|--:|--:|--:|--:|")
    for what, (pairs, queries), seconds, ratio, run in rows:
        memory = f"{run['gibibytes']:.2f} (data {run['data_gibibytes']:.2f})"
        print(f"| {what} | {pairs:,} | {queries:,} | {seconds:,.2f} | {ratio} | {memory} |")
    print(f"\nlargest difference between the ends of their intervals at the small size: {gap:.1e}")


def make(pairs: int, queries: int, seed: int = 0) -> Made:
    """Pairs with labels in ESCI's shares, queries of uneven length, and two fair systems."""
    rng = np.random.default_rng(seed)
    query = np.sort(np.arange(pairs) % queries)
    query = np.where(rng.random(pairs) < 0.2, rng.integers(0, queries, pairs), query)
    locale = rng.choice(3, queries, p=[0.67, 0.14, 0.19])[query]
    labels = rng.choice(4, pairs, p=[0.618, 0.241, 0.032, 0.109]).astype(np.int8)
    judged = Judged.of(labels, query)
    logits = rng.normal(size=(pairs, 4))
    logits[np.arange(pairs), labels] += 1.5
    worse = logits + 0.3 * rng.normal(size=(pairs, 4))
    locales = ("us", "es", "jp")
    return Made(
        judged,
        System.of("system", _softmax(logits)),
        System.of("other", _softmax(worse)),
        slices_of("locale", locale, locales)
        + slices_of("product", (rng.random(pairs) < 0.3).astype(int), ("unseen", "seen")),
        [
            Classes("query", judged.lists, [str(code) for code in range(judged.list_count)]),
            Classes("locale", locale, locales),
        ],
    )


def measure(way: str, made: Made, resamples: int) -> dict[str, Any]:
    """Seconds, peak memory and the intervals of the whole under one way."""
    data = _peak()
    started = time.perf_counter()
    if way == "loop":
        intervals = loop(made, resample_queries(made.judged.query_count, resamples, 0))
    else:
        verdict = judge(
            made.judged,
            made.system,
            against=made.other if way == "compare" else None,
            slices=made.slices,
            opis_by=made.classes,
            terms=Terms(resamples=resamples),
        )
        found = verdict.whole.metrics
        intervals = {name: [found[name].low, found[name].high] for name in METRICS}
    return {
        "seconds": time.perf_counter() - started,
        "gibibytes": _peak(),
        "data_gibibytes": data,
        "intervals": intervals,
    }


def loop(made: Made, draws: Draws) -> dict[str, list[float]]:
    """Intervals of the whole by picking pairs; every slice and the majority row cost the same."""
    judged, system = made.judged, made.system
    order = np.argsort(judged.queries, kind="stable")
    ends = np.cumsum(np.bincount(judged.queries))
    rows_of = np.split(order, ends[:-1])
    ndcg = list_ndcg(judged, expected_gain(system.probabilities, DEFAULT_GAINS), DEFAULT_GAINS)
    shares = np.bincount(judged.labels) / len(judged)
    majority = np.broadcast_to(shares, system.probabilities.shape)
    masks = [np.ones(len(judged), bool)]
    masks += [np.isin(np.arange(len(judged)), one.rows) for one in made.slices]
    found = []
    for draw in range(len(draws)):
        drawn = np.repeat(np.arange(judged.query_count), draws.counts[:, draw])
        rows = np.concatenate([rows_of[query] for query in drawn])
        for place, mask in enumerate(masks):
            inside = rows[mask[rows]]
            for probabilities in (system.probabilities, majority):
                values = _score(judged.labels[inside], probabilities[inside])
                if place == 0 and probabilities is system.probabilities:
                    found.append([*values, ndcg[drawn].mean()])
    ends_of = np.quantile(np.array(found), [0.025, 0.975], axis=0)
    return {name: ends_of[:, at].tolist() for at, name in enumerate(METRICS)}


def _score(truth: NDArray[np.int8], said: NDArray[np.float64]) -> list[float]:
    predicted = said.argmax(axis=1)
    sk.precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=0)
    sk.confusion_matrix(truth, predicted, labels=range(4))
    for code in range(4):
        _calibration_error(said[:, code], truth == code)
    return [
        sk.accuracy_score(truth, predicted),
        sk.f1_score(truth, predicted, average="macro"),
        sk.f1_score(truth, predicted, average="weighted"),
        sk.log_loss(truth, said, labels=range(4)),
        sk.brier_score_loss(truth, said, labels=range(4), scale_by_half=False),
        _calibration_error(said.max(axis=1), predicted == truth),
    ]


def _calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    sums = np.bincount(bins, correct - confidence, BINS)
    return float(np.abs(sums).sum() / len(confidence))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True)


def _peak() -> float:
    return peak_mebibytes() / 1024


def _run(way: str, pairs: int, queries: int, resamples: int) -> dict[str, Any]:
    sizes = ("--pairs", pairs, "--queries", queries, "--resamples", resamples)
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return run_module("benchmarks.judge", "--run", way, *sizes, **threads)


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    middle = statistics.median_low([run["seconds"] for run in runs])
    return next(run for run in runs if run["seconds"] == middle)


if __name__ == "__main__":
    main()

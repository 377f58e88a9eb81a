"""Judged pairs and systems for the judge's tests, and resamples of them written out."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.judge.judged import Judged, System


@dataclass(frozen=True, eq=False)
class Case:
    judged: Judged
    system: System
    other: System


def make_case(seed: int, pairs: int = 400, queries: int = 40, *, coarse: bool = False) -> Case:
    """Queries of uneven length and difficulty; `coarse` probabilities have many ties."""
    rng = np.random.default_rng(seed)
    query = rng.zipf(1.6, pairs) % queries
    lists = query * 2 + (rng.random(pairs) < 0.3)
    labels = rng.choice(4, pairs, p=[0.55, 0.25, 0.05, 0.15]).astype(np.int8)
    systems = []
    for name, skill in (("system", 1.5), ("other", 1.2)):
        logits = rng.normal(size=(pairs, 4)) + rng.normal(size=(queries, 4))[query]
        logits[np.arange(pairs), labels] += skill
        if coarse:
            logits = np.round(logits)
        exp = np.exp(logits)
        systems.append(System.of(name, exp / exp.sum(axis=1, keepdims=True)))
    return Case(Judged.of(labels, query, lists), *systems)


cases = st.builds(
    make_case,
    seed=st.integers(0, 2**32 - 1),
    pairs=st.integers(20, 200),
    queries=st.integers(2, 30),
    coarse=st.booleans(),
)


def copies(judged: Judged, counts: NDArray[np.uint8]) -> tuple[NDArray[np.int64], Judged]:
    """A resample written out: the pairs of every drawn query, each copy a query of its own."""
    rows, queries, lists = [], [], []
    for query, count in enumerate(counts.tolist()):
        inside = np.flatnonzero(judged.queries == query)
        for copy in range(count):
            rows.append(inside)
            queries += [(query, copy)] * len(inside)
            lists += [(query, copy, which) for which in judged.lists[inside].tolist()]
    picked = np.concatenate(rows)
    return picked, Judged.of(judged.labels[picked], _codes(queries), _codes(lists))


def _codes(keys: list[tuple[int, ...]]) -> NDArray[np.int64]:
    place = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    return np.array([place[key] for key in keys])

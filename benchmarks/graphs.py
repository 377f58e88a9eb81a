"""Graphs: sampling neighbours, building from a dataset, an epoch of training, scoring pairs.

    python -m benchmarks.graphs [sampling] [building] [training] [scoring]
        [--edges 1000000] [--built 100000 1112000] [--taught 17300 173000] [--repeats 5]

Datasets are demo catalogues, made beforehand: one of 1,112,000 products has ten million rows of
behaviours, and one of 173,000 a million edges. Whatever is timed runs on one thread, in a process
of its own; what is compared takes turns. Sampling is measured in neighbours heard per second, 15 at
most of each node, against loops over the nodes:

- the same answers: what ours finds, rank by rank in Python, which is checked;
- numpy: one call of Generator.choice for each node that has too many;
- random.sample: of lists of Python numbers; it looks at no neighbour that it does not take.

The last two give other samples in another order of nodes, and cannot leave an edge out.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from heapq import nsmallest
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.process import peak_mebibytes, run_module
from models.graphs.adjacency import Adjacency
from models.graphs.building import build_graphs
from models.graphs.channels import channels
from models.graphs.features.hashed import HashedText
from models.graphs.graph import Graph
from models.graphs.keys import mixed
from models.graphs.options import GraphOptions
from models.graphs.sampling.sampler import Draw, Exclusion, sample
from pipelines.dataset.layout import BEHAVIOURS_FILE
from pipelines.dataset.read import Judgements, read_judgements
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.surroundings import read_surroundings

PARTS: Final = ("sampling", "building", "training", "scoring")
FAN_OUT: Final = 15
ASKED: Final = 50_000  # nodes sampled for together
HUB: Final = 100  # neighbours of a node that is asked for as a hub, at least
WIDTH: Final = 128  # of features, states and the head's hidden layer
REQUEST: Final = 100  # products of a request
STORED: Final = 100_000  # product states to look up among

Rows = list[dict[str, Any]]


def main() -> None:
    """Print a table for each part, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all, unless named")
    parser.add_argument("--edges", type=int, default=1_000_000, help="of the graph sampled from")
    parser.add_argument("--built", type=int, nargs="+", default=[100_000, 1_112_000])
    parser.add_argument("--taught", type=int, nargs="+", default=[17_300, 173_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(MEASURED[asked.one](asked)))
        return
    print(f"`python -m benchmarks.graphs {' '.join(sys.argv[1:])}`\n")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}; one thread, medians of {asked.repeats} where times are compared"
    )
    for part in asked.parts or PARTS:
        PRINTED[part](asked)


def measured(part: str, *words: object) -> Any:
    """What a process of its own says of one part."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return run_module("benchmarks.graphs", "--one", part, *words, **threads)


def seconds_in_turn(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median of the processor's time for each work, after one run that fills caches."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if repeat:
                times[name].append(time.process_time() - started)
    return {name: statistics.median(of) for name, of in times.items()}


# Sampling


def skewed_graph(edges: int) -> Graph:
    """Queries and products, of which few have most edges; a node has ten edges in the mean."""
    rng, nodes = np.random.default_rng(0), edges // 5
    products = nodes * 4 // 5
    queries = products + ((nodes - products) * rng.random(edges) ** 3).astype(np.int64)
    others = (products * rng.random(edges) ** 1.5).astype(np.int64)
    most = GraphOptions().most_neighbours
    clicks = Adjacency.of_edges(queries, others, rng.random(edges) + 0.1, nodes, most)
    return Graph("us", mixed(np.arange(nodes, dtype=np.uint64)), products, {"click": clicks})


def sampling(asked: argparse.Namespace) -> Rows:
    """Neighbours per second of each way, for nodes drawn from all and for hubs."""
    graph = skewed_graph(asked.edges)
    of, degrees = graph.relations["click"], graph.relations["click"].degrees()
    rng = np.random.default_rng(1)
    rows = []
    for name, nodes in (
        ("any", rng.choice(len(graph), min(ASKED, len(graph)), replace=False)),
        ("hubs", np.flatnonzero(degrees >= HUB)[: ASKED // 10]),
    ):
        loops = Loops(graph, nodes)
        hidden = Exclusion(nodes=rng.random(len(graph)) < 0.001)
        works = {
            "ours, uniform": lambda nodes=nodes: sample(of, graph.keys, nodes, FAN_OUT, Draw(7)),
            "ours, by weight": lambda nodes=nodes: sample(
                of, graph.keys, nodes, FAN_OUT, Draw(7, "weight")
            ),
            "ours, uniform, without some nodes": lambda nodes=nodes, hidden=hidden: sample(
                of, graph.keys, nodes, FAN_OUT, Draw(7), hidden
            ),
            "loop, the same answers": loops.same_answers,
            "loop, numpy": loops.numpy,
            "loop, random.sample": loops.python,
        }
        expected = works["ours, uniform"]()
        if loops.same_answers() != expected.neighbours.tolist():
            sys.exit("the loop finds other neighbours: it is no reference")
        theirs, said = neighbour_loader(of, nodes)
        if theirs:
            works["PyG's NeighborLoader"] = theirs
        seconds = seconds_in_turn(works, asked.repeats)
        rows += [
            {
                "nodes": name,
                "asked": len(nodes),
                "degree": float(degrees[nodes].mean()),
                "way": way,
                "rate": len(expected.neighbours) / took,
                "ratio": took / seconds["ours, uniform"],
                "edges": len(of),
                "loader": said,
            }
            for way, took in seconds.items()
        ]
    return rows


class Loops:
    """Plain loops over the nodes, which find the neighbours of all in one list."""

    def __init__(self, graph: Graph, nodes: np.ndarray) -> None:
        self.of = graph.relations["click"]
        self.nodes = nodes.tolist()
        self.keys = graph.keys.tolist()
        parts = np.split(self.of.indices, self.of.indptr[1:-1])
        self.neighbours = [part.tolist() for part in parts]

    def same_answers(self) -> list[int]:
        """Those of the lowest ranks."""
        keys, found = self.keys, []
        for node in self.nodes:
            mine = self.neighbours[node]
            if len(mine) > FAN_OUT:
                own = splitmix(keys[node] ^ 7)
                ranks = {splitmix(own ^ keys[other]): other for other in mine}
                mine = sorted(ranks[rank] for rank in nsmallest(FAN_OUT, ranks))
            found += mine
        return found

    def numpy(self) -> np.ndarray:
        """By Generator.choice."""
        rng, found = np.random.default_rng(7), []
        for node in self.nodes:
            mine = self.of.neighbours(node)
            if len(mine) > FAN_OUT:
                mine = rng.choice(mine, FAN_OUT, replace=False)
            found.append(mine)
        return np.concatenate(found)

    def python(self) -> list[int]:
        """By random.sample."""
        rng, found = random.Random(7), []
        for node in self.nodes:
            mine = self.neighbours[node]
            found += rng.sample(mine, FAN_OUT) if len(mine) > FAN_OUT else mine
        return found


def splitmix(value: int) -> int:
    """The finaliser of SplitMix64, in Python's numbers."""
    bits = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return bits ^ bits >> 31


def neighbour_loader(of: Adjacency, nodes: np.ndarray) -> tuple[Callable[[], Any] | None, str]:
    """One batch of PyG's own loader, or none and what it says of itself."""
    import warnings

    import torch
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader

    hearers = np.repeat(np.arange(of.nodes), of.degrees())
    # It looks for neighbours from targets to sources.
    edges = torch.from_numpy(np.stack([of.indices.astype(np.int64), hearers]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loader = NeighborLoader(
                Data(edge_index=edges, num_nodes=of.nodes),
                [FAN_OUT],
                input_nodes=torch.from_numpy(nodes.astype(np.int64)),
                batch_size=len(nodes),
            )
            next(iter(loader))
        except ImportError as error:
            return None, str(error)
    return lambda: next(iter(loader)), "measured"


def print_sampling(asked: argparse.Namespace) -> None:
    """The table of sampling."""
    rows = measured("sampling", "--edges", asked.edges, "--repeats", asked.repeats)
    print(f"\n## Sampling, {rows[0]['edges']:,} edges in either direction, {FAN_OUT} of a node\n")
    print("| nodes | edges of each | way | neighbours heard per second | this ÷ ours |")
    print("|---|---:|---|---:|---:|")
    for row in rows:
        print(
            f"| {row['asked']:,} of {row['nodes']} | {row['degree']:.0f} | {row['way']} "
            f"| {row['rate']:,.0f} | {row['ratio']:.1f} |"
        )
    if rows[0]["loader"] != "measured":
        print(f"\nPyG's own NeighborLoader cannot be had here: {rows[0]['loader']}.")


# Building


def read(data: Path) -> tuple[Judgements, Any]:
    """Judgements and what surrounds them; nothing is held out."""
    judgements = read_judgements(data)
    return judgements, read_surroundings(data, judgements, np.empty(0, np.int64))


def building(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each step, and the most memory by its end."""
    steps: Rows = []

    def done(name: str, started: float) -> float:
        took = time.perf_counter() - started
        steps.append({"step": name, "seconds": took, "mebibytes": peak_mebibytes()})
        return time.perf_counter()

    at = time.perf_counter()
    judgements, around = read(asked.data)
    at = done("read", at)
    features = HashedText.fit(judgements.pairs.queries, around.products, WIDTH, 7)
    at = done("features fitted", at)
    graphs = build_graphs(around, GraphOptions(), features, frozenset())
    at = done("graphs built", at)
    for locale, each in graphs.items():
        each.save(asked.data / "graphs" / locale)
    done("saved", at)
    at = time.perf_counter()
    opened = [Graph.open(asked.data / "graphs" / locale, verified=True) for locale in graphs]
    at = done("opened", at)
    for graph in opened:
        channels(graph, [*graph.relations], "together")
    done("relations joined", at)
    return {
        "products": len(around.products),
        "rows": len(around.behaviours),
        "edges": sum(len(edges) for graph in opened for edges in graph.relations.values()) // 2,
        "steps": steps,
    }


def print_building(asked: argparse.Namespace) -> None:
    """The table of building, by step and size, and how it grows."""
    found = []
    for products in asked.built:
        with tempfile.TemporaryDirectory() as scratch:
            data = made(Path(scratch), products)
            found.append(measured("building", "--data", data))
    print("\n## Building from Parquet: the relations of the behaviours, with hashed features\n")
    print("| products | behaviour rows | edges | step | seconds | peak MiB |")
    print("|---:|---:|---:|---|---:|---:|")
    for run in found:
        for step in run["steps"]:
            print(
                f"| {run['products']:,} | {run['rows']:,} | {run['edges']:,} | {step['step']} "
                f"| {step['seconds']:.2f} | {step['mebibytes']:,.0f} |"
            )
    for small, large in pairwise(found):
        graphs = [run["steps"][2] for run in (small, large)]
        print_slope(
            "behaviour rows", [run["rows"] for run in (small, large)],
            {"building": [step["seconds"] for step in graphs],
             "peak memory by then": [step["mebibytes"] for step in graphs]},
        )  # fmt: skip


def made(scratch: Path, products: int) -> Path:
    """A demo catalogue below `scratch`."""
    data = scratch / "data"
    generate(data, DemoOptions(products=products))
    rows = (data / BEHAVIOURS_FILE).stat().st_size
    print(f"made {products:,} products, {rows / 2**20:.0f} MiB of behaviours", file=sys.stderr)
    return data


def print_slope(what: str, sizes: list[int], of: Mapping[str, list[float]]) -> None:
    """How each quantity grows: its power of the size, one for linear."""
    more = math.log(sizes[1] / sizes[0])
    powers = {name: math.log(large / small) / more for name, (small, large) in of.items()}
    said = ", ".join(f"{name} {power:.2f}" for name, power in powers.items())
    print(f"\nfrom {sizes[0]:,} to {sizes[1]:,} {what}, as a power: {said}")


# Training


def training(asked: argparse.Namespace) -> dict[str, Any]:
    """An epoch over the judged pairs of a dataset, and what came before it."""
    import torch

    from models.graphs.training.fitting import Comparing, GraphTask
    from models.graphs.training.material import Material
    from models.graphs.training.networks import GraphNetwork
    from models.members.gnn import GnnOptions, neighbourhoods
    from models.training.loop import train
    from models.training.options import TrainingOptions
    from models.vectors.comparison import ComparisonHead

    torch.set_num_threads(1)
    options = GnnOptions(features=WIDTH, width=WIDTH, hidden=WIDTH)
    judgements, around = read(asked.data)
    started = time.perf_counter()
    features = HashedText.fit(judgements.pairs.queries, around.products, WIDTH, options.seed)
    graphs = build_graphs(around, options.graph, features, frozenset())
    relations = tuple(next(iter(graphs.values())).graph.relations)
    nearby = neighbourhoods(options, relations, graphs)
    network = GraphNetwork(
        options.convolution, WIDTH, WIDTH, len(options.fan_outs), len(relations),
        dropout=options.dropout,
    )  # fmt: skip
    pairs = judgements.pairs
    nothing = pairs.take(np.empty(0, np.int64))
    task = GraphTask(
        Comparing(network, ComparisonHead(WIDTH, WIDTH, options.dropout)),
        nearby,
        Material.of(pairs, features, nearby, around.products),
        Material.of(nothing, features, nearby, around.products),
        (pairs, nothing),
        options.classification,
        transductive=False,
        cold_share=options.cold_share,
        batch_size=options.training.batch_size,
    )
    before = time.perf_counter() - started
    held = peak_mebibytes()
    plan = TrainingOptions(epochs=1, batch_size=options.training.batch_size, learning_rate=2e-3)
    started = time.perf_counter()
    train(task, plan, options.seed)
    return {
        "products": len(around.products),
        "edges": sum(
            len(edges) for each in graphs.values() for edges in each.graph.relations.values()
        )
        // 2,
        "pairs": len(pairs),
        "before": before,
        "seconds": time.perf_counter() - started,
        "held": held,
        "mebibytes": peak_mebibytes(),
    }


def print_training(asked: argparse.Namespace) -> None:
    """The table of an epoch by size, and how it grows."""
    found = []
    for products in asked.taught:
        with tempfile.TemporaryDirectory() as scratch:
            found.append(measured("training", "--data", made(Path(scratch), products)))
    print("\n## An epoch of a gnn member (sage over all relations, 15 and 8 neighbours)\n")
    print(
        "| products | edges | pairs | features and graph, s | epoch, s | pairs per second "
        "| MiB before | peak MiB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for run in found:
        print(
            f"| {run['products']:,} | {run['edges']:,} | {run['pairs']:,} | {run['before']:.1f} "
            f"| {run['seconds']:.1f} | {run['pairs'] / run['seconds']:,.0f} | {run['held']:,.0f} "
            f"| {run['mebibytes']:,.0f} |"
        )
    for small, large in pairwise(found):
        print_slope(
            "edges", [small["edges"], large["edges"]],
            {"epoch": [small["seconds"], large["seconds"]],
             "peak memory": [small["mebibytes"], large["mebibytes"]]},
        )  # fmt: skip


# Scoring


def scoring(asked: argparse.Namespace) -> Rows:
    """Pairs per second from stored states, by how much of a request's work is in it."""
    from benchmarks.states import IDENTITY, Catalogue, write
    from models.states import open_states
    from models.vectors.head import PairHead
    from models.vectors.packing import Packing
    from models.vectors.source import product_keys
    from pipelines.dataset.read import read_catalogue

    rng, packing = np.random.default_rng(3), Packing("fp16", WIDTH)
    weights = [rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) for _ in range(4)]
    head = PairHead(
        *weights, np.zeros(WIDTH, np.float32),
        rng.normal(size=(WIDTH, 4)).astype(np.float32), np.zeros(4, np.float32),
    )  # fmt: skip
    stored = Catalogue.drawn(STORED, packing)
    products = read_catalogue(asked.data)
    # Products of the demo have states too, so that their own keys find something.
    stored.keys[: len(products)] = product_keys(products)
    requests = [rng.choice(len(products), REQUEST, replace=False) for _ in range(20)]
    queries = rng.normal(size=(len(requests), WIDTH)).astype(np.float32) / WIDTH**0.5
    one, every = np.zeros(REQUEST, np.int64), np.arange(REQUEST)

    with tempfile.TemporaryDirectory() as scratch:
        store = open_states(scratch, "gnn", IDENTITY, packing)
        write(store, stored, lambda: 0)
        unpacked = packing.unpack(stored.states)

        def head_alone() -> None:
            for at, rows in enumerate(requests):
                head.logits(queries[at : at + 1], unpacked[rows], one, every)

        def looked_up() -> None:
            for at, rows in enumerate(requests):
                found = store.get_many(stored.keys[rows])
                head.logits(queries[at : at + 1], packing.unpack(found.packed), one, every)

        def from_texts() -> None:
            for at, rows in enumerate(requests):
                found = store.get_many(product_keys(products.take(rows)))
                head.logits(queries[at : at + 1], packing.unpack(found.packed), one, every)

        works = {
            "the head": head_alone,
            "states looked up, and the head": looked_up,
            "keys made of the products' texts, states looked up, and the head": from_texts,
        }
        seconds = seconds_in_turn(works, max(asked.repeats, 11))
    count = len(requests) * REQUEST
    return [{"work": name, "rate": count / took} for name, took in seconds.items()]


def print_scoring(asked: argparse.Namespace) -> None:
    """The table of scoring."""
    with tempfile.TemporaryDirectory() as scratch:
        data = made(Path(scratch), 5_000)
        rows = measured("scoring", "--data", data, "--repeats", asked.repeats)
    print(
        f"\n## Scoring a query with {REQUEST} products from stored states of {WIDTH} numbers, "
        f"{STORED:,} of them\n"
    )
    print("| what is done | pairs per second |")
    print("|---|---:|")
    for row in rows:
        print(f"| {row['work']} | {row['rate']:,.0f} |")


MEASURED: Final[Mapping[str, Callable[[argparse.Namespace], Any]]] = {
    "sampling": sampling,
    "building": building,
    "training": training,
    "scoring": scoring,
}
PRINTED: Final[Mapping[str, Callable[[argparse.Namespace], None]]] = {
    "sampling": print_sampling,
    "building": print_building,
    "training": print_training,
    "scoring": print_scoring,
}

if __name__ == "__main__":
    main()

"""Random graphs, small enough to be looked at whole."""

import numpy as np

from models.graphs.adjacency import Adjacency
from models.graphs.graph import Graph
from models.graphs.keys import mixed

RELATIONS = ("click", "purchase", "co_buy")


def adjacency(rng: np.random.Generator, nodes: int, edges: int) -> Adjacency:
    ends, others = rng.integers(0, nodes, (2, edges))
    return Adjacency.of_edges(ends, others, rng.random(edges) + 0.1, nodes)


def graph(seed: int = 0, products: int = 30, queries: int = 12, edges: int = 120) -> Graph:
    rng = np.random.default_rng(seed)
    nodes = products + queries
    relations = {name: adjacency(rng, nodes, edges) for name in RELATIONS}
    return Graph("us", mixed(np.arange(nodes, dtype=np.uint64)), products, relations)

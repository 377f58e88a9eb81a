"""Which neighbours and which relations moved the logits of a pair: each left out in turn.

What is left out is an edge that the product hears (transductively the query too), or all edges of
a relation; the others stay as they were sampled. Effects of single edges need not add up.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.graphs.blocks import Blocks, Heard
from models.graphs.keys import product_node_keys, query_node_keys
from models.graphs.served import Neighbourhoods, ServedGraphs, rounded
from models.locales import LOCALES
from models.member import Logits
from models.pairs import Pairs

_SECONDS: Final = 0.05  # of a request's time, unless told otherwise
_ASKED: Final = 2  # nodes: the query, then the product


@dataclass(frozen=True)
class Neighbour:
    """An edge that was heard, and what the logits would lose without it."""

    hearer: str  # "product" or "query"
    kind: str  # "product" or "query"
    name: str  # a product id, or the text of a query
    weights: dict[str, float]  # in each relation that the edge is in
    effect: tuple[float, ...]  # logits with it less logits without, in the order of LABELS


@dataclass(frozen=True)
class Relation:
    """All heard edges of a relation together."""

    name: str
    edges: int
    effect: tuple[float, ...]


@dataclass(frozen=True)
class Explanation:
    """What was heard around one pair, what moved most first."""

    logits: tuple[float, ...]
    neighbours: Sequence[Neighbour]
    relations: Sequence[Relation]
    complete: bool  # whether time sufficed for every neighbour; the heaviest come first


def explain(served: ServedGraphs, pair: Pairs, seconds: float = _SECONDS) -> Explanation:
    """The explanation of the one pair in `pair`, as far as it gets in so many seconds.

    Relations are looked at first, of which there are few.
    """
    started = time.monotonic()
    around = _Around.of(served, pair)
    logits = around.logits(around.blocks)

    def effect(blocks: Blocks) -> tuple[float, ...]:
        return tuple((logits - around.logits(blocks)).tolist())

    relations = [
        Relation(name, edges, effect(blocks)) for name, edges, blocks in around.relations()
    ]
    neighbours, complete = [], True
    for neighbour, blocks in around.neighbours():
        if time.monotonic() - started > seconds:
            complete = False
            break
        neighbours.append(replace(neighbour, effect=effect(blocks)))
    return Explanation(
        tuple(logits.tolist()),
        sorted(neighbours, key=lambda one: -_size(one.effect)),
        sorted(relations, key=lambda one: -_size(one.effect)),
        complete,
    )


def _size(effect: Sequence[float]) -> float:
    """How far an effect moves the labels against each other: a shift of all of them is none."""
    return max(effect) - min(effect)


@dataclass(frozen=True, eq=False)
class _Around:
    """A pair in its graph: its query is the first node asked for, its product the second."""

    served: ServedGraphs
    neighbourhoods: Neighbourhoods
    blocks: Blocks
    features: NDArray[np.float32]
    is_query: NDArray[np.bool_]

    @classmethod
    def of(cls, served: ServedGraphs, pair: Pairs) -> "_Around":
        named = pair.compact().read_in_product_locales()
        locale = LOCALES[int(named.products.locales[0])]
        known = served.neighbourhoods.get(locale)
        within = known or next(iter(served.neighbourhoods.values()))
        asked = np.full(2, -1, np.int64)
        if known:
            graph = known.featured.graph
            asked[1] = graph.rows_of(product_node_keys(named.products))[0]
            if served.transductive:
                asked[0] = graph.rows_of(query_node_keys(named.queries))[0]
        blocks = within.around(asked)
        own = np.concatenate(
            [served.features.of_queries(named.queries), served.features.of_products(named.products)]
        )
        inputs = within.inputs(blocks, rounded(own), np.array([True, False]))
        return cls(served, within, blocks, *inputs)

    def logits(self, blocks: Blocks) -> Logits:
        """The four logits of the pair."""
        served = self.served
        states = served.network.states(self.features, self.is_query, blocks)
        product = served.packing.unpack(served.packing.pack(states[1:]))
        zero = np.zeros(1, np.int64)
        found: Logits = served.head.logits(states[:1], product, zero, zero)[0]
        return found

    def relations(self) -> Iterator[tuple[str, int, Blocks]]:
        """Each relation with its edges into the pair, and the blocks without those."""
        top = self.blocks.layers[-1]
        for number, channel in enumerate(self.neighbourhoods.channels):
            for column, name in enumerate(channel.relations):
                edges = int((top[number].attributes[:, column] > 0).sum())
                if edges:
                    yield name, edges, self._edited(number, partial(_without_relation, column))

    def neighbours(self) -> Iterator[tuple[Neighbour, Blocks]]:
        """Each edge into the pair, the heaviest first, and the blocks without it."""
        featured, found = self.neighbourhoods.featured, []
        for number, (channel, heard) in enumerate(
            zip(self.neighbourhoods.channels, self.blocks.layers[-1], strict=True)
        ):
            for source, hearer, attributes in zip(
                heard.sources, heard.hearers(), heard.attributes, strict=True
            ):
                row = int(self.blocks.rows[source])
                weights = zip(channel.relations, np.expm1(attributes).tolist(), strict=True)
                neighbour = Neighbour(
                    hearer="product" if hearer else "query",
                    kind="query" if row >= featured.graph.products else "product",
                    name=featured.names[row],
                    weights={name: weight for name, weight in weights if weight > 0},
                    effect=(),
                )
                found.append((neighbour, number, int(source), int(hearer)))
        found.sort(key=lambda each: -sum(each[0].weights.values()))
        for neighbour, number, source, hearer in found:
            yield neighbour, self._edited(number, partial(_without_edge, source, hearer))

    def _edited(self, number: int, edit: Callable[[Heard], Heard]) -> Blocks:
        """The blocks with one channel edited in every layer: a pair hears in each of them."""
        layers = [
            [edit(heard) if at == number else heard for at, heard in enumerate(layer)]
            for layer in self.blocks.layers
        ]
        return replace(self.blocks, layers=layers)


def _without_relation(column: int, heard: Heard) -> Heard:
    """Without what the pair hears in the relation of `column`; other edges stay as they are."""
    attributes = heard.attributes.copy()
    attributes[heard.hearers() < _ASKED, column] = 0
    return _kept(replace(heard, attributes=attributes), (attributes > 0).sum(axis=1) > 0)


def _without_edge(source: int, hearer: int, heard: Heard) -> Heard:
    return _kept(heard, (heard.sources != source) | (heard.hearers() != hearer))


def _kept(heard: Heard, keep: NDArray[np.bool_]) -> Heard:
    """The edges that are kept."""
    counts = np.bincount(heard.hearers()[keep], minlength=len(heard.counts))
    return Heard(counts, heard.sources[keep], heard.attributes[keep], heard.spread[keep])

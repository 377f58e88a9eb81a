"""Which neighbours and which relations moved the logits of a pair: each left out in turn.

What is left out is an edge that the product hears (transductively the query too), or all edges of
a relation; the others stay as they were sampled. Effects of single edges need not add up.

A stored state does not say what it was computed from. Where one answers, its logits are told, and
beside them those of the member's own graph, of which everything else is said.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.graphs.keys import product_node_keys, query_node_keys
from models.graphs.sampling.blocks import Blocks, Heard
from models.graphs.sampling.neighbourhoods import Neighbourhoods
from models.graphs.serving.served import ServedGraphs, rounded
from models.locales import LOCALES
from models.member import Logits
from models.pairs import Pairs
from models.vectors.packing import Packed

_SECONDS: Final = 0.05  # of a request's time, unless told otherwise
_ASKED: Final = 2  # nodes: the query, then the product
_ONLY: Final = np.zeros(1, np.int64)

Effect: TypeAlias = tuple[float, ...] | None
"""Logits with something less logits without, in the order of LABELS.

None where the member would say nothing of the pair without it.
"""


@dataclass(frozen=True)
class Neighbour:
    """An edge that was heard, and what the logits would lose without it."""

    hearer: str  # "product" or "query"
    kind: str  # "product" or "query"
    name: str  # a product id, or the text of a query
    weights: dict[str, float]  # in each relation that the edge is in
    effect: Effect


@dataclass(frozen=True)
class Relation:
    """All heard edges of a relation together."""

    name: str
    edges: int
    effect: Effect


@dataclass(frozen=True)
class Explanation:
    """What was heard around one pair, what moved most first; nothing where nothing is said."""

    logits: tuple[float, ...] | None  # as the member answers; None where it says nothing
    # Whether a stored state of the product answered. Neighbours and relations are always those of
    # the member's own graph, which may be an older one than that of the state.
    stored: bool
    # What the member would answer by its own graph: what effects are measured from. Unless a stored
    # state answered these are `logits`, and the farther from them, the less the rest explains.
    by_graph: tuple[float, ...] | None
    neighbours: Sequence[Neighbour]
    relations: Sequence[Relation]
    complete: bool  # whether time sufficed for every neighbour; the heaviest come first


def explain(served: ServedGraphs, pair: Pairs, seconds: float = _SECONDS) -> Explanation:
    """The explanation of the one pair in `pair`, as far as it gets in so many seconds.

    Relations are looked at first, of which there are few. The product counts as one asked for.
    """
    started = time.monotonic()
    around = _Around.of(served, pair)
    by_graph = around.logits(around.blocks)
    stored = around.stored()
    answered = by_graph if stored is None else around.logits(around.blocks, stored)
    relations: list[Relation] = []
    neighbours: list[Neighbour] = []
    complete = True

    def effect(blocks: Blocks) -> Effect:
        return _said(by_graph - around.logits(blocks))

    if _said(answered) and _said(by_graph):
        relations = [
            Relation(name, edges, effect(blocks)) for name, edges, blocks in around.relations()
        ]
        for neighbour, blocks in around.neighbours():
            if time.monotonic() - started > seconds:
                complete = False
                break
            neighbours.append(replace(neighbour, effect=effect(blocks)))
    return Explanation(
        _said(answered),
        stored is not None,
        _said(by_graph),
        sorted(neighbours, key=lambda one: -_size(one.effect)),
        sorted(relations, key=lambda one: -_size(one.effect)),
        complete,
    )


def _said(logits: Logits) -> tuple[float, ...] | None:
    """The numbers; None of those that say nothing."""
    return None if np.isnan(logits).any() else tuple(logits.tolist())


def _size(effect: Effect) -> float:
    """How far an effect moves the labels against each other: a shift of all of them is none."""
    return max(effect) - min(effect) if effect else np.inf


@dataclass(frozen=True, eq=False)
class _Around:
    """A pair in its graph: its query is the first node asked for, its product the second."""

    served: ServedGraphs
    named: Pairs
    neighbourhoods: Neighbourhoods
    blocks: Blocks
    features: NDArray[np.float32]
    is_query: NDArray[np.bool_]

    @classmethod
    def of(cls, served: ServedGraphs, pair: Pairs) -> "_Around":
        named = pair.compact().read_in_product_locales()
        within = served.within(LOCALES[int(named.products.locales[0])])
        graph = within.featured.graph
        asked = np.full(2, -1, np.int64)
        asked[1] = graph.rows_of(product_node_keys(named.products))[0]
        if served.transductive:
            asked[0] = graph.rows_of(query_node_keys(named.queries))[0]
        blocks = within.around(asked)
        own = np.concatenate(
            [served.features.of_queries(named.queries), served.features.of_products(named.products)]
        )
        inputs = within.inputs(blocks, rounded(own), np.array([True, False]))
        return cls(served, named, within, blocks, *inputs)

    def logits(self, blocks: Blocks, stored: Packed | None = None) -> Logits:
        """The four logits of the pair by what these blocks let it hear.

        With a `stored` state of the product they let the query alone hear it.
        """
        served = self.served
        states = served.network.states(self.features, self.is_query, blocks)
        product = served.packed(states[1:], blocks.hears()[1:]) if stored is None else stored
        found: Logits = served.compared(states[:1], product, _ONLY, _ONLY)[0]
        return found

    def stored(self) -> Packed | None:
        """The stored state of the product; None where none is known."""
        found = self.served.looked_up(self.named.products).packed
        return found if len(found) else None

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
                    effect=None,
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

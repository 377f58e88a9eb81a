"""A graph as a network hears it: which relations, joined how, and which neighbours of each node."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graphs.adjacency import Adjacency, NodeRows
from models.graphs.building import FeaturedGraph
from models.graphs.channels import Channel, Merging, channels
from models.graphs.graph import Graph
from models.graphs.sampling.blocks import Blocks, gather
from models.graphs.sampling.sampler import Draw, Exclusion
from models.locales import LOCALES
from models.texts import Texts
from models.vectors.packing import Vectors


@dataclass(frozen=True)
class Hearing:
    """How a network hears, whatever the graph."""

    relations: tuple[str, ...]
    merging: Merging
    fan_outs: tuple[int, ...]
    draw: Draw

    def within(self, featured: FeaturedGraph) -> "Neighbourhoods":
        """A graph so heard, its relations joined now."""
        found = channels(featured.graph, self.relations, self.merging)
        return Neighbourhoods(featured, self, found)

    def silence(self, width: int) -> "Neighbourhoods":
        """A graph without nodes, where nobody is heard; features have so many numbers."""
        graph = Graph(
            LOCALES[0],
            np.empty(0, np.uint64),
            0,
            {name: Adjacency.empty(0) for name in self.relations},
        )
        return self.within(FeaturedGraph(graph, np.empty((0, width), np.float16), Texts.empty(0)))


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """A graph with what the convolutions hear in it."""

    featured: FeaturedGraph
    hearing: Hearing
    channels: Sequence[Channel]

    def around(
        self, asked: NodeRows, excluded: Exclusion | None = None, draw: Draw | None = None
    ) -> Blocks:
        """The blocks for the states of `asked`."""
        keys, hearing = self.featured.graph.keys, self.hearing
        return gather(self.channels, keys, asked, hearing.fan_outs, draw or hearing.draw, excluded)

    def inputs(
        self, blocks: Blocks, own: Vectors, own_is_query: NDArray[np.bool_]
    ) -> tuple[Vectors, NDArray[np.bool_]]:
        """Features and kind of every node of `blocks`; those of the asked ones are given."""
        heard = blocks.rows[len(own) :]
        features = np.asarray(self.featured.features[heard], np.float32)
        is_query = self.featured.graph.is_query(heard)
        return np.concatenate([own, features]), np.concatenate([own_is_query, is_query])

"""What has to be computed for the states of some nodes: for each layer, who hears whom.

The states of layer l are needed of its nodes, those of layer l - 1 of the same and of all they
hear. Nodes of a layer are the first of the layer below, so that a node finds its own state; of
those that are heard none is computed twice for a layer. There are as many layers as hops: nobody
hears a neighbourhood that was cut off.

Nodes that are asked for bring features of their own, from texts that may have changed since the
graph was made. They are never taken for a node that somebody hears: else what a node says would
depend on who else is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graphs.adjacency import NodeRows
from models.graphs.channels import Channel
from models.graphs.keys import NodeKeys
from models.graphs.sampling.sampler import Draw, Exclusion, allowed_degrees, sample


@dataclass(frozen=True, eq=False)
class Heard:
    """The edges of one channel in one layer, in the order of those who hear."""

    counts: NDArray[np.int64]  # (nodes of the layer,)
    sources: NDArray[np.int64]  # (edges,), places among the nodes of the layer below
    attributes: NDArray[np.float32]  # (edges, relations)
    spread: NDArray[np.int64]  # (edges,), how many neighbours each source may hear itself

    def hearers(self) -> NDArray[np.int64]:
        """The place of each edge's hearer among the nodes of the layer."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The layers, the lowest first, and the nodes whose features they start from."""

    rows: NodeRows  # of the graph; -1 of an asked node that is not in it
    sizes: tuple[int, ...]  # nodes of each layer, from all of `rows` down to those asked for
    layers: Sequence[Sequence[Heard]]  # (layers, channels)

    def hears(self) -> NDArray[np.bool_]:
        """Whether each node that is asked for hears anybody."""
        counts = [heard.counts for heard in self.layers[-1]]
        return np.asarray(np.sum(counts, axis=0) > 0)


def gather(
    channels: Sequence[Channel],
    keys: NodeKeys,
    asked: NodeRows,
    fan_outs: Sequence[int],
    draw: Draw,
    excluded: Exclusion | None = None,
) -> Blocks:
    """The blocks for the states of `asked`; -1 hears nobody.

    `fan_outs` are those of each hop, from the nodes that are asked for outwards.
    """
    rows, sizes, layers = asked, [len(asked)], []
    for fan_out in fan_outs:
        sampled = [
            sample(channel.adjacency, keys, rows, fan_out, draw, excluded) for channel in channels
        ]
        below, places = _joined(rows, len(asked), [each.neighbours for each in sampled])
        layers.append(
            [
                Heard(
                    each.counts,
                    at,
                    channel.attributes[each.places],
                    np.minimum(allowed_degrees(channel.adjacency, below, excluded), fan_out)[at],
                )
                for channel, each, at in zip(channels, sampled, places, strict=True)
            ]
        )
        rows = below
        sizes.append(len(rows))
    return Blocks(rows, tuple(reversed(sizes)), list(reversed(layers)))


def _joined(
    rows: NodeRows, asked: int, neighbours: Sequence[NodeRows]
) -> tuple[NodeRows, list[NDArray[np.int64]]]:
    """`rows` and then those of `neighbours` that are not among them, and each neighbour's place.

    The first rows are those `asked` for, which nobody hears.
    """
    heard, at = np.unique(np.concatenate([np.empty(0, np.int64), *neighbours]), return_inverse=True)
    known = asked + np.argsort(rows[asked:])
    places = np.empty(len(heard), np.int64)
    is_new = np.ones(len(heard), bool)
    if len(known):
        near = np.minimum(np.searchsorted(rows[known], heard), len(known) - 1)
        is_new = rows[known[near]] != heard
        places[~is_new] = known[near[~is_new]]
    places[is_new] = len(rows) + np.arange(int(is_new.sum()))
    ends = np.cumsum([len(each) for each in neighbours])[:-1]
    return np.concatenate([rows, heard[is_new]]), np.split(places[at], ends)

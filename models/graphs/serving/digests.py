"""A digest of all that decides a node's state besides the network: of itself and of what it hears.

It goes the way the state goes, layer by layer, so it changes where a text, an edge, a weight or a
sampled neighbour of any hop does, and only there. A state with an unchanged digest need not be
computed again, whatever else has changed in the graph.
"""

import numpy as np
from numpy.typing import NDArray

from models.graphs.keys import mixed
from models.graphs.sampling.blocks import Blocks, Heard
from models.states.protocol import Digests
from models.vectors.packing import Vectors


def digests(features: Vectors, is_query: NDArray[np.bool_], blocks: Blocks) -> Digests:
    """The digest of each asked node; the inputs are those of a network."""
    found = _of_numbers(features.astype(np.float16).view(np.uint16)) + is_query
    for layer in blocks.layers:
        size = len(layer[0].counts)
        told = mixed(found[:size])
        for number, heard in enumerate(layer):
            told = mixed(told + mixed(_heard(found, heard) + np.uint64(number + 1)))
        found = told
    return found


def _heard(found: Digests, heard: Heard) -> Digests:
    """The sum of what each node hears: who it is does not depend on the order it is told in."""
    edges = found[heard.sources] ^ _of_numbers(heard.attributes.view(np.uint32))
    edges = mixed(edges + heard.spread.astype(np.uint64))
    sums = np.zeros(len(heard.counts), np.uint64)
    hearing = np.flatnonzero(heard.counts)
    if len(hearing):
        starts = (np.cumsum(heard.counts) - heard.counts)[hearing]
        sums[hearing] = np.add.reduceat(edges, starts)
    return sums + heard.counts.astype(np.uint64)


def _of_numbers(rows: NDArray[np.unsignedinteger]) -> Digests:
    """Each row's numbers, with a factor of its own for each column, modulo 2^64."""
    factors = mixed(np.arange(rows.shape[1], dtype=np.uint64)) | np.uint64(1)
    # Odd factors, and a square on the way: sums of differences do not cancel out.
    spread = rows.astype(np.uint64) + factors
    return mixed((spread * spread * factors).sum(axis=1, dtype=np.uint64))

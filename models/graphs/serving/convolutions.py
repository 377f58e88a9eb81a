"""Convolutions over sampled neighbourhoods in numpy, as they are served.

They are those of PyTorch Geometric that `networks` trains, with v for who hears, u for who is heard
and N(v) for the sampled neighbours:

    sage     h'_v = W1 h_v + W2 mean_{u in N(v)} h_u + b
    gcn      h'_v = W sum_{u in N(v) + v} h_u / sqrt(d_u d_v) + b, where d counts what a node hears,
             itself included
    gatv2    e_vu = a . LeakyReLU(W_l h_u + W_r h_v + W_e x_vu), alpha = softmax_u e over N(v) + v,
             h'_v = sum_u alpha_vu W_l h_u + b, where x_vu are the numbers of the edge
    rsage    h'_v = W1 h_v + sum_r W_r mean_{u in N_r(v)} h_u + b, with weights of their own for
             products and for queries as v

An empty neighbourhood has the mean zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.graphs.sampling.blocks import Blocks, Heard
from models.vectors.packing import Vectors

Convolution = Literal["sage", "gcn", "gatv2", "rsage"]

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Arrays of a layer, by their names in `networks`; matrices take their inputs as rows."""

_SLOPE: Final = 0.2  # of GATv2Conv's LeakyReLU below zero
_EPSILON: Final = 1e-5  # of LayerNorm


@dataclass(frozen=True, eq=False)
class ServedNetwork:
    """A trained network over blocks, in numpy."""

    convolution: Convolution
    weights: Weights

    @property
    def width(self) -> int:
        """Numbers in a state."""
        return len(self.weights["norm.weight"])

    @property
    def hops(self) -> int:
        """Layers, and so how far a node hears."""
        return sum(name.endswith(".norm.weight") for name in self.weights)

    def states(self, features: Vectors, is_query: NDArray[np.bool_], blocks: Blocks) -> Vectors:
        """The state of each asked node; `features` and `is_query` are those of `blocks.rows`."""
        query, product = self.weights["enter.kinds"]
        hidden = features @ self.weights["enter.weight"]
        hidden += np.where(is_query[:, None], query, product)
        for number, heard in enumerate(blocks.layers):
            layer = self._layer(f"layers.{number}.")
            size = blocks.sizes[number + 1]
            normed = _normed(hidden, layer["norm.weight"], layer["norm.bias"])
            told = _CONVOLUTIONS[self.convolution](layer, normed, is_query[:size], heard)
            hidden = hidden[:size] + layer["scale"] * np.maximum(told, 0)
        states = _normed(hidden, self.weights["norm.weight"], self.weights["norm.bias"])
        return states / np.float32(self.width**0.5)

    def _layer(self, prefix: str) -> Weights:
        return {
            name.removeprefix(prefix): array
            for name, array in self.weights.items()
            if name.startswith(prefix)
        }


def gcn_shares(edges: Heard) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """1 / sqrt(d_u d_v) of each edge, and 1 / d_v of each node that hears, for itself."""
    mine = edges.counts + 1
    shares = 1 / np.sqrt((edges.spread + 1) * mine[edges.hearers()])
    return shares.astype(np.float32), (1 / mine).astype(np.float32)


def _sage(
    layer: Weights, hidden: Vectors, is_query: NDArray[np.bool_], heard: Sequence[Heard]
) -> Vectors:
    (edges,) = heard
    own = hidden[: len(is_query)] @ layer["own.weight"]
    return _plus(own + _mean(hidden, edges) @ layer["heard.weight"], layer)


def _gcn(
    layer: Weights, hidden: Vectors, is_query: NDArray[np.bool_], heard: Sequence[Heard]
) -> Vectors:
    (edges,) = heard
    size = len(is_query)
    theirs, own = gcn_shares(edges)
    sums = _sums(hidden[edges.sources] * theirs[:, None], edges.counts)
    return _plus((sums + hidden[:size] * own[:, None]) @ layer["heard.weight"], layer)


def _gatv2(
    layer: Weights, hidden: Vectors, is_query: NDArray[np.bool_], heard: Sequence[Heard]
) -> Vectors:
    (edges,) = heard
    size = len(is_query)
    heads, part = layer["attention"].shape
    said = hidden @ layer["heard.weight"] + layer["heard.bias"]
    asks = hidden[:size] @ layer["own.weight"] + layer["own.bias"]
    hearers = edges.hearers()
    of_edge = edges.attributes @ layer["edge.weight"]

    def scores(mixed: Vectors) -> NDArray[np.float32]:
        bent = np.where(mixed > 0, mixed, _SLOPE * mixed).reshape(-1, heads, part)
        return np.asarray((bent * layer["attention"]).sum(axis=2), np.float32)

    theirs = scores(said[edges.sources] + asks[hearers] + of_edge)  # (edges, heads)
    own = scores(said[:size] + asks)  # (nodes, heads)
    most = np.maximum(own, _most(theirs, edges.counts))
    theirs, own = np.exp(theirs - most[hearers]), np.exp(own - most)
    total = own + _sums(theirs, edges.counts)
    values = said.reshape(-1, heads, part)
    told = own[:, :, None] * values[:size]
    weighed = theirs[:, :, None] * values[edges.sources]
    told += _sums(weighed.reshape(-1, heads * part), edges.counts).reshape(told.shape)
    return _plus((told / total[:, :, None]).reshape(size, heads * part), layer)


def _rsage(
    layer: Weights, hidden: Vectors, is_query: NDArray[np.bool_], heard: Sequence[Heard]
) -> Vectors:
    size = len(is_query)
    found = np.zeros((size, hidden.shape[1]), np.float32)
    means = [_mean(hidden, edges) for edges in heard]
    for kind, rows in (("query", is_query), ("product", ~is_query)):
        told = hidden[:size][rows] @ layer[f"{kind}.own.weight"] + layer[f"{kind}.own.bias"]
        for number, mean in enumerate(means):
            told += mean[rows] @ layer[f"{kind}.{number}.weight"]
        found[rows] = told
    return found


_CONVOLUTIONS: Final = {"sage": _sage, "gcn": _gcn, "gatv2": _gatv2, "rsage": _rsage}


def _plus(told: Vectors, layer: Weights) -> Vectors:
    return np.asarray(told + layer["bias"], np.float32)


def _normed(hidden: Vectors, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Vectors:
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    variance = (centred * centred).mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(_EPSILON)) * weight + bias)


def _mean(hidden: Vectors, edges: Heard) -> Vectors:
    counts = np.maximum(edges.counts, 1).astype(np.float32)
    return np.asarray(_sums(hidden[edges.sources], edges.counts) / counts[:, None])


def _sums(values: Vectors, counts: NDArray[np.int64]) -> Vectors:
    """The sum of each node's edges, which stand together; zero where it has none."""
    found = np.zeros((len(counts), values.shape[1]), np.float32)
    hearing = np.flatnonzero(counts)
    if len(hearing):
        # Not of the others: reduceat hands an empty neighbourhood the edge that follows it.
        starts = (np.cumsum(counts) - counts)[hearing]
        found[hearing] = np.add.reduceat(values, starts, axis=0)
    return found


def _most(values: Vectors, counts: NDArray[np.int64]) -> Vectors:
    found = np.full((len(counts), values.shape[1]), -np.inf, np.float32)
    hearing = np.flatnonzero(counts)
    if len(hearing):
        starts = (np.cumsum(counts) - counts)[hearing]
        found[hearing] = np.maximum.reduceat(values, starts, axis=0)
    return found

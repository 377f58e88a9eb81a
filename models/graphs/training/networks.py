"""The network of a graph member while it learns: PyTorch Geometric's convolutions over blocks."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GCNConv, SAGEConv

from models.graphs.sampling.blocks import Blocks, Heard
from models.graphs.serving.convolutions import Convolution, ServedNetwork, gcn_shares

_KINDS: Final = ("query", "product")
_SOFTLY: Final = 0.1  # of what is heard, before anything is learned


class GraphNetwork(nn.Module):
    """Features to states: a projection, then a layer for each hop.

    The projection is one for queries and products, and begins as a rotation: what is alike as a
    text is alike to the head from the first step, which a few thousand labelled pairs would not
    teach it. Kinds differ by a vector that is added. A layer adds what a node hears to what it is
    (a residual), softly at first, and normalises before; without that, nodes of several hops
    become alike.
    """

    def __init__(
        self,
        convolution: Convolution,
        features: int,
        width: int,
        hops: int,
        relations: int,
        *,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.convolution: Convolution = convolution
        self.width = width
        self.enter = nn.Linear(features, width, bias=False)
        nn.init.orthogonal_(self.enter.weight)
        self.kinds = nn.Parameter(torch.zeros(len(_KINDS), width))
        self.layers = nn.ModuleList(
            _Layer(convolution, width, relations, heads, dropout) for _ in range(hops)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, is_query: Tensor, blocks: Blocks) -> Tensor:
        """The states of the asked nodes, (asked, width); inputs are those of `blocks.rows`."""
        query, product = self.kinds
        # Numbers of the order of one, as the layers and the norms expect.
        hidden = self.enter(features) * self.width**0.5
        hidden = hidden + torch.where(is_query[:, None], query, product)
        for number, (layer, heard) in enumerate(zip(self.layers, blocks.layers, strict=True)):
            hidden = layer(hidden, is_query[: blocks.sizes[number + 1]], heard)
        # Of about unit length, as the head that compares them expects.
        states: Tensor = self.norm(hidden) / self.width**0.5
        return states

    def served(self) -> ServedNetwork:
        """The same function in numpy."""
        weights = {
            "enter.weight": _array(self.enter.weight.T * self.width**0.5),
            "enter.kinds": _array(self.kinds),
        }
        for number, layer in enumerate(self.layers):
            prefix = f"layers.{number}."
            of_layer = cast(_Layer, layer).served()
            weights |= {f"{prefix}{name}": array for name, array in of_layer.items()}
        return ServedNetwork(self.convolution, weights | _norm("norm.", self.norm))


class _Layer(nn.Module):
    def __init__(
        self, convolution: Convolution, width: int, relations: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((width,), _SOFTLY))
        self.hear: nn.Module = _HEARING[convolution](width, relations, heads)

    def forward(self, hidden: Tensor, is_query: Tensor, heard: Sequence[Heard]) -> Tensor:
        told = self.dropout(torch.relu(self.hear(self.norm(hidden), is_query, heard)))
        state: Tensor = hidden[: len(is_query)] + self.scale * told
        return state

    def served(self) -> dict[str, NDArray[np.float32]]:
        heard = cast(Any, self.hear).served()
        return {**_norm("norm.", self.norm), "scale": _array(self.scale), **heard}


class _Sage(nn.Module):
    def __init__(self, width: int, relations: int, heads: int) -> None:  # noqa: ARG002
        super().__init__()
        self.conv = SAGEConv((width, width), width)

    def forward(self, hidden: Tensor, is_query: Tensor, heard: Sequence[Heard]) -> Tensor:
        (edges,) = heard
        told: Tensor = self.conv((hidden, hidden[: len(is_query)]), _index(edges, hidden))
        return told

    def served(self) -> dict[str, NDArray[np.float32]]:
        return {
            "own.weight": _array(self.conv.lin_r.weight.T),
            "heard.weight": _array(self.conv.lin_l.weight.T),
            "bias": _array(self.conv.lin_l.bias),
        }


class _Gcn(nn.Module):
    def __init__(self, width: int, relations: int, heads: int) -> None:  # noqa: ARG002
        super().__init__()
        # Degrees are those of what was sampled, which the layer cannot see from its edges.
        self.conv = GCNConv(width, width, add_self_loops=False, normalize=False)

    def forward(self, hidden: Tensor, is_query: Tensor, heard: Sequence[Heard]) -> Tensor:
        (edges,) = heard
        size = len(is_query)
        weights = _tensor(np.concatenate(gcn_shares(edges)), hidden)
        # The layer answers for every node it is given; those that hear come first.
        told: Tensor = self.conv(hidden, _with_self(edges, size, hidden), weights)
        return told[:size]

    def served(self) -> dict[str, NDArray[np.float32]]:
        return {
            "heard.weight": _array(self.conv.lin.weight.T),
            "bias": _array(self.conv.bias),
        }


class _Gatv2(nn.Module):
    def __init__(self, width: int, relations: int, heads: int) -> None:
        super().__init__()
        self.conv = GATv2Conv(
            (width, width), width // heads, heads=heads, add_self_loops=False, edge_dim=relations
        )

    def forward(self, hidden: Tensor, is_query: Tensor, heard: Sequence[Heard]) -> Tensor:
        (edges,) = heard
        size = len(is_query)
        own = np.zeros((size, edges.attributes.shape[1]), np.float32)
        attributes = _tensor(np.concatenate([edges.attributes, own]), hidden)
        told: Tensor = self.conv(
            (hidden, hidden[:size]), _with_self(edges, size, hidden), edge_attr=attributes
        )
        return told

    def served(self) -> dict[str, NDArray[np.float32]]:
        conv = self.conv
        return {
            "heard.weight": _array(conv.lin_l.weight.T),
            "heard.bias": _array(conv.lin_l.bias),
            "own.weight": _array(conv.lin_r.weight.T),
            "own.bias": _array(conv.lin_r.bias),
            "edge.weight": _array(conv.lin_edge.weight.T),
            "attention": _array(conv.att[0]),
            "bias": _array(conv.bias),
        }


class _RSage(nn.Module):
    """R-SAGE: a SAGE for each relation into each kind of node, and one own part for each kind."""

    def __init__(self, width: int, relations: int, heads: int) -> None:  # noqa: ARG002
        super().__init__()
        self.own = nn.ModuleDict({kind: nn.Linear(width, width) for kind in _KINDS})
        self.convs = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    SAGEConv((width, width), width, root_weight=False, bias=False)
                    for _ in range(relations)
                )
                for kind in _KINDS
            }
        )

    def forward(self, hidden: Tensor, is_query: Tensor, heard: Sequence[Heard]) -> Tensor:
        mine = hidden[: len(is_query)]
        indices = [_index(edges, hidden) for edges in heard]
        told = []
        for kind in _KINDS:
            total = self.own[kind](mine)
            for conv, index in zip(self._of(kind), indices, strict=True):
                total = total + conv((hidden, mine), index)
            told.append(total)
        query, product = told
        return torch.where(is_query[:, None], query, product)

    def served(self) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for kind in _KINDS:
            found |= _linear(f"{kind}.own.", self.own[kind])
            for number, conv in enumerate(self._of(kind)):
                found[f"{kind}.{number}.weight"] = _array(conv.lin_l.weight.T)
        return found

    def _of(self, kind: str) -> Iterable[Any]:
        return cast(Iterable[Any], self.convs[kind])


_HEARING: dict[Convolution, Any] = {"sage": _Sage, "gcn": _Gcn, "gatv2": _Gatv2, "rsage": _RSage}


def _index(edges: Heard, like: Tensor) -> Tensor:
    pairs = np.stack([edges.sources, edges.hearers()])
    return torch.from_numpy(pairs).to(like.device)


def _with_self(edges: Heard, size: int, like: Tensor) -> Tensor:
    own = torch.arange(size, device=like.device).expand(2, -1)
    return torch.cat([_index(edges, like), own], dim=1)


def _tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(like.device)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _linear(prefix: str, linear: Any) -> dict[str, NDArray[np.float32]]:
    return {
        f"{prefix}weight": _array(linear.weight.T),
        f"{prefix}bias": _array(linear.bias),
    }


def _norm(prefix: str, norm: Any) -> dict[str, NDArray[np.float32]]:
    return {f"{prefix}weight": _array(norm.weight), f"{prefix}bias": _array(norm.bias)}

"""Trains the network and the head of a graph member on labelled pairs."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.graphs.sampling.neighbourhoods import Neighbourhoods
from models.graphs.sampling.sampler import Draw, Exclusion
from models.graphs.training.material import Material
from models.graphs.training.networks import GraphNetwork
from models.labels import LABELS
from models.locales import LOCALES, Locale
from models.member import Logits
from models.pairs import LabelledPairs
from models.training.classification import (
    classification_loss,
    classification_metrics,
    targets_of,
    weights_of,
)
from models.training.options import ClassificationOptions
from models.training.task import ParameterGroup
from models.vectors.comparison import ComparisonHead

_ANSWERED: Final = 1024  # pairs at a time
_LARGEST_DRAW: Final = 2**62


class Comparing(nn.Module):
    """Network and head, which learn together."""

    def __init__(self, network: GraphNetwork, head: ComparisonHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def groups(self) -> list[ParameterGroup]:
        """What learns: all of it, at one rate."""
        return [ParameterGroup(0, list(self.parameters()))]


class GraphTask:
    """Teaches states and head the labels of pairs; a batch is of one locale.

    Inductively, what is to be answered later has no edges: so while a pair is taught, its query is
    taken out of the graph, and with it all that the other pairs' queries of its batch have there.
    """

    def __init__(
        self,
        module: Comparing,
        around: Mapping[Locale, Neighbourhoods],
        train: Material,
        valid: Material,
        labels: tuple[LabelledPairs, LabelledPairs],
        options: ClassificationOptions,
        *,
        transductive: bool,
        cold_share: float,
        batch_size: int,
    ) -> None:
        self._module, self._around = module, around
        self._train, self._valid = train, valid
        taught, self._judged = labels[0], labels[1].labels
        self._targets = targets_of(taught.labels, options)
        self._weights = weights_of(taught.labels, train.query_rows, options)
        self._options, self._batch_size = options, batch_size
        self._transductive, self._cold_share = transductive, cold_share

    @property
    def module(self) -> nn.Module:
        """Network and head."""
        return self._module

    @property
    def lengths(self) -> NDArray[np.int64]:
        """One for each pair that is taught: batches are of pairs, not of tokens."""
        return np.ones(len(self._train.query_rows), np.int64)

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Pairs of one locale each, in random order, others in every epoch."""
        del epoch  # the generator knows it
        found: list[NDArray[np.int64]] = []
        for code in np.unique(self._train.locales):
            rows = generator.permutation(np.flatnonzero(self._train.locales == code))
            size = self._batch_size
            found += [rows[at : at + size] for at in range(0, len(rows), size)]
        return [found[at] for at in generator.permutation(len(found))]

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The mean loss of the pairs of `rows`."""
        draw = int(torch.randint(_LARGEST_DRAW, (1,)))

        def forward() -> Tensor:
            return self._logits(self._train, rows, device, draw)

        return classification_loss(
            forward,
            torch.from_numpy(self._targets[rows]).to(device),
            torch.from_numpy(self._weights[rows]).to(device),
            self._options,
        )

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """Metrics on the validation pairs; {} where there are none."""
        if not len(self._judged):
            return {}
        return classification_metrics(self.answers(device), self._judged, self._options)

    def answers(self, device: torch.device) -> Logits:
        """Logits of the validation pairs."""
        logits = np.empty((len(self._judged), len(LABELS)), np.float32)
        for code in np.unique(self._valid.locales):
            mine = np.flatnonzero(self._valid.locales == code)
            for start in range(0, len(mine), _ANSWERED):
                rows = mine[start : start + _ANSWERED]
                with torch.no_grad():
                    found = self._logits(self._valid, rows, device, None)
                logits[rows] = found.float().cpu().numpy()
        return logits

    def groups(self) -> Sequence[ParameterGroup]:
        """What learns."""
        return self._module.groups()

    def adversarial(self) -> Sequence[nn.Parameter]:
        """Nothing: features do not learn."""
        return []

    def _logits(
        self, material: Material, rows: NDArray[np.int64], device: torch.device, drawn: int | None
    ) -> Tensor:
        """Logits of pairs of one locale; `drawn` where they are taught."""
        around = self._around.get(LOCALES[int(material.locales[rows[0]])])
        around = around or next(iter(self._around.values()))
        queries, at_query = np.unique(material.query_rows[rows], return_inverse=True)
        products, at_product = np.unique(material.product_rows[rows], return_inverse=True)
        in_graph = material.queries.rows[queries]
        asked = in_graph if self._transductive else np.full_like(in_graph, -1)
        heard_by = material.products.rows[products]
        draw, excluded = None, None
        if drawn is not None:
            draw = Draw(drawn, around.hearing.draw.by, passing=True)
            if not self._transductive:
                hidden = np.zeros(len(around.featured.graph), bool)
                hidden[in_graph[in_graph >= 0]] = True
                excluded = Exclusion(nodes=hidden)
            if self._cold_share:
                # Some have to do without neighbours, as new products do.
                cold = np.random.default_rng(drawn).random(len(products)) < self._cold_share
                heard_by = np.where(cold, -1, heard_by)
        blocks = around.around(np.concatenate([asked, heard_by]), excluded, draw)
        features, is_query = around.inputs(
            blocks,
            np.concatenate(
                [material.queries.features[queries], material.products.features[products]]
            ),
            np.arange(len(queries) + len(products)) < len(queries),
        )
        states = self._module.network(
            torch.from_numpy(features).to(device), torch.from_numpy(is_query).to(device), blocks
        )
        logits: Tensor = self._module.head(
            states[torch.from_numpy(at_query).to(device)],
            states[torch.from_numpy(len(queries) + at_product).to(device)],
        )
        return logits

"""What a bi-encoder learns in a batch: the labels of its pairs, and the shape of its vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.labels import Codes
from models.language.metric.batches import grouped_batches
from models.language.metric.losses import metric_term
from models.language.metric.masks import Judgements
from models.language.metric.options import MetricOptions
from models.language.networks.towers import Tower, Towers
from models.language.reading.sequences import token_batches
from models.language.training.activations import EncodedTexts
from models.member import Logits
from models.pairs import LabelledPairs
from models.training.batching import length_bucketed
from models.training.classification import (
    classification_loss,
    classification_metrics,
    targets_of,
    weights_of,
)
from models.training.options import ClassificationOptions
from models.training.task import ParameterGroup

_EVALUATION_TOKENS = 8192
_EVALUATION_TEXTS = 512


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled pairs over the rows of encoded queries and products; their texts are let go."""

    queries: NDArray[np.int64]  # (pairs,), the encoded query of each
    products: NDArray[np.int64]  # (pairs,)
    labels: Codes  # (pairs,)

    @classmethod
    def of(cls, pairs: LabelledPairs, first_query: int, first_product: int) -> Self:
        """Of compact `pairs`, whose tables are what was encoded, from the offsets on."""
        queries = pairs.query_rows.astype(np.int64) + first_query
        return cls(queries, pairs.product_rows.astype(np.int64) + first_product, pairs.labels)

    def __len__(self) -> int:
        return len(self.labels)


class BiEncoderTask:
    """Towers over `queries` and `products`, whose rows hold those of `train`, then of `valid`."""

    def __init__(
        self,
        towers: Towers,
        queries: EncodedTexts,
        products: EncodedTexts,
        train: LabelledPairs,
        valid: LabelledPairs,
        classification: ClassificationOptions,
        metric: MetricOptions,
        batch_size: int,
    ) -> None:
        self.module: nn.Module = towers
        self._towers, self._queries, self._products = towers, queries, products
        self._train = Examples.of(train, 0, 0)
        self._valid = Examples.of(valid, len(train.queries), len(train.products))
        self._classification, self._metric = classification, metric
        self._batch_size = batch_size
        self._query_codes = train.queries.text_codes()[train.query_rows]
        self._targets = torch.from_numpy(targets_of(train.labels, classification))
        self._weights = torch.from_numpy(
            weights_of(train.labels, self._query_codes, classification)
        )
        self._judgements = (
            Judgements.of(train, metric.gains(), metric.in_batch) if metric.is_on else None
        )
        self._term = metric_term(metric)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of query and product of each pair."""
        found: NDArray[np.int64] = self._queries.lengths[self._train.queries]
        return found + self._products.lengths[self._train.products]

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Pairs of similar length, and with a metric term also pairs of one query, together."""
        del epoch  # the generator differs
        if not self._metric.is_on:
            return length_bucketed(self.lengths, self._batch_size, generator)
        return grouped_batches(
            self._query_codes,
            self.lengths,
            self._batch_size,
            self._metric.products_per_query,
            generator,
        )

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Classification of the pairs of `rows`, and the metric term over all they bring together.

        Every query and product of the batch is encoded once, or twice where R-Drop asks for it.
        """
        queries, at_query = np.unique(self._train.queries[rows], return_inverse=True)
        products, at_product = np.unique(self._train.products[rows], return_inverse=True)
        encoded: list[tuple[Tensor, Tensor]] = []

        def forward() -> Tensor:
            q = _vectors(self._towers.query, self._queries, queries, device)
            p = _vectors(self._towers.product, self._products, products, device)
            encoded.append((q, p))
            logits: Tensor = self._towers.head(q[at_query], p[at_product])
            return logits

        at = torch.from_numpy(rows)
        loss = classification_loss(
            forward,
            self._targets[at].to(device),
            self._weights[at].to(device),
            self._classification,
        )
        if self._judgements is not None:
            gains = torch.from_numpy(self._judgements.block(queries, products)).to(device)
            loss = loss + self._term(*encoded[0], gains)
        return loss

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """Classification metrics of the validation side; {} without one."""
        if not len(self._valid):
            return {}
        logits = self.logits(self._valid, device)
        return classification_metrics(logits, self._valid.labels, self._classification)

    def logits(self, examples: Examples, device: torch.device) -> Logits:
        """Four logits per pair of `examples`, with the network as it now is."""
        every = np.arange(len(examples))
        queries, at_query = np.unique(examples.queries, return_inverse=True)
        products, at_product = np.unique(examples.products, return_inverse=True)
        with torch.no_grad():
            q = _all_vectors(self._towers.query, self._queries, queries, device)
            p = _all_vectors(self._towers.product, self._products, products, device)
            logits = [
                self._towers.head(q[at_query[part]], p[at_product[part]]).float().cpu().numpy()
                for part in np.array_split(every, -(-len(every) // _EVALUATION_TOKENS))
            ]
        return np.concatenate(logits)

    def groups(self) -> Sequence[ParameterGroup]:
        """What is trained, by depth."""
        return self._towers.groups()

    def adversarial(self) -> Sequence[nn.Parameter]:
        """The word embeddings that learn."""
        tables = [self._towers.query.encoder.word_embeddings]
        if self._towers.product is not self._towers.query:
            tables.append(self._towers.product.encoder.word_embeddings)
        return [table for table in tables if table.requires_grad]


def _vectors(
    tower: Tower, texts: EncodedTexts, rows: NDArray[np.int64], device: torch.device
) -> Tensor:
    return tower.from_pooled(texts.vectors(rows, device))


def _all_vectors(
    tower: Tower, texts: EncodedTexts, rows: NDArray[np.int64], device: torch.device
) -> Tensor:
    """Vectors of many texts, a batch of similar length at a time."""
    vectors = torch.empty(len(rows), tower.width, device=device)
    for batch in token_batches(texts.lengths[rows], _EVALUATION_TOKENS, _EVALUATION_TEXTS):
        vectors[batch] = _vectors(tower, texts, rows[batch], device).float()
    return vectors

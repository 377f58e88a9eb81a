"""Labelled pairs as the training loop wants them, for a network that reads a pair as one text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.labels import LABELS, Codes
from models.language.networks.cross import CrossNetwork
from models.language.reading.sequences import token_batches
from models.language.training.activations import EncodedTexts
from models.member import Logits
from models.training.batching import length_bucketed
from models.training.classification import classification_loss, classification_metrics
from models.training.options import ClassificationOptions
from models.training.task import ParameterGroup

_ANSWER_TOKENS: Final = 8192  # of a batch without gradients, with padding
_ANSWER_TEXTS: Final = 512


@dataclass(frozen=True, eq=False)
class Judged:
    """Pairs by their rows among the encoded texts, and what is known of them."""

    rows: NDArray[np.int64]
    labels: Codes


@dataclass(frozen=True, eq=False)
class Taught:
    """Pairs to learn from, by their rows among the encoded texts."""

    rows: NDArray[np.int64]
    targets: NDArray[np.float32]  # (pairs, 4), each row a distribution over LABELS
    weights: NDArray[np.float32]  # (pairs,), 1 in the mean


class PairTask:
    """Teaches a `CrossNetwork` the labels of pairs."""

    def __init__(
        self,
        network: CrossNetwork,
        texts: EncodedTexts,
        taught: Taught,
        valid: Judged,
        options: ClassificationOptions,
        batch_size: int,
    ) -> None:
        self.network, self.texts = network, texts
        self._taught, self._valid = taught, valid
        self._options, self._batch_size = options, batch_size

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair that is taught."""
        return self.texts.lengths[self._taught.rows]

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Pairs of similar length in random order, others in every epoch."""
        del epoch  # the generator knows it
        return length_bucketed(self.lengths, self._batch_size, generator)

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The mean loss of the pairs `rows` of those that are taught."""
        texts = self._taught.rows[rows]
        return classification_loss(
            lambda: self.network.classify(self.texts.vectors(texts, device)),
            torch.from_numpy(self._taught.targets[rows]).to(device),
            torch.from_numpy(self._taught.weights[rows]).to(device),
            self._options,
        )

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """Metrics on the validation pairs; {} where there are none."""
        if not len(self._valid.rows):
            return {}
        logits = answer(self.network, self.texts, self._valid.rows, device)
        return classification_metrics(logits, self._valid.labels, self._options)

    def groups(self) -> Sequence[ParameterGroup]:
        """The head, and the encoder's layers that learn."""
        head = ParameterGroup(0, list(self.network.head.parameters()))
        return [head, *self.network.encoder.groups()]

    def adversarial(self) -> Sequence[nn.Parameter]:
        """The token vectors, where they learn."""
        table = self.network.encoder.word_embeddings
        return [table] if table.requires_grad else []


@torch.no_grad()
def answer(
    network: CrossNetwork, texts: EncodedTexts, rows: NDArray[np.int64], device: torch.device
) -> Logits:
    """Logits of the pairs `rows` of `texts`; the network is to be in evaluation mode."""
    logits = np.empty((len(rows), len(LABELS)), np.float32)
    for batch in token_batches(texts.lengths[rows], _ANSWER_TOKENS, _ANSWER_TEXTS):
        found = network.classify(texts.vectors(rows[batch], device))
        logits[batch] = found.float().cpu().numpy()
    return logits

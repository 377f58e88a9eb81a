"""Masked-language modelling: guess the words that were taken out of a text."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.language.networks.encoder import Encoder
from models.language.pretraining.head import MaskedHead
from models.language.pretraining.masking import Vocabulary, choose, corrupted
from models.language.pretraining.options import MaskingOptions
from models.language.reading.sequences import Sequences, padded, token_batches
from models.training.batching import length_bucketed
from models.training.task import ParameterGroup

# Held-out texts are masked alike every time, so that two measurements can be compared.
_MEASURED_SEED: Final = 20_260_101
_MEASURED_TOKENS: Final = 4_096  # at a time


class MaskedModel(nn.Module):
    """An encoder and the head that guesses its tokens."""

    def __init__(self, encoder: Encoder, head: MaskedHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor, chosen: Tensor) -> Tensor:
        """Logits over the vocabulary for the `chosen` places alone, (places, vocabulary)."""
        states = self.encoder.states(ids, mask, segments)[chosen]
        logits: Tensor = self.head(states, self.encoder.word_embeddings)
        return logits


class MaskedTask:
    """What the training loop is told of masked-language modelling."""

    def __init__(
        self,
        model: MaskedModel,
        examples: Sequences,
        measured: Sequences,
        *,
        vocabulary: Vocabulary,
        pad_id: int,
        batch_size: int,
        options: MaskingOptions,
    ) -> None:
        self._model = model
        self._examples, self._measured = examples, measured
        self._lengths = examples.lengths()
        self._vocabulary, self._pad_id = vocabulary, pad_id
        self._batch_size, self._options = batch_size, options

    @property
    def module(self) -> MaskedModel:
        """The encoder with its head."""
        return self._model

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return self._lengths

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Batches of texts of similar length."""
        del epoch
        return length_bucketed(self._lengths, self._batch_size, generator)

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The mean cross-entropy of the tokens to guess, chosen anew."""
        logits, truth = self._guessed(self._examples, rows, device, None)
        return functional.cross_entropy(logits.float(), truth)

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """Perplexity over the tokens to guess in the held-out texts, and how many were right."""
        total, right, count = 0.0, 0, 0
        generator = torch.Generator().manual_seed(_MEASURED_SEED)
        lengths = self._measured.lengths()
        with torch.no_grad():
            for rows in token_batches(lengths, _MEASURED_TOKENS, len(lengths)):
                logits, truth = self._guessed(self._measured, rows, device, generator)
                total += float(functional.cross_entropy(logits.float(), truth, reduction="sum"))
                right += int((logits.argmax(dim=1) == truth).sum())
                count += len(truth)
        if not count:
            return {}
        return {
            "score": -total / count,
            "perplexity": exp(min(total / count, 100.0)),
            "masked_accuracy": right / count,
        }

    def groups(self) -> Sequence[ParameterGroup]:
        """The head, then the backbone's layers from the top; the embeddings are the lowest."""
        return [ParameterGroup(0, list(self._model.head.parameters())), *self._encoder.groups()]

    def adversarial(self) -> Sequence[nn.Parameter]:
        """The word embeddings, where they are trained."""
        table = self._encoder.word_embeddings
        return [table] if table.requires_grad else []

    @property
    def _encoder(self) -> Encoder:
        return self._model.encoder

    def _guessed(
        self,
        texts: Sequences,
        rows: NDArray[np.int64],
        device: torch.device,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the tokens to guess in `rows`, and what they are."""
        batch = padded(texts, rows, self._pad_id)
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        # Drawn on the processor, so that every device is asked the same.
        chosen = choose(ids, mask, self._vocabulary, self._options, generator)
        shown = corrupted(ids, chosen, self._vocabulary, self._options, generator)
        truth = ids[chosen].to(device)
        segments = torch.from_numpy(batch.segments)
        logits = self._model(*(t.to(device) for t in (shown, mask, segments, chosen)))
        return logits, truth

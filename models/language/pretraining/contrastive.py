"""Contrastive pre-training: two views of one product together, those of others apart.

A product's title and its other fields say the same thing in other words, much as a query does. A
text without a second view is paired with itself under another dropout (Gao et al., "SimCSE", EMNLP
2021).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.language.metric.losses import info_nce
from models.language.networks.encoder import Encoder
from models.language.pretraining.options import ContrastOptions
from models.language.reading.sequences import Sequences, padded, token_batches
from models.training.batching import length_bucketed
from models.training.task import ParameterGroup

_MEASURED_TOKENS: Final = 8_192  # at a time


@dataclass(frozen=True, eq=False)
class Views:
    """Two texts of each example; the codes are equal where two texts are."""

    first: Sequences
    second: Sequences
    first_codes: NDArray[np.int64]
    second_codes: NDArray[np.int64]

    @classmethod
    def of(cls, first: Sequences, second: Sequences) -> "Views":
        """Views with the codes that their token ids give."""
        code_of: dict[bytes, int] = {}

        def codes(texts: Sequences) -> NDArray[np.int64]:
            ids = np.split(texts.ids, texts.starts[1:-1])
            found = (code_of.setdefault(text.tobytes(), len(code_of)) for text in ids)
            return np.fromiter(found, np.int64, len(texts))

        return cls(first, second, codes(first), codes(second))

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: NDArray[np.int64]) -> "Views":
        """The views of `rows`."""
        return Views(
            self.first.take(rows),
            self.second.take(rows),
            self.first_codes[rows],
            self.second_codes[rows],
        )

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Which first view (rows) attracts which second (columns): 1, −1, or 0 for neither.

        Two examples that share a text are no negatives of each other: the same product is listed
        twice, or all that is known of both is one brand.
        """
        one, two = self.first_codes[rows], self.second_codes[rows]
        same = (
            (one[:, None] == one)
            | (two[:, None] == two)
            | (one[:, None] == two)
            | (two[:, None] == one)
        )
        gains = np.where(same, 0, -1).astype(np.float32)
        np.fill_diagonal(gains, 1)
        return gains


class ContrastiveTask:
    """What the training loop is told of contrastive pre-training."""

    def __init__(
        self,
        encoder: Encoder,
        examples: Views,
        measured: Views,
        *,
        pad_id: int,
        batch_size: int,
        options: ContrastOptions,
    ) -> None:
        self._encoder = encoder
        self._examples = examples
        # A text and itself are one without dropout: there is nothing to measure.
        differ = measured.first_codes != measured.second_codes
        self._measured = measured.take(np.flatnonzero(differ))
        self._lengths = examples.first.lengths() + examples.second.lengths()
        self._pad_id, self._batch_size, self._options = pad_id, batch_size, options

    @property
    def module(self) -> Encoder:
        """The encoder."""
        return self._encoder

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of both views of each example."""
        return self._lengths

    def batches(self, epoch: int, generator: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Batches of examples of similar length; a last one of a single example is left out."""
        del epoch
        batches = length_bucketed(self._lengths, self._batch_size, generator)
        return [rows for rows in batches if len(rows) > 1]  # alone, it has nothing to differ from

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """InfoNCE in both directions within the batch."""
        first = self._vectors(self._examples.first, rows, device)
        second = self._vectors(self._examples.second, rows, device)
        gains = torch.from_numpy(self._examples.gains(rows)).to(device)
        with torch.autocast(device.type, enabled=False):
            return info_nce(first @ second.T, gains, self._options.temperature)

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        """How near the two views of held-out products are, and how well one finds the other.

        `alignment` is the mean squared distance of two views and `uniformity` the log of the mean
        Gaussian potential of all first views (Wang & Isola, ICML 2020): both are better when
        lower. `found_first` is the share of first views nearest to their own second, and `score`
        the mean reciprocal rank.
        """
        count = len(self._measured)
        if count < 2:
            return {}
        first = self._all_vectors(self._measured.first, device)
        second = self._all_vectors(self._measured.second, device)
        similarities = first @ second.T
        gains = torch.from_numpy(self._measured.gains(np.arange(count)))
        own = similarities.diagonal()
        # What shares a text is no rival.
        rivals = similarities.masked_fill(gains >= 0, -torch.inf)
        ranks = 1 + (rivals >= own[:, None]).sum(dim=1)
        potentials = torch.pdist(first).pow(2).mul(-2).exp()
        return {
            "score": float((1 / ranks).mean()),
            "found_first": float((ranks == 1).float().mean()),
            "alignment": float((first - second).pow(2).sum(dim=1).mean()),
            "uniformity": float(potentials.mean().log()),
        }

    def groups(self) -> Sequence[ParameterGroup]:
        """The backbone's layers from the top."""
        return self._encoder.groups()

    def adversarial(self) -> Sequence[nn.Parameter]:
        """The word embeddings, where they are trained."""
        table = self._encoder.word_embeddings
        return [table] if table.requires_grad else []

    def _vectors(self, texts: Sequences, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        batch = padded(texts, rows, self._pad_id)
        arrays = (batch.ids, batch.mask, batch.segments)
        vectors = self._encoder(*(torch.from_numpy(array).to(device) for array in arrays))
        return functional.normalize(vectors.float(), dim=1)

    def _all_vectors(self, texts: Sequences, device: torch.device) -> Tensor:
        vectors = torch.empty(len(texts), self._encoder.width)
        with torch.no_grad():
            for rows in token_batches(texts.lengths(), _MEASURED_TOKENS, len(texts)):
                vectors[rows] = self._vectors(texts, rows, device).cpu()
        return vectors

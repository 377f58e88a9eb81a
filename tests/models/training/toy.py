"""A task small enough to train in a blink, with everything the loop looks at: dropout, embeddings,
two depths, and examples of several lengths.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.batching import length_bucketed
from models.training.task import ParameterGroup

WORDS, CLASSES = 40, 3


class ToyNetwork(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, CLASSES)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        mean = (self.words(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(self.dropout(self.norm(mean)))


class ToyTask:
    """Which class the words of an example are of; a word's class is its number modulo three."""

    def __init__(
        self,
        *,
        examples: int = 60,
        batch_size: int = 8,
        dropout: float = 0.3,
        scores: Sequence[float] | None = None,
        breaks_after: int | None = None,
    ) -> None:
        random = np.random.default_rng(0)
        self.lengths = random.integers(1, 9, examples)
        self.labels = torch.from_numpy(random.integers(0, CLASSES, examples))
        width = int(self.lengths.max())
        self.mask = torch.from_numpy(np.arange(width) < self.lengths[:, None]).float()
        drawn = random.integers(0, WORDS // CLASSES, (examples, width)) * CLASSES
        self.ids = torch.from_numpy(drawn) + self.labels[:, None]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = ToyNetwork(dropout)
        self.batch_size = batch_size
        self.scores = None if scores is None else list(scores)
        self.breaks_after = breaks_after
        self.losses: list[tuple[list[int], float]] = []

    def batches(self, epoch: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        del epoch
        return length_bucketed(self.lengths, self.batch_size, generator, pool=2)

    def loss(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        if self.breaks_after is not None and len(self.losses) >= self.breaks_after:
            raise InterruptedError("the power went")
        logits = self.module(self.ids[rows].to(device), self.mask[rows].to(device))
        loss = nn.functional.cross_entropy(logits, self.labels[rows].to(device))
        self.losses.append((rows.tolist(), float(loss.detach())))
        return loss

    def evaluate(self, device: torch.device) -> Mapping[str, float]:
        if self.scores is not None:
            return {"score": self.scores.pop(0)} if self.scores else {}
        logits = self.module(self.ids.to(device), self.mask.to(device))
        right = (logits.argmax(1).cpu() == self.labels).float().mean()
        return {"accuracy": float(right), "score": float(right)}

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup(0, list(self.module.head.parameters())),
            ParameterGroup(1, list(self.module.norm.parameters())),
            ParameterGroup(2, list(self.module.words.parameters())),
        ]

    def adversarial(self) -> list[nn.Parameter]:
        return [self.module.words.weight]

    def weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.module.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two networks are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)

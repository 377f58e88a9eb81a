"""A cross-encoder: query and product read as one text, four logits out."""

from pathlib import Path
from typing import Final, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import ReleaseError
from models.files import atomic_file
from models.labels import LABELS
from models.language.networks.encoder import Encoder

HEAD_FILE: Final = "head.safetensors"


class CrossNetwork(nn.Module):
    """An encoder, dropout, and a linear layer from its vector to the logits, ordered as LABELS."""

    def __init__(self, encoder: Encoder, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.width, len(LABELS))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """Logits of pairs as token ids, (pairs, 4)."""
        return self.classify(self.encoder(ids, mask, segments))

    def classify(self, vectors: Tensor) -> Tensor:
        """Logits of pairs as the encoder's vectors, (pairs, 4)."""
        logits: Tensor = self.head(self.dropout(vectors))
        return logits

    def merged(self) -> "CrossNetwork":
        """A network that answers the same without adapters; itself where there are none."""
        encoder = self.encoder.merged()
        if encoder is self.encoder:
            return self
        with torch.random.fork_rng(devices=[]):
            plain = CrossNetwork(encoder)
        plain.head.load_state_dict(self.head.state_dict())
        return plain.eval()

    def save(self, folder: Path) -> None:
        """Write the encoder's folder, which can be a backbone again, and the head beside it."""
        self.encoder.save(folder)
        tensors = {name: t.detach().cpu() for name, t in self.head.state_dict().items()}
        with atomic_file(folder / HEAD_FILE) as scratch:
            save_file(tensors, scratch)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The network saved in `folder`, in evaluation mode and without dropout."""
        # What is drawn for the head is overwritten at once.
        with torch.random.fork_rng(devices=[]):
            network = cls(Encoder.load(folder))
        try:
            network.head.load_state_dict(load_file(folder / HEAD_FILE))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ReleaseError(
                f"{folder} holds no head for four labels: {error}; restore the folder"
            ) from error
        return network.eval()

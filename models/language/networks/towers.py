"""Towers of a bi-encoder: token ids to unit vectors, and the head that compares two of them."""

from pathlib import Path
from typing import Final, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ReleaseError
from models.files import atomic_file
from models.language.networks.encoder import Encoder
from models.training.task import ParameterGroup
from models.vectors.comparison import ComparisonHead

PROJECTION_FILE: Final = "projection.safetensors"
HEAD_FILE: Final = "head.safetensors"


class Tower(nn.Module):
    """An encoder, a projection if one is asked for, and unit length; what is exported.

    A projection as wide as the encoder begins as the identity, so that it changes nothing until it
    has learned; a narrower one begins as a random orthogonal one.
    """

    def __init__(self, encoder: Encoder, dimensions: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = dimensions or encoder.width
        self.projection: nn.Linear | None = None
        if dimensions is not None:
            self.projection = nn.Linear(encoder.width, dimensions, bias=False)
            if dimensions == encoder.width:
                nn.init.eye_(self.projection.weight)
            else:
                nn.init.orthogonal_(self.projection.weight)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """A unit vector per text, (texts, width)."""
        return self.from_pooled(self.encoder(ids, mask, segments))

    def from_pooled(self, pooled: Tensor) -> Tensor:
        """Unit vectors from what the encoder gives; in float32 from there on."""
        if self.projection is not None:
            pooled = self.projection(pooled)
        return functional.normalize(pooled.float(), dim=1)

    def merged(self) -> "Tower":
        """A tower that answers the same without adapters; itself where there are none."""
        encoder = self.encoder.merged()
        if encoder is self.encoder:
            return self
        return Tower._of(encoder, self.projection.weight.detach() if self.projection else None)

    def save(self, folder: Path) -> None:
        """Write the encoder's folder, which can be a backbone again, and the projection beside."""
        self.encoder.save(folder)
        if self.projection is not None:
            _save(self.projection, folder / PROJECTION_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tower saved in `folder`, in evaluation mode."""
        encoder, path = Encoder.load(folder), folder / PROJECTION_FILE
        try:
            weight = load_file(path)["weight"] if path.exists() else None
        except (OSError, SafetensorError, KeyError) as error:
            raise ReleaseError(f"{path} is no projection: {error}; restore the folder") from error
        return cls._of(encoder, weight)

    @classmethod
    def _of(cls, encoder: Encoder, weight: Tensor | None) -> Self:
        # What is drawn for the projection is overwritten at once.
        with torch.random.fork_rng(devices=[]):
            tower = cls(encoder, None if weight is None else len(weight))
        if tower.projection is not None and weight is not None:
            tower.projection.load_state_dict({"weight": weight})
        return tower.eval()


class Towers(nn.Module):
    """One tower for queries and products, or one each, and the head over both."""

    def __init__(self, towers: list[Tower], head: ComparisonHead) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.head = head

    @classmethod
    def starting(
        cls, encoders: list[Encoder], dimensions: int | None, hidden: int, dropout: float
    ) -> Self:
        """Towers of one backbone opened once, or twice; two begin as one.

        What was drawn apart for each, as projections are, would make their vectors incomparable.
        """
        towers = [Tower(encoder, dimensions) for encoder in encoders]
        for other in towers[1:]:
            other.load_state_dict(towers[0].state_dict())
        return cls(towers, ComparisonHead(towers[0].width, hidden, dropout))

    @property
    def query(self) -> Tower:
        """The tower of queries."""
        return self._tower(0)

    @property
    def product(self) -> Tower:
        """The tower of products: the queries' own where it is shared."""
        return self._tower(-1)

    def _tower(self, at: int) -> Tower:
        return cast(Tower, self.towers[at])

    def named(self) -> dict[str, Tower]:
        """The towers by what they read: "both", or "query" and "product"."""
        names = ("both",) if len(self.towers) == 1 else ("query", "product")
        return dict(zip(names, (self._tower(at) for at in range(len(names))), strict=True))

    def groups(self) -> list[ParameterGroup]:
        """What takes gradients, by depth: 0 head and projections, then the layers of each tower."""
        top = list(self.head.parameters())
        below = []
        for tower in dict.fromkeys([self.query, self.product]):
            if tower.projection is not None:
                top += tower.projection.parameters()
            below += tower.encoder.groups()
        return [ParameterGroup(0, top), *below]

    def save(self, folder: Path) -> None:
        """Write a folder for each tower, and the head beside them."""
        for name, tower in self.named().items():
            tower.save(folder / name)
        _save(self.head, folder / HEAD_FILE)


def _save(module: nn.Module, path: Path) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    with atomic_file(path) as scratch:
        save_file(tensors, scratch)

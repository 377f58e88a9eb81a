"""The head that compares two vectors, while it learns; `head.PairHead` is what it becomes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.labels import LABELS
from models.vectors.head import PairHead


class ComparisonHead(nn.Module):
    """Four logits of two unit vectors, from [q, p, |q - p|, q * p].

    Inputs are scaled so that each is of the order of one, whatever the width: a number of a unit
    vector is of the order of 1 / sqrt(width), and the optimiser's steps do not know that.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(4 * width, hidden or len(LABELS))
        self.second = nn.Linear(hidden, len(LABELS)) if hidden else None

    def forward(self, queries: Tensor, products: Tensor) -> Tensor:
        """Logits (pairs, 4) of row i of `queries` with row i of `products`."""
        q, p = self._scale() * queries, self._scale() * products
        together = torch.cat([q, p, (q - p).abs(), q * p], dim=1)
        outputs: Tensor = self.first(self.dropout(together))
        if self.second is not None:
            outputs = self.second(self.dropout(functional.relu(outputs)))
        return outputs

    def _scale(self) -> float:
        return float(self.width**0.5)

    def weights(self) -> PairHead:
        """The same function of unscaled vectors, for serving."""
        scale = np.float32(self._scale())
        parts = np.split(_array(self.first.weight.T), 4)
        second = self.second
        nothing = np.zeros((0, len(LABELS)), np.float32)
        return PairHead(
            of_query=parts[0] * scale,
            of_product=parts[1] * scale,
            of_distance=parts[2] * scale,
            of_agreement=parts[3] * scale * scale,
            first_bias=_array(self.first.bias),
            second=_array(second.weight.T) if second else nothing,
            second_bias=_array(second.bias) if second else np.zeros(len(LABELS), np.float32),
        )


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())

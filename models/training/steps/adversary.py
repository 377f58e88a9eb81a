"""An adversary on the embeddings (FGM): the step also learns from what confuses it most."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
@torch.no_grad()
def pushed(embeddings: Sequence[nn.Parameter], length: float) -> Iterator[bool]:
    """Embeddings moved by `length` along their gradient, and put back exactly when the block ends.

    r = ε g / ‖g‖ for each embedding matrix (Miyato et al. 2017, eq. 3, with the gradient of the
    step's mean loss). Says whether there was a gradient to move along; one that is not finite, as
    mixed precision may give, is none.
    """
    saved: list[tuple[nn.Parameter, Tensor, Tensor]] = []
    for embedding in embeddings:
        gradient = embedding.grad
        if gradient is None:
            continue
        norm = torch.linalg.vector_norm(gradient, dtype=torch.float32)
        if not torch.isfinite(norm) or norm == 0:
            continue
        # A vocabulary may take a gigabyte and a batch names few of its rows.
        rows = gradient.abs().amax(dim=1).nonzero().squeeze(1)
        saved.append((embedding, rows, embedding[rows].clone()))
        embedding[rows] += length * gradient[rows] / norm
    try:
        with torch.enable_grad():
            yield bool(saved)
    finally:
        for embedding, rows, values in saved:
            embedding[rows] = values

"""What tests of the GPU path share. Where torch has no GPU they are skipped, and say so."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")


@contextmanager
def using_gpu() -> Iterator[None]:
    """Fails where the block took no memory of a GPU."""
    torch.cuda.init()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    yield
    assert torch.cuda.max_memory_allocated() > before

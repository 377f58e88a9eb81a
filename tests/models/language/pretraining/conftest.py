import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are faster on one thread, and many times so where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

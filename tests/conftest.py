"""Settings for every test."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.redis_server import RedisServer

# Before anything numerical is loaded: the workers of pytest share the cores already, and threads
# that wait for each other on busy cores take several times as long as one alone. Processes that
# tests start inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ESCI_LANGUAGE_THREADS"):
    os.environ.setdefault(_name, "1")

# Two workers on two busy cores: how long one example takes says nothing about the code.
settings.register_profile("esci", deadline=None, print_blob=True)
settings.load_profile("esci")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RedisServer]":
    """A real Redis for the tests of a file."""
    from tests.redis_server import RedisServer

    server = RedisServer(tmp_path_factory.mktemp("r"))  # the path of its socket must be short
    server.start()
    yield server
    server.stop()

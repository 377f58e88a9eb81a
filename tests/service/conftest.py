from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import httpx
import pytest

from models.pairs import Pairs, Products
from models.registry import KINDS
from models.release import Release, load_release, write_release
from service import Settings, running
from tests.service.hashing_member import HashingMember

Start = Callable[..., AbstractContextManager[str]]


def write_hashing_release(parent: Path, salt: int = 0) -> Path:
    products = Products.of(
        [{"product_id": str(row), "locale": "us", "title": f"mouse {row}"} for row in range(4)]
    )
    return write_release(
        parent,
        [("hashing", HashingMember("hashing", salt))],
        Pairs.of_query("mouse", "us", products),
        metrics={"macro_f1": 0.25},
        configuration={"salt": salt},
        versions={"numpy": "2"},
        data_fingerprint="none",
    )


@pytest.fixture(scope="session", autouse=True)
def hashing_kind() -> Iterator[None]:
    KINDS["hashing"] = "tests.service.hashing_member:HashingMember"
    yield
    del KINDS["hashing"]


@pytest.fixture(scope="session")
def release_folder(hashing_kind: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hashing_release(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="session")
def release(release_folder: Path) -> Release:
    return load_release(release_folder)


@pytest.fixture(scope="session")
def settings(release_folder: Path) -> Callable[..., Settings]:
    """Settings of a service on a free port, with what a test changes."""
    return partial(Settings, release=release_folder, port=0, cache="memory://", max_pairs=100)


@pytest.fixture(scope="session")
def address(settings: Callable[..., Settings]) -> Iterator[str]:
    """A service that every test may ask, as long as it holds nothing up."""
    with running(settings(max_body_bytes=200_000, max_text_characters=5_000)) as address:
        yield address


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client

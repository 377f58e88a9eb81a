"""A demo catalogue, and a run of a graph member on it that was published."""

from pathlib import Path
from typing import Any

import pytest

from models.release_registry import ReleaseRegistry
from models.typed import parse
from pipelines.config import TrainConfig
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.publish import publish
from pipelines.training.train import train_run
from tests.pipelines.made import Made

TINY = {
    "features": 24,
    "width": 24,
    "fan_outs": [4, 3],
    "heads": 2,
    "hidden": 16,
    "training": {"epochs": 2, "batch_size": 64, "learning_rate": 1e-2, "patience": 0},
}


def config(**options: Any) -> TrainConfig:
    """A training of one graph member, called gnn."""
    entry = {"name": "gnn", "kind": "gnn", "options": TINY | options}
    return parse(TrainConfig, {"members": [entry]})


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    generate(folder, DemoOptions(products=400, seed=3))
    return folder


@pytest.fixture(scope="session")
def made(data, tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("graphs")
    train_run(data, folder / "run", config(), threads=1)
    publish(folder / "run", data, ReleaseRegistry(folder / "registry"))
    return Made(data, folder / "run", folder / "registry")

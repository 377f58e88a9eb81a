"""A demo catalogue, a run of one tiny bi-encoder on it, and the registry it was published to."""

import fcntl
import os

import pytest

from models.language.metric.options import MetricOptions
from models.language.reading.reader import TextOptions
from models.language.served_towers import ServedTowers
from models.language.serving.options import ServingOptions
from models.members.bi_encoder import BiEncoderOptions
from models.release_registry import ReleaseRegistry
from models.training.options import TrainingOptions
from models.typed import plain
from pipelines.config import MemberConfig, TrainConfig
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.publish import publish
from pipelines.training.train import train_run
from tests.pipelines.made import Made

OPTIONS = BiEncoderOptions(
    backbone="tiny",
    hidden=0,
    text=TextOptions(max_tokens=32, query_tokens=16, fields=(("title", 24), ("brand", 6))),
    training=TrainingOptions(epochs=1, batch_size=32, learning_rate=3e-3, precision="fp32"),
    metric=MetricOptions(loss="info_nce"),
    serving=ServingOptions(variants=("fp32",), measure_seconds=0, exact_flip_rate=1),
)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many products were encoded, call by call."""
    counts, encode = [], ServedTowers.encoded_products

    def counted(self, products):
        counts.append(len(products))
        return encode(self, products)

    monkeypatch.setattr(ServedTowers, "encoded_products", counted)
    return counts


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """Made once, also where several workers of pytest ask: to export a network takes seconds."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = Made(*(base / "embedding" / name for name in Made._fields))
    with (base / "embedding.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.registry.exists():  # it is made last
            generate(found.data, DemoOptions(products=200))
            member = MemberConfig(name="bi", kind="bi_encoder", options=plain(OPTIONS))
            train_run(found.data, found.run, TrainConfig(members=[member]), threads=1)
            publish(found.run, found.data, ReleaseRegistry(found.registry))
    return found

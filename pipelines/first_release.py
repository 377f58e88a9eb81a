"""What `esci run` makes where nothing is trained yet: demo data if needed, and a release."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.files import scratch_folder
from models.release_registry import ReleaseRegistry
from pipelines.config import TrainConfig
from pipelines.console import err, progress, watched
from pipelines.dataset.layout import is_dataset
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.publish import publish
from pipelines.training.train import train_run


def train_first_release(folder: Path) -> None:
    """Give the registry in `folder` a champion trained on the demo catalogue, if it has none."""
    registry = ReleaseRegistry(folder)
    with _alone(folder):
        if registry.champion():
            return  # whoever was here before has trained it
        data = folder / "demo"
        if not is_dataset(data):
            options = DemoOptions()
            with progress("generating the demo catalogue", options.steps()) as tick:
                generate(data, options, tick)
        config = TrainConfig()
        with scratch_folder(folder, "first") as scratch:
            train_run(data, scratch / "run", config, watched)
            err.print("judging on held-out queries")
            publish(scratch / "run", data, registry)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; a second one waits and says so."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            err.print(f"another process is training in {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

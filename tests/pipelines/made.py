"""What the tests of verbs over a published run are given."""

from pathlib import Path
from typing import NamedTuple

from models.release_registry import ReleaseRegistry


class Made(NamedTuple):
    """Folders that no test may change: of a dataset, a run of one member and its registry."""

    data: Path
    run: Path
    registry: Path

    @property
    def release(self) -> Path:
        champion = ReleaseRegistry(self.registry).champion()
        assert champion
        return champion

    @property
    def member(self) -> Path:
        (folder,) = (self.run / "members").iterdir()
        return folder

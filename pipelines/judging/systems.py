"""The predictions files that are judged: what each says, its name, the hash of its bytes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.files import file_sha256
from models.judge.judged import System
from pipelines.judging.judged import JudgedSplit
from pipelines.predictions import Predictions, align, read_predictions


@dataclass(frozen=True, eq=False)
class PredictionsFile:
    """One system in one file."""

    path: Path
    member: str | None

    @cached_property
    def predictions(self) -> Predictions:
        """What it says, read once."""
        return read_predictions(self.path, self.member)

    def system(self, part: JudgedSplit, name: str) -> System:
        """Its answers to the judged pairs."""
        return System.of(name, align(self.path, self.predictions, part.example_ids, part.known_ids))

    def to_json(self) -> dict[str, str | None]:
        """Where it lies and the SHA-256 of its bytes."""
        return {
            "path": str(self.path),
            "sha256": file_sha256(self.path),
            "member": self.member,
        }


def names_of(first: PredictionsFile, second: PredictionsFile | None) -> tuple[str, str]:
    """What tells two files apart: member or file name, with the folder or the path if need be."""
    if second is None:
        return _plain(first), ""
    for name in (_plain, _with_folder):
        if name(first) != name(second):
            return name(first), name(second)
    return _with_path(first), _with_path(second)


def _plain(one: PredictionsFile) -> str:
    return one.member or one.path.stem


def _with_folder(one: PredictionsFile) -> str:
    return f"{one.path.absolute().parent.name}/{one.path.stem}{_suffix(one)}"


def _with_path(one: PredictionsFile) -> str:
    return f"{one.path}{_suffix(one)}"


def _suffix(one: PredictionsFile) -> str:
    return f" {one.member}" if one.member else ""

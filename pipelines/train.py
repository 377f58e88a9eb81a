"""Trains the members a configuration names and writes a run folder.

    <run>/
      run.json                    configuration as resolved, data fingerprint, versions, rows used
      members/<name>/             one fitted member each
      validation/<name>.parquet   its logits on the validation queries, by example_id
      test/<name>.parquet         and on the official test split, where the dataset has one

A run is there as a whole or not at all.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.files import atomic_folder, read_json, write_json
from models.member import Member
from models.registry import make_member, member_class
from models.release import MEMBERS
from models.typed import STRICT, parse, plain
from pipelines.config import TrainConfig
from pipelines.console import Tick
from pipelines.dataset.read import Judgements, fingerprint, read_judgements
from pipelines.predictions import write_logits
from pipelines.split import held_out, official_split, require_rows

RUN_FILE: Final = "run.json"
VALIDATION: Final = "validation"
TEST: Final = "test"

# Whatever may change what training computes.
_LIBRARIES: Final = ("esci-ensemble", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """What a run folder says of itself."""

    __pydantic_config__ = STRICT

    config: TrainConfig
    data_fingerprint: str
    versions: dict[str, str]
    rows: dict[str, int]  # judgements used: train, validation, test, and dropped as tested too


@dataclass(frozen=True, eq=False)
class Sides:
    """Row numbers of a dataset's judgements by what a run does with them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]


def sides(judgements: Judgements, config: TrainConfig) -> Sides:
    """The official split, with the validation queries taken out of its training side."""
    official = official_split(judgements)
    require_rows(official.train, "training")
    is_held = held_out(judgements.pairs.take(official.train), config.validation, config.seed)
    train, validation = official.train[~is_held], official.train[is_held]
    require_rows(train, "training")
    require_rows(validation, "validation")
    return Sides(train, validation, official.test, official.dropped)


def train_run(data: Path, out: Path, config: TrainConfig, tick: Tick) -> Run:
    """Train on the dataset folder `data` into the run folder `out`; `tick` counts members."""
    judgements = read_judgements(data)
    rows = sides(judgements, config)
    train = judgements.take(rows.train).pairs
    validation = judgements.take(rows.validation).pairs
    run = Run(
        config=config,
        data_fingerprint=fingerprint(data),
        versions=library_versions(),
        rows={
            name: len(getattr(rows, name)) for name in ("train", "validation", "test", "dropped")
        },
    )
    with atomic_folder(out) as scratch:
        for entry in config.members:
            member = make_member(entry.kind, entry.name, entry.options).fit(train, validation)
            member.save(scratch / MEMBERS / entry.name)
            for name, of_side in ((VALIDATION, rows.validation), (TEST, rows.test)):
                if len(of_side):
                    side = judgements.take(of_side)
                    logits = member.predict_logits(side.pairs.without_labels())
                    answers = scratch / name / f"{entry.name}.parquet"
                    write_logits(answers, side.example_ids, logits, entry.name)
            tick()
        write_json(scratch / RUN_FILE, plain(run))
    return run


def is_replaceable(folder: Path) -> bool:
    """Whether `folder` holds nothing, or a run and nothing else, and so is ours to replace."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {str(folder)}
    return not names or (RUN_FILE in names and names <= {RUN_FILE, MEMBERS, VALIDATION, TEST})


def read_run(folder: Path) -> tuple[Run, Sequence[tuple[str, Member]]]:
    """What a run folder says of itself, and its members with their kinds."""
    value = read_json(folder / RUN_FILE)
    try:
        run = parse(Run, value)
    except ValueError as error:
        raise DataError(f"{folder / RUN_FILE} is not a run of this version: {error}") from error
    members = [
        (entry.kind, member_class(entry.kind).load(folder / MEMBERS / entry.name))
        for entry in run.config.members
    ]
    return run, members


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that training runs on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

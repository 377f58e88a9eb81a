"""The run folder: what one training leaves, and what it says of itself.

<run>/
  run.json                    configuration as resolved, data fingerprint, versions, rows used,
                              and of each member where its curve is and what it scores, and
                              every file below
  members/<name>/             one fitted member each; how it learned is in its own files
  validation/<name>.parquet   its logits on the validation queries, by example_id
  test/<name>.parquet         and on the official test split, where the dataset has one
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from models.errors import DataError
from models.files import read_json
from models.member import Member
from models.registry import member_class
from models.release import MEMBERS
from models.typed import STRICT, complaints, parse
from pipelines.config import TrainConfig
from pipelines.predictions import VERDICT_SUFFIX
from pipelines.training.target import holds_what_it_lists

RUN_FILE: Final = "run.json"
VALIDATION: Final = "validation"
TEST: Final = "test"


@dataclass(frozen=True)
class MemberRecord:
    """What a run says of one of its members besides its configuration."""

    __pydantic_config__ = STRICT

    name: str
    kind: str
    # Point values on the validation queries, on which it may have chosen when to stop; `esci
    # evaluate` gives those of the test split, with intervals.
    validation: dict[str, float]
    pictures: list[str]  # paths within the run, as that of its learning curve


@dataclass(frozen=True)
class Run:
    """What a run folder says of itself."""

    __pydantic_config__ = STRICT

    config: TrainConfig  # with every option of every member, defaults and seeds included
    data_fingerprint: str
    versions: dict[str, str]
    threads: int  # sums of floats depend on it in their last digits
    rows: dict[str, int]  # judgements used: train, validation, test, and dropped as tested too
    members: list[MemberRecord]
    files: list[str]  # all it wrote besides this one: what else lies in the folder is not ours
    processes: int = 1  # that shared the fits that can be shared: a step takes a batch for each


def is_replaceable(folder: Path) -> bool:
    """Whether `folder` holds a run, its verdicts and nothing else, and so is ours to replace."""
    return holds_what_it_lists(folder, RUN_FILE, beside={".parquet": VERDICT_SUFFIX})


def read_record(folder: Path) -> Run:
    """What a run folder says of itself."""
    value = read_json(folder / RUN_FILE)
    try:
        return parse(Run, value)
    except ValidationError as error:
        raise DataError(
            f"{folder / RUN_FILE} is not a run of this version: {complaints(error)}; "
            "train it again, or run the version that wrote it"
        ) from error


def read_run(folder: Path) -> tuple[Run, Sequence[tuple[str, Member]]]:
    """What a run folder says of itself, and its members with their kinds."""
    run = read_record(folder)
    members = [
        (entry.kind, member_class(entry.kind).load(folder / MEMBERS / entry.name))
        for entry in run.config.members
    ]
    return run, members

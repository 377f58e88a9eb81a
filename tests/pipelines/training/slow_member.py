"""A member whose fit takes a number of steps, keeps each on its bench and goes on from there."""

import json
import os
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from models.files import file_sha256, read_json, write_json
from models.member import Cost, Logits
from models.needs import Needs
from models.pairs import LabelledPairs, Pairs
from models.registry import KINDS
from models.typed import STRICT, parse, plain
from models.workbench import NO_WORKBENCH, Standing, Workbench

KIND = "slow"
STATE = "state.json"
SECONDS = "SLOW_SECONDS"  # how long each step takes


def register() -> None:
    """Make the kind known, as the registry's table does for ours."""
    KINDS[KIND] = "tests.pipelines.training.slow_member:SlowMember"


@dataclass(frozen=True)
class SlowOptions:
    __pydantic_config__ = STRICT

    steps: int = 5
    stop_at: int = 0  # a step that fails
    seed: int = 1
    serving: int = 0  # what a fit does not look at
    source: str = ""  # a file that decides it

    def needs(self) -> Needs:
        return Needs(sources={"file": file_sha256(Path(self.source))} if self.source else {})


class SlowMember:
    Options: ClassVar[type[Any]] = SlowOptions
    steps_done: ClassVar[int] = 0  # of all fits in this process

    def __init__(self, name: str = KIND, options: SlowOptions | None = None) -> None:
        self.name = name
        self.options = options or SlowOptions()
        self.state = ""

    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        del valid
        done, self.state = 0, f"{self.options.seed} {len(train)}"
        if bench.folder and (bench.folder / STATE).is_file():
            done, self.state = read_json(bench.folder / STATE)
        while done < self.options.steps:
            time.sleep(float(os.environ.get(SECONDS, "0")))
            done += 1
            if done == self.options.stop_at:
                raise KeyboardInterrupt
            self.state = sha256(self.state.encode()).hexdigest()
            type(self).steps_done += 1
            if bench.folder:
                write_json(bench.folder / STATE, [done, self.state])
            bench.report(Standing(done, self.options.steps, f"state {self.state[:4]}"))
        return self

    def predict_logits(self, pairs: Pairs) -> Logits:
        seed = int(self.state[:8], 16)
        rows = np.random.default_rng(seed).standard_normal((len(pairs), 4))
        return rows.astype(np.float32)

    def cost(self) -> Cost:
        return Cost()

    def save(self, folder: Path) -> None:
        write_json(folder / "member.json", [self.name, plain(self.options), self.state])
        (folder / "curve.svg").write_text("<svg/>")

    @classmethod
    def load(cls, folder: Path) -> Self:
        name, options, state = json.loads((folder / "member.json").read_text())
        member = cls(name, parse(SlowOptions, options))
        member.state = state
        return member

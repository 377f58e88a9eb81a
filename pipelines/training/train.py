"""Trains the members a configuration names and writes a run folder.

A run is there as a whole or not at all. Until then every member that is done lies in the work
folder beside it, and so does what the one in progress would go on from: after a kill the same
command takes up the work where it was, and a member whose options were changed begins afresh.

Of the processes of a launch the first does all of this, and the others help it with the fits that
can be shared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np

from models.errors import ConfigError, DataError
from models.files import atomic_folder, file_sha256, read_json, write_json
from models.judge.confusion import Confusion
from models.judge.judged import Judged, System
from models.member import Logits, Member, softmax
from models.needs import Needs
from models.registry import SHARED, check_fittable, make_member, member_class
from models.release import MEMBERS
from models.saved_member import ABOUT
from models.surroundings import Surroundings
from models.training.identity import deciding_options
from models.typed import parse, plain
from models.workbench import Standing, Workbench
from pipelines.config import MemberConfig, TrainConfig, resolved
from pipelines.console import Watch, note, unwatched
from pipelines.dataset.read import Judgements, fingerprint, read_judgements
from pipelines.predictions import write_logits
from pipelines.surroundings import read_surroundings
from pipelines.training.run import (
    RUN_FILE,
    TEST,
    VALIDATION,
    MemberRecord,
    Run,
    is_replaceable,
)
from pipelines.training.sides import Sides, sides
from pipelines.training.target import check_target, files_below
from pipelines.training.team import ALONE, Team
from pipelines.training.threads import choose_threads, threads_limited
from pipelines.training.versions import library_versions
from pipelines.training.work import Identity, Work, copy_file, copy_folder, open_work

_METRICS_FILE: Final = "metrics.json"
# Of a part of the work folder: the member itself, beside its answers.
_MEMBER: Final = "member"
_PICTURES: Final = (".svg", ".png")


def train_run(
    data: Path,
    out: Path,
    config: TrainConfig,
    watch: Watch = unwatched,
    *,
    threads: int | None = None,
    force: bool = False,
    team: Team = ALONE,
) -> Run:
    """Train on the dataset folder `data` into the run folder `out`.

    `watch` shows the fit of each member; `threads` as `choose_threads` takes it. A run that is
    there already is replaced only by `force`. The others of the `team` call `help_train`.
    """
    check_target(out, data, is_replaceable, "a run", force=force)
    # Whatever is wrong with any member is said before the first one is fitted.
    config = resolved(config)
    for number, entry in enumerate(config.members):
        _needs(entry, config.members[:number])
    with open_work(out) as work, threads_limited(using := choose_threads(threads)):
        # Once more: another process may just have made it.
        check_target(out, data, is_replaceable, "a run", force=force)
        material, versions = _Material.read(data, config), library_versions()
        common = {
            "seed": config.seed,
            "validation": config.validation,
            "data_fingerprint": material.fingerprint,
            "versions": versions,
        }
        parts: dict[str, Path] = {}
        for entry in config.members:
            # Looked for again: the members before it may have taken days.
            of_member = {"sources": _sources(entry, parts), "processes": _sharing(entry, team)}
            identity = {**common, **of_member, "member": plain(entry)}
            part = work.finished(entry.name, identity)
            if part is None:
                part = _make_part(work, entry, identity, material, parts, watch, team)
            else:
                note(f"{entry.name}: was done before and is kept")
            parts[entry.name] = part
        with atomic_folder(out) as scratch:
            records = [_assemble(scratch, entry, parts[entry.name]) for entry in config.members]
            names = ("train", "validation", "test", "dropped")
            run = Run(
                config=config,
                data_fingerprint=material.fingerprint,
                versions=versions,
                threads=using,
                rows={name: len(getattr(material.rows, name)) for name in names},
                members=records,
                files=files_below(scratch),
                processes=max(_sharing(entry, team) for entry in config.members),
            )
            write_json(scratch / RUN_FILE, plain(run))
    return run


def help_train(team: Team, threads: int | None = None) -> None:
    """Take part in the fits that the first process shares, until there are none left."""
    material: _Material | None = None
    with threads_limited(choose_threads(threads)):
        while (task := team.hear()) is not None:
            if material is None:
                material = _Material.read(Path(task["data"]), parse(TrainConfig, task["config"]))
            if material.fingerprint != task["fingerprint"]:
                raise DataError(
                    f"{material.data} has the fingerprint {material.fingerprint} here and "
                    f"{task['fingerprint']} for the first process; expected processes that share "
                    "their folders"
                )
            members = {entry.name: entry for entry in material.config.members}
            before = {name: Path(place) for name, place in task["members"].items()}
            places = _Places(Path(task["bench"]), Path(task["common"]), before)
            _fit(members[task["member"]], material, places)


@dataclass(frozen=True, eq=False)
class _Material:
    """What all members of a run are made from."""

    data: Path
    config: TrainConfig  # resolved
    fingerprint: str
    judgements: Judgements
    rows: Sides

    @classmethod
    def read(cls, data: Path, config: TrainConfig) -> Self:
        """What the dataset folder holds, and which of it teaches."""
        judgements = read_judgements(data)
        return cls(data, config, fingerprint(data), judgements, sides(judgements, config))

    @cached_property
    def surroundings(self) -> Surroundings:
        """What the folder holds besides judgements, where none of the judging queries teaches."""
        judging = np.concatenate([self.rows.validation, self.rows.test])
        return read_surroundings(self.data, self.judgements, judging)


def _needs(entry: MemberConfig, before: Sequence[MemberConfig]) -> Needs:
    """What the member takes; what is not there, nor trained before it, is an error."""
    options = parse(member_class(entry.kind).Options, entry.options)
    needs = check_fittable(entry.kind, options)
    names = [other.name for other in before]
    for name in needs.members:
        if name not in names:
            raise ConfigError(
                f"member {entry.name!r} starts from {name!r}, which is neither the folder of a "
                f"trained member nor one that is trained before it ({', '.join(names) or 'none'})"
            )
    return needs


def _sources(entry: MemberConfig, parts: Mapping[str, Path]) -> dict[str, str]:
    """Digests of what decides the member besides its options."""
    options = parse(member_class(entry.kind).Options, entry.options)
    needs = check_fittable(entry.kind, options)
    made = {name: file_sha256(parts[name] / _MEMBER / ABOUT) for name in needs.members}
    return {**needs.sources, **made}


def _sharing(entry: MemberConfig, team: Team) -> int:
    """How many processes fit the member."""
    return team.count if entry.kind in SHARED else 1


@dataclass(frozen=True)
class _Places:
    """Where a fit keeps what is its own, and finds what it shares."""

    bench: Path
    common: Path
    before: Mapping[str, Path]  # the members that were trained before it


def _fit(
    entry: MemberConfig,
    material: _Material,
    places: _Places,
    report: Callable[[Standing], None] | None = None,
) -> Member:
    judgements, rows = material.judgements, material.rows
    workbench = Workbench(
        places.bench,
        surroundings=lambda: material.surroundings,
        members=places.before,
        common=places.common,
    )
    return make_member(entry.kind, entry.name, entry.options).fit(
        judgements.take(rows.train).pairs,
        judgements.take(rows.validation).pairs,
        replace(workbench, report=report) if report else workbench,
    )


def _make_part(
    work: Work,
    entry: MemberConfig,
    identity: Identity,
    material: _Material,
    parts: Mapping[str, Path],
    watch: Watch,
    team: Team,
) -> Path:
    """Fit one member and write it with its answers; it is out of memory when this returns."""
    judgements, rows = material.judgements, material.rows
    before = {name: part / _MEMBER for name, part in parts.items()}
    with work.part(entry.name, identity) as scratch:
        with watch(entry.name) as report:
            # What was trained stands when only the export that followed was asked for otherwise.
            member_of = identity["member"]
            begun = member_of | {"options": deciding_options(member_of["options"])}
            bench = work.bench(entry.name, {**identity, "member": begun})
            if _sharing(entry, team) > 1:
                team.tell(
                    {
                        "data": str(material.data.resolve()),
                        "fingerprint": material.fingerprint,
                        "config": plain(material.config),
                        "member": entry.name,
                        "bench": str(bench),
                        "common": str(work.common),
                        "members": {name: str(place) for name, place in before.items()},
                    }
                )
            member = _fit(entry, material, _Places(bench, work.common, before), report)
        member.save(scratch / _MEMBER)
        metrics = {}
        for side, of_side in ((VALIDATION, rows.validation), (TEST, rows.test)):
            if len(of_side):
                asked = judgements.take(of_side)
                logits = member.predict_logits(asked.pairs.without_labels())
                write_logits(scratch / f"{side}.parquet", asked.example_ids, logits, entry.name)
                if side == VALIDATION:
                    metrics = _metrics(asked, logits)
        write_json(scratch / _METRICS_FILE, metrics)
    return work.folder_of(entry.name)


def _metrics(judgements: Judgements, logits: Logits) -> dict[str, float]:
    """Accuracy and F1 of `logits`; the judge's other metrics are for its own verb."""
    family, pairs = Confusion(), judgements.pairs
    judged = Judged.of(pairs.labels, pairs.query_rows)
    sums = family.sums(judged, System.of("member", softmax(logits)))
    values = dict(zip(family.metrics, family.values(sums.sum(axis=0)).tolist(), strict=True))
    return {name: values[name] for name in ("accuracy", "macro_f1", "weighted_f1")}


def _assemble(run: Path, entry: MemberConfig, part: Path) -> MemberRecord:
    """Put a finished part where the run folder has it; returns what the run says of it."""
    folder = run / MEMBERS / entry.name
    copy_folder(part / _MEMBER, folder)
    for side in (VALIDATION, TEST):
        if (answers := part / f"{side}.parquet").is_file():
            copy_file(answers, run / side / f"{entry.name}.parquet")
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix in _PICTURES]
    return MemberRecord(
        name=entry.name,
        kind=entry.kind,
        validation=read_json(part / _METRICS_FILE),
        pictures=[path.relative_to(run).as_posix() for path in pictures],
    )

"""Trained members by the folder they lie in: their own, or that of a run, release or registry."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from models.errors import ConfigError, MissingDataError, ReleaseError
from models.files import read_json
from models.registry import member_class
from models.release import MANIFEST, MEMBERS, read_manifest
from models.release_registry import ReleaseRegistry
from models.saved_member import ABOUT
from models.vectors.embedder import Embedder, EmbeddingMember
from pipelines.training.run import RUN_FILE, Run, read_record


@dataclass(frozen=True)
class TrainedMember:
    """Where a member lies, not yet loaded."""

    name: str
    kind: str
    folder: Path


@dataclass(frozen=True)
class Trained:
    """The members of a folder, and what that folder is."""

    folder: Path  # of the run, the release or the member itself
    members: Sequence[TrainedMember]
    run: Run | None = None
    registry: Path | None = None  # whose champion it is


def find_trained(folder: Path) -> Trained:
    """What lies in `folder`: a run, a release, one member, or the champion of a registry."""
    if (folder / RUN_FILE).is_file():
        run = read_record(folder)
        found = [(member.name, member.kind) for member in run.members]
        return Trained(folder, _below(folder / MEMBERS, found), run=run)
    if (folder / MANIFEST).is_file():
        found = [(member.name, member.kind) for member in read_manifest(folder).members]
        return Trained(folder, _below(folder / MEMBERS, found))
    if (folder / ABOUT).is_file():
        return Trained(folder, [_alone(folder)])
    if champion := ReleaseRegistry(folder).champion():
        return replace(find_trained(champion), registry=folder)
    raise MissingDataError(
        f"{folder} holds no {RUN_FILE}, no {MANIFEST}, no {ABOUT} and no champion; expected the "
        "folder of a run, a release, a member or a registry"
    )


def open_embedder(trained: Trained, name: str | None = None) -> EmbeddingMember:
    """The one member of `trained` that compares vectors, or the one of that name."""
    embedders = [
        member for member in trained.members if issubclass(member_class(member.kind), Embedder)
    ]
    chosen = [member for member in embedders if name in (None, member.name)]
    if not chosen:
        kinds = ", ".join(f"{member.name} ({member.kind})" for member in trained.members)
        wanted = (
            "a member that compares" if name is None else f"{name!r} among members that compare"
        )
        raise ConfigError(
            f"{trained.folder} holds {kinds}; expected {wanted} vectors, as a bi_encoder does"
        )
    if len(chosen) > 1:
        raise ConfigError(
            f"{trained.folder} holds several members that compare vectors; name one of "
            f"{', '.join(member.name for member in chosen)} with --member"
        )
    (one,) = chosen
    return cast(EmbeddingMember, member_class(one.kind).load(one.folder))


def _alone(folder: Path) -> TrainedMember:
    """The one member whose own folder this is."""
    about = read_json(folder / ABOUT)
    name, kind = (about.get("name"), about.get("kind")) if isinstance(about, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(kind, str):
        raise ReleaseError(
            f"{folder / ABOUT} does not say the name and the kind of a member; train the member "
            "again, or restore the folder"
        )
    return TrainedMember(name, kind, folder)


def _below(folder: Path, found: Sequence[tuple[str, str]]) -> list[TrainedMember]:
    return [TrainedMember(name, kind, folder / name) for name, kind in found]

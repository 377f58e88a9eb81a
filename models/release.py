"""A release folder: all that crosses from the pipelines to the service.

    <release_id>/
      manifest.json   what it holds, how it was made, the SHA-256 of every file
      probes.json     pairs with the answers they must get
      members/<name>/ one folder per member

The id is a digest of the manifest, and the manifest holds the digest of every file, so a release
cannot change under its name. Loading verifies all of it and runs nothing that the folder contains.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from models.ensemble import Ensemble
from models.errors import DataError, EsciError, ReleaseError
from models.files import file_sha256, read_json, replace_folder, scratch_folder, write_json
from models.labels import DEFAULT_GAINS, GAIN_TABLES, LABELS
from models.member import Cost, Member
from models.pairs import Pairs, Products, Queries
from models.registry import member_class
from models.typed import STRICT, complaints, parse, plain

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
PROBES: Final = "probes.json"
MEMBERS: Final = "members"

# Another processor sums floats in another order; a wrong weight is off by far more.
PROBE_TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class MemberEntry:
    """A member as the manifest names it; its files lie in members/<name>."""

    __pydantic_config__ = STRICT

    name: str
    kind: str
    cost: Cost


@dataclass(frozen=True)
class Manifest:
    """Everything one can say of a release without loading its members."""

    __pydantic_config__ = STRICT

    format: int
    labels: list[str]
    columns: list[str]  # the logit columns in the order the members give them
    members: list[MemberEntry]
    gain_table: str  # one of models.labels.GAIN_TABLES
    metrics: dict[str, Any]  # what the judge said on held-out queries
    configuration: dict[str, Any]  # as resolved for the run that made it
    versions: dict[str, str]  # of the libraries that made it
    data_fingerprint: str
    files: dict[str, str]  # path within the folder → SHA-256

    @property
    def release_id(self) -> str:
        """The name this content has."""
        canonical = json.dumps(plain(self), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Probe:
    """A pair and the answer it must get from this release, wherever it is loaded."""

    __pydantic_config__ = STRICT

    query: str
    locale: str
    product: dict[str, str]  # product_id and the texts; the locale is the query's
    probabilities: list[float]  # in the order of LABELS


@dataclass(frozen=True)
class Release:
    """A verified release, ready to answer."""

    release_id: str
    folder: Path
    manifest: Manifest
    probes: Sequence[Probe]
    ensemble: Ensemble


def _probe_pairs(probes: Sequence[Probe]) -> Pairs:
    rows = np.arange(len(probes), dtype=np.int32)
    return Pairs(
        Queries.of([probe.query for probe in probes], [probe.locale for probe in probes]),
        Products.of([{**probe.product, "locale": probe.locale} for probe in probes]),
        rows,
        rows,
    )


def make_probes(ensemble: Ensemble, pairs: Pairs) -> list[Probe]:
    """Probes over `pairs`, with the answers that `ensemble` gives them now."""
    answers = ensemble.predict(pairs)
    return [
        Probe(
            query=query,
            locale=pairs.queries.locale(pairs.query_rows[row]),
            product={"product_id": pairs.products.ids[pairs.product_rows[row]], **fields},
            probabilities=[float(value) for value in answers[row]],
        )
        for row, (query, fields) in enumerate(pairs.texts())
    ]


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below `folder` but the manifest, with its path as the manifest writes it."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReleaseError(
                f"{path} is no plain file; a release holds plain files only: "
                "copy the release again from where it was made"
            )
        if path.is_file() and name != MANIFEST:
            yield name, path


def write_release(
    parent: Path,
    members: Sequence[tuple[str, Member]],
    probe_pairs: Pairs,
    *,
    metrics: Mapping[str, Any],
    configuration: Mapping[str, Any],
    versions: Mapping[str, str],
    data_fingerprint: str,
    gain_table: str = DEFAULT_GAINS,
) -> Path:
    """Write a release of fitted `members`, each with its kind, below `parent`: whole or not at all.

    Returns its folder, which is named by its release id: the same content gives the same folder.
    """
    ensemble = Ensemble([member for _, member in members])
    with scratch_folder(parent, "release") as scratch:
        for _, member in members:
            member.save(scratch / MEMBERS / member.name)
        write_json(scratch / PROBES, [plain(probe) for probe in make_probes(ensemble, probe_pairs)])
        manifest = Manifest(
            format=FORMAT,
            labels=list(LABELS),
            columns=list(ensemble.columns),
            members=[
                MemberEntry(name=member.name, kind=kind, cost=member.cost())
                for kind, member in members
            ],
            gain_table=gain_table,
            metrics=dict(metrics),
            configuration=dict(configuration),
            versions=dict(versions),
            data_fingerprint=data_fingerprint,
            files={name: file_sha256(path) for name, path in _files_in(scratch)},
        )
        write_json(scratch / MANIFEST, {"release_id": manifest.release_id, **plain(manifest)})
        folder = parent / manifest.release_id
        # The same id is the same content: one that is whole may be in use, and stays.
        if not _is_whole(folder):
            replace_folder(scratch, folder)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        _check_files(folder, read_manifest(folder))
    except ReleaseError:
        return False
    return True


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release folder, checked against its own id and against this code."""
    try:
        value = read_json(folder / MANIFEST)
    except DataError as error:
        raise ReleaseError(f"{folder} is not a release: {error}") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise ReleaseError(
            f"{folder} has release format {found!r} and this code reads {FORMAT}; "
            "retrain it, or run the version that wrote it"
        )
    claimed = value.pop("release_id", None)
    try:
        manifest = parse(Manifest, value)
    except ValidationError as error:
        raise ReleaseError(f"{folder / MANIFEST} cannot be read: {complaints(error)}") from error
    if claimed != manifest.release_id:
        raise ReleaseError(
            f"{folder / MANIFEST} says it is release {claimed} and its content is "
            f"{manifest.release_id}: it was changed after it was written; copy it again"
        )
    return manifest


def read_probes(folder: Path) -> list[Probe]:
    """The probe pairs of a release folder with the answers they must get."""
    try:
        return [parse(Probe, probe) for probe in read_json(folder / PROBES)]
    except ValidationError as error:
        raise ReleaseError(f"{folder / PROBES} cannot be read: {complaints(error)}") from error


def load_release(folder: Path) -> Release:
    """The release in `folder`, after every check: files, formats, orders and probes."""
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    if manifest.labels != list(LABELS):
        raise ReleaseError(
            f"{folder} orders its labels {manifest.labels} and this code {list(LABELS)}; retrain it"
        )
    if manifest.gain_table not in GAIN_TABLES:
        raise ReleaseError(
            f"{folder} ranks by the gain table {manifest.gain_table!r}; "
            f"known tables: {', '.join(GAIN_TABLES)}"
        )
    try:
        ensemble = Ensemble(
            [
                member_class(entry.kind).load(folder / MEMBERS / entry.name)
                for entry in manifest.members
            ]
        )
        probes = read_probes(folder)
    except ReleaseError:
        raise
    except EsciError as error:
        raise ReleaseError(f"{folder} cannot be loaded: {error}") from error
    if list(ensemble.columns) != manifest.columns:
        raise ReleaseError(
            f"{folder} was made with the columns {manifest.columns} and its members give "
            f"{list(ensemble.columns)}; retrain it"
        )
    release = Release(manifest.release_id, folder, manifest, probes, ensemble)
    _check_probes(release)
    return release


def _check_files(folder: Path, manifest: Manifest) -> None:
    for entry in manifest.members:
        if PurePosixPath(entry.name).name != entry.name or entry.name in {"", ".", ".."}:
            raise ReleaseError(f"{folder} names a member {entry.name!r}; expected a plain name")
    present = dict(_files_in(folder))
    if missing := sorted(manifest.files.keys() - present.keys()):
        raise ReleaseError(f"{folder} lacks {missing[0]}, which its manifest lists; copy it again")
    if unknown := sorted(present.keys() - manifest.files.keys()):
        raise ReleaseError(
            f"{folder} holds {unknown[0]}, which its manifest does not list; "
            "remove it, or copy the release again"
        )
    for name, path in present.items():
        if (found := file_sha256(path)) != manifest.files[name]:
            raise ReleaseError(
                f"{path} has SHA-256 {found[:12]}… and the manifest says "
                f"{manifest.files[name][:12]}…: it was changed; copy the release again"
            )


def _check_probes(release: Release) -> None:
    if not release.probes:
        raise ReleaseError(f"{release.folder} carries no probe pairs; retrain it")
    expected = np.array([probe.probabilities for probe in release.probes])
    answers = release.ensemble.predict(_probe_pairs(release.probes))
    off = np.abs(answers - expected).max(axis=1)
    if not (worst := float(np.max(off))) <= PROBE_TOLERANCE:  # also when it is NaN
        probe = release.probes[int(np.argmax(off))]
        raise ReleaseError(
            f"{release.folder} answers its probe {probe.query!r} × "
            f"{probe.product['product_id']} off by {worst:.2g}, allowed {PROBE_TOLERANCE:g}; "
            "the libraries here differ from those that made it: "
            f"{release.manifest.versions}"
        )

"""What a folder with an exported network says of itself: `form.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from models.errors import EsciError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.language.serving.gate import Gap
from models.language.serving.options import EXACT
from models.language.serving.weights.places import weight_places
from models.typed import STRICT, complaints, parse, plain

FORMAT: Final = 1
MANIFEST_FILE: Final = "form.json"


@dataclass(frozen=True)
class Weights:
    """The file beside a variant's own that holds its weights."""

    __pydantic_config__ = STRICT

    file: str
    sha256: str


@dataclass(frozen=True)
class Exported:
    """One variant: its file, how far it strays, and how long it takes."""

    __pydantic_config__ = STRICT

    file: str
    sha256: str
    gap: Gap
    milliseconds: dict[int, float]  # of a request of so many texts; empty where not measured
    spared: float = 0.0  # share of the matrix products left in floats to pass the gate
    doubt: float = 0.0  # logits whose largest leads by no more are answered by float32
    weights: Weights | None = None  # None where its own file holds them

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each of its files, by name."""
        beside = {} if self.weights is None else {self.weights.file: self.weights.sha256}
        return {self.file: self.sha256, **beside}


@dataclass(frozen=True)
class FormReport:
    """An exported network: its variants, and where their times were measured."""

    __pydantic_config__ = STRICT

    format: int
    pad_id: int
    width: int  # numbers in the row of a text
    batch_tokens: int
    variants: dict[str, Exported]
    left_out: dict[str, str]  # variant → why it is not served
    machine: str  # that the milliseconds were measured on
    threads: int  # that they were measured with


def fastest_variant(milliseconds: Mapping[str, Mapping[int, float]], texts: int) -> str:
    """The variant for a request of `texts`: the fastest at the measured shape nearest in ratio.

    Where nothing was measured, or two are as fast, the first of `milliseconds`.
    """
    shapes = sorted(set.intersection(*(set(of) for of in milliseconds.values())))
    if not shapes:
        return next(iter(milliseconds))
    asked = max(texts, 1)
    nearest = min(shapes, key=lambda shape: (max(shape / asked, asked / shape), shape))
    return min(milliseconds, key=lambda variant: milliseconds[variant][nearest])


def leave_out(folder: Path, report: FormReport, variant: str, why: str) -> FormReport:
    """The exported network in `folder` without `variant`, whose files go."""
    kept = {name: about for name, about in report.variants.items() if name != variant}
    left = replace(report, variants=kept, left_out={**report.left_out, variant: why})
    write_manifest(folder, left)  # first: what it names has to be there
    for name in report.variants[variant].digests:
        (folder / name).unlink()
    return left


def write_manifest(folder: Path, report: FormReport) -> None:
    """Write `form.json`."""
    write_json(folder / MANIFEST_FILE, plain(report))


def read_manifest(folder: Path) -> FormReport:
    """What `form.json` says, with every file it names checked to be the one it was written with."""
    path = folder / MANIFEST_FILE
    try:
        found = read_json(path)
    except EsciError as error:
        raise ReleaseError(f"{folder} holds no exported network: {error}") from error
    number = found.get("format") if isinstance(found, dict) else None
    if number != FORMAT:
        raise ReleaseError(
            f"{path} is of format {number!r}; this code reads format {FORMAT}: "
            "export the member again, or run the version that wrote it"
        )
    try:
        report = parse(FormReport, found)
    except ValidationError as error:
        raise ReleaseError(f"{path}: {complaints(error)}") from error
    if EXACT not in report.variants:
        raise ReleaseError(
            f"{path} names the variants {list(report.variants)}; expected {EXACT} among them, "
            "which the others lean on: restore the folder"
        )
    for variant, exported in report.variants.items():
        for name, digest in exported.digests.items():
            _check_file(folder, variant, name, digest)
        _check_places(folder, exported)
    return report


def _check_file(folder: Path, variant: str, name: str, digest: str) -> None:
    file = folder / name
    if file.parent != folder or not file.is_file():
        raise ReleaseError(f"{file}, of the {variant} variant, is not there; restore the folder")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ReleaseError(f"{file} is a link out of its folder; expected the file itself")
    if file_sha256(file) != digest:
        raise ReleaseError(f"{file} is not the file that was exported; restore it, or export again")


def _check_places(folder: Path, exported: Exported) -> None:
    """That the network looks for weights nowhere but in the file that was checked."""
    file, known = folder / exported.file, exported.weights and exported.weights.file
    size = (folder / known).stat().st_size if known else 0
    for place in weight_places(file):
        if place.location != known:
            raise ReleaseError(
                f"{file} looks for weights in {place.location!r}; expected "
                f"{known or 'all of them in itself'}, and nothing outside its folder: restore it, "
                "or export again"
            )
        if place.end > size:
            raise ReleaseError(
                f"{folder / known} has {size} bytes and {file} reads {place.end} of it; restore "
                "both, or export again"
            )

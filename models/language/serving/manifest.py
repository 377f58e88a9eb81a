"""What a folder with an exported network says of itself: `form.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from models.errors import EsciError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.language.serving.gate import Gap
from models.language.serving.options import EXACT
from models.typed import STRICT, complaints, parse, plain

FORMAT: Final = 1
MANIFEST_FILE: Final = "form.json"


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
        file = folder / exported.file
        if file.parent != folder or not file.is_file():
            raise ReleaseError(f"{file}, the {variant} variant, is not there; restore the folder")
        if file_sha256(file) != exported.sha256:
            raise ReleaseError(
                f"{file} is not the file that was exported; restore it, or export again"
            )
    return report

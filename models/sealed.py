"""The folder of a trained member: what it says of itself, and proof that it is whole.

`member.json` is written last and holds the SHA-256 of every other file, so a folder that a crash
left half-written is refused. Needs no torch.
"""

import json
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

from pydantic import ValidationError

from models.errors import EsciError, ReleaseError
from models.files import atomic_file, file_digests, file_sha256, write_json
from models.labels import LABELS
from models.pairs import LabelledPairs
from models.saved_member import ABOUT, read_about
from models.training.curve import Curve
from models.typed import complaints
from models.versions import library_versions
from models.workbench import NO_WORKBENCH, Workbench

FORM: Final = "form"  # what answers
TRAINED: Final = "trained"  # what was trained, and may be trained on
CURVE: Final = "curve.svg"


@dataclass(frozen=True)
class Sealed:
    """A whole member folder and what it says of itself."""

    path: Path
    about: Mapping[str, Any]

    def copy_to(self, folder: Path) -> None:
        """Write the same files to `folder`, `member.json` last; files of others there stay."""
        if folder.resolve() == self.path.resolve():
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Until the new one is there, the folder is nobody's.
        (folder / ABOUT).unlink(missing_ok=True)
        for name in (*self.about["files"], ABOUT):
            with atomic_file(folder / name) as scratch:
                shutil.copyfile(self.path / name, scratch)


class Workshop:
    """A temporary folder that a fitted member is made in, and that goes when its owner does."""

    def __init__(self, owner: object, name: str, bench: Workbench = NO_WORKBENCH) -> None:
        held = ExitStack()
        self.path = held.enter_context(bench.scratch(name))
        weakref.finalize(owner, held.close)


def seal(
    folder: Path, *, kind: str, format_number: int, name: str, options: Any, made: Mapping[str, Any]
) -> Sealed:
    """Write `member.json` over the files that are in `folder`; `options` and `made` are plain."""
    about = {
        "kind": kind,
        "format": format_number,
        "name": name,
        "labels": list(LABELS),
        "options": options,
        "made": dict(made),
        "files": file_digests(folder, but=ABOUT),
    }
    write_json(folder / ABOUT, about)
    # As it will be read: tuples become lists.
    return Sealed(folder, json.loads(json.dumps(about)))


def open_sealed(folder: Path, *, kind: str, format_number: int) -> Sealed:
    """The member folder, checked to be of this kind and format and to be whole."""
    found = read_about(folder, kind, format_number)
    if found.get("labels") != list(LABELS):
        raise ReleaseError(
            f"{folder} was saved with the labels {found.get('labels')}; expected "
            f"{', '.join(LABELS)} in this order: train the member again"
        )
    for key, kind_of in {"name": str, "options": dict, "made": dict, "files": dict}.items():
        if not isinstance(found.get(key), kind_of):
            raise ReleaseError(f"{folder / ABOUT} has no {key}; restore the folder")
    for name, expected in found["files"].items():
        _check_file(folder, name, expected)
    return Sealed(folder, found)


@contextmanager
def found_whole(folder: Path, what: str) -> Iterator[None]:
    """Says, of whatever goes wrong while the files of `folder` are read, what is to be done."""
    try:
        yield
    except (ValidationError, EsciError, OSError, KeyError, ValueError, BadZipFile) as error:
        said = complaints(error) if isinstance(error, ValidationError) else error
        raise ReleaseError(
            f"{folder} does not hold a whole {what} of this version: {said}; "
            "train the member again, or run the version that wrote it"
        ) from error


def _check_file(folder: Path, name: str, expected: Any) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ReleaseError(f"{folder / ABOUT} names {name}, which lies outside the folder")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ReleaseError(f"{folder} is not whole: {error}; restore the folder") from error
    if digest != expected:
        raise ReleaseError(
            f"{path} has SHA-256 {digest} and was written with {expected}; restore the folder, or "
            "train the member again"
        )


def how_made(
    *,
    train: LabelledPairs,
    valid: LabelledPairs,
    seed: int,
    curve: Curve,
    **more: Any,
) -> dict[str, Any]:
    """What `member.json` says of a training: data, seed, versions, curve and `more`, all plain."""
    return {
        "train": {"pairs": len(train), "sha256": pairs_sha256(train)},
        "valid": {"pairs": len(valid), "sha256": pairs_sha256(valid)},
        "seed": seed,
        "versions": library_versions(),
        "curve": curve.plain(),
        **more,
    }


def pairs_sha256(pairs: LabelledPairs) -> str:
    """A digest of what labelled pairs can teach: texts, labels and their order."""
    digest = sha256()
    digest.update(b"".join(pairs.fingerprints()))
    digest.update(pairs.labels.tobytes())
    return digest.hexdigest()

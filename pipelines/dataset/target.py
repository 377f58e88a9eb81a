"""The folder a verb writes a dataset to: nothing but a dataset may ever be replaced there."""

from collections.abc import Iterable
from pathlib import Path

from models.errors import ConfigError
from pipelines.dataset.layout import SCHEMAS


def check_target(folder: Path, *, force: bool, inputs: Iterable[Path] = ()) -> Path:
    """The absolute path of `folder`, once it is certain that writing there loses nothing.

    A dataset is replaced as a whole, so the folder must be absent, empty, or hold the files of a
    dataset alone and be given up by `force`. None of the `inputs` may lie in it.
    """
    target = folder.resolve()
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{folder} is a file; expected a folder; name another with --out")
    if Path.cwd().is_relative_to(target):
        raise ConfigError(
            f"{folder} is the folder you are in, which cannot be replaced as a whole; "
            f"name one inside it, as in --out {folder / 'data'}"
        )
    for path in inputs:
        if path.resolve().is_relative_to(target):
            raise ConfigError(
                f"{path} lies in {folder}, which would be replaced; name another with --out"
            )
    there = sorted(target.iterdir()) if target.exists() else []
    if foreign := [path.name for path in there if path.name not in SCHEMAS or path.is_dir()]:
        raise ConfigError(
            f"{folder} holds {foreign[0]!r}, which is no file of a dataset; "
            "expected an empty folder or none; name another with --out"
        )
    if there and not force:
        raise ConfigError(
            f"{folder} holds a dataset already; replace it by --force, or name another with --out"
        )
    return target

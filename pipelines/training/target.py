"""Which folders a command may write to, and which it must leave alone."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from models.errors import ConfigError, DataError
from models.files import read_json


def check_target(
    out: Path, data: Path, is_ours: Callable[[Path], bool], what: str, *, force: bool
) -> None:
    """Refuse an `out` that holds anything but `what`, that without `force`, and data by all means.

    `is_ours` is asked of a folder that is not empty.
    """
    target, dataset = out.resolve(), data.resolve()
    if target.is_relative_to(dataset) or dataset.is_relative_to(target):
        raise ConfigError(f"--out {out} and --data {data} overlap; expected two separate folders")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not is_ours(out):
        raise ConfigError(f"{out} holds something else than {what}; name another folder")
    if not force:
        raise ConfigError(f"{out} is there already; name another folder, or replace it by --force")


def files_below(folder: Path) -> list[str]:
    """Every file below `folder`, links too, by its path within; what a target says it holds."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


def holds_what_it_lists(
    folder: Path, record: str, beside: Mapping[str, str] = MappingProxyType({})
) -> bool:
    """Whether every file below `folder` is its JSON `record`, or listed there under "files".

    `beside` names what other commands leave next to listed files, by their suffixes.
    """
    try:
        listed = {record, *read_json(folder / record)["files"]}
    except (DataError, KeyError, TypeError):
        return False
    left = {
        str(PurePosixPath(name).with_suffix(beside[suffix]))
        for name in listed
        if (suffix := PurePosixPath(name).suffix) in beside
    }
    return (listed | left).issuperset(files_below(folder))

"""Folders that a person names to write to, which must be nobody else's."""

from pathlib import Path
from typing import Final

from models.errors import ConfigError
from models.release import MANIFEST
from models.saved_member import ABOUT
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.training.run import RUN_FILE

# What lists the files of the folder it lies in, or is read together with them: with one more file
# there, a release is not served and a run or a dataset is not replaced.
_RECORDS: Final = (RUN_FILE, MANIFEST, ABOUT, EXAMPLES_FILE)


def check_folder(path: Path, *taken: Path) -> None:
    """Refuse a folder to write to that is or lies below a file, a run, a release or a dataset.

    `taken` are folders that are somebody's, whatever they hold.
    """
    for one in (path, *path.parents):
        if one.exists() and not one.is_dir():
            raise ConfigError(f"--out {path}: {one} is a file; expected a folder, new or existing")
    place, theirs = path.resolve(), {one.resolve() for one in taken}
    for one in (place, *place.parents):
        if one in theirs or any((one / record).is_file() for record in _RECORDS):
            raise ConfigError(
                f"--out {path} lies in {one}, whose files are all accounted for; expected a "
                "folder beside it"
            )

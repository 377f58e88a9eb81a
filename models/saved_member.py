"""`member.json`: what a saved member says of itself before anything of it is believed."""

from pathlib import Path
from typing import Any, Final

from models.errors import EsciError, ReleaseError
from models.files import read_json

ABOUT: Final = "member.json"


def read_about(folder: Path, kind: str, format_number: int) -> dict[str, Any]:
    """What `member.json` in `folder` says, checked to be of this kind and format."""
    try:
        about = read_json(folder / ABOUT)
    except EsciError as error:
        raise ReleaseError(f"{folder} holds no member: {error}") from error
    found = about if isinstance(about, dict) else {}
    if found.get("kind") != kind or found.get("format") != format_number:
        raise ReleaseError(
            f"{folder} holds a member of kind {found.get('kind')!r} in format "
            f"{found.get('format')!r}; this code reads {kind!r} in format {format_number}: "
            "train the member again, or run the version that wrote it"
        )
    return found

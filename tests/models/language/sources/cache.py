"""A cache of the hub, as its client leaves it, and nobody who reaches the hub itself."""

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a cache that holds nothing."""
    place = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def put_in_cache(
    cache: Path, hub: str, folder: Path, *, ref: str | None = "main", commit: str = COMMIT
) -> Path:
    """What is in `folder` as a snapshot of a model: links to blobs, and a ref that names it."""
    home = cache / f"models--{hub.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            blob = home / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            link = snapshot / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            up = [".."] * (len(link.relative_to(home).parts) - 1)
            link.symlink_to(Path(*up, "blobs", blob.name))
    if ref is not None:
        (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (home / "refs" / ref).write_text(commit)
    return snapshot

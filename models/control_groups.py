"""The control groups a process is in, and the small files in which the system says their limits.

Reads /proc and /sys alone; elsewhere than on Linux there is nothing to read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
CGROUP: Final = Path("/sys/fs/cgroup")


def control_groups(proc: Path, cgroup: Path, controller: str) -> Iterator[Path]:
    """Every control group we are in, innermost first: a limit may sit on any of them."""
    for line in read_text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, inside = rest.partition(":")
        if not controllers:
            root = cgroup
        elif controller in controllers.split(","):
            root = cgroup / controller
        else:
            continue
        folder = root / inside.lstrip("/")
        while folder.is_relative_to(root):
            yield folder
            folder = folder.parent


def read_number(path: Path) -> int | None:
    """The whole number a file holds; None without one, as where no limit is set."""
    text = read_text(path).strip()
    return int(text) if text.isdecimal() else None


def read_text(path: Path) -> str:
    """What a file holds; nothing where it is not there or not ours to read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""

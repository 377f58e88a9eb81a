"""What this machine offers a process: cores, memory and processor features, limits included.

Reads /proc and /sys alone, so it works in every install; elsewhere than on Linux it knows less.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_CGROUP: Final = Path("/sys/fs/cgroup")

# What the libraries we run on have fast paths for, weakest first.
_FEATURES: Final = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx_vnni",
    "avx512_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


@dataclass(frozen=True)
class Cores:
    """Processor cores, by who limits them."""

    online: int
    allowed: int  # by affinity: taskset, cpusets
    quota: float | None  # by the control group, in cores; None without a limit

    @property
    def usable(self) -> int:
        """Whole cores that threads can keep busy."""
        return max(1, min(self.allowed, int(self.quota or self.allowed)))


@dataclass(frozen=True)
class Memory:
    """Bytes of memory, by who limits them; None where nobody says."""

    total: int | None
    available: int | None  # on the machine
    limit: int | None  # of the control group
    free_of_limit: int | None

    @property
    def usable(self) -> int | None:
        """What a new process may take before somebody is killed."""
        known = [value for value in (self.available, self.free_of_limit) if value is not None]
        return min(known, default=None)


def read_cores(proc: Path = _PROC, cgroup: Path = _CGROUP) -> Cores:
    """The cores of the machine and what is left of them for us."""
    online = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    quotas = [quota for folder in _groups(proc, cgroup, "cpu") if (quota := _quota(folder))]
    return Cores(online, allowed, min(quotas, default=None))


def read_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> Memory:
    """The memory of the machine and what is left of it for us."""
    fields = {}
    for line in _text(proc / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if value.strip().endswith("kB"):
            fields[name] = int(value.split()[0]) * 1024
    total = fields.get("MemTotal")
    limits = []
    for folder in _groups(proc, cgroup, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        # Version 1 says "no limit" as a number larger than any memory.
        if limit is not None and (total is None or limit < total):
            limits.append((limit, max(0, limit - _used(folder))))
    return Memory(
        total,
        fields.get("MemAvailable"),
        min((limit for limit, _ in limits), default=None),
        min((free for _, free in limits), default=None),
    )


def read_features(proc: Path = _PROC) -> list[str]:
    """The processor features that matter to us, of those the kernel names."""
    named: set[str] = set()
    for line in _text(proc / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            named = set(value.split())
            break
    return [feature for feature in _FEATURES if feature in named]


def read_model(proc: Path = _PROC) -> str | None:
    """What the processor calls itself."""
    for line in _text(proc / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def _groups(proc: Path, cgroup: Path, controller: str) -> Iterator[Path]:
    """Every control group we are in, innermost first: a limit may sit on any of them."""
    for line in _text(proc / "self" / "cgroup").splitlines():
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


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdecimal():
        return int(words[0]) / int(words[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _used(folder: Path) -> int:
    """What the group holds and cannot give back; cached files it can."""
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"}:
            return max(0, used - int(value))
    return used


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""

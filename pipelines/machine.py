"""What this machine offers a process: memory and processor features, limits included.

Reads /proc and /sys alone, so it works in every install; elsewhere than on Linux it knows less.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.control_groups import CGROUP, PROC, control_groups, read_number, read_text

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


def read_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> Memory:
    """The memory of the machine and what is left of it for us."""
    fields = {}
    for line in read_text(proc / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if value.strip().endswith("kB"):
            fields[name] = int(value.split()[0]) * 1024
    total = fields.get("MemTotal")
    limits = []
    for folder in control_groups(proc, cgroup, "memory"):
        limit = read_number(folder / "memory.max") or read_number(folder / "memory.limit_in_bytes")
        # Version 1 says "no limit" as a number larger than any memory.
        if limit is not None and (total is None or limit < total):
            limits.append((limit, max(0, limit - _used(folder))))
    return Memory(
        total,
        fields.get("MemAvailable"),
        min((limit for limit, _ in limits), default=None),
        min((free for _, free in limits), default=None),
    )


def read_features(proc: Path = PROC) -> list[str]:
    """The processor features that matter to us, of those the kernel names."""
    named: set[str] = set()
    for line in read_text(proc / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            named = set(value.split())
            break
    return [feature for feature in _FEATURES if feature in named]


def read_model(proc: Path = PROC) -> str | None:
    """What the processor calls itself."""
    for line in read_text(proc / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def _used(folder: Path) -> int:
    """What the group holds and cannot give back; cached files it can."""
    used = (
        read_number(folder / "memory.current") or read_number(folder / "memory.usage_in_bytes") or 0
    )
    for line in read_text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"}:
            return max(0, used - int(value))
    return used

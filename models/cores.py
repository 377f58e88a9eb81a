"""The processor cores that a process may keep busy, limits of its container included."""

import os
from dataclasses import dataclass
from pathlib import Path

from models.control_groups import CGROUP, PROC, control_groups, read_number, read_text


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


def read_cores(proc: Path = PROC, cgroup: Path = CGROUP) -> Cores:
    """The cores of the machine and what is left of them for us."""
    online = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    groups = control_groups(proc, cgroup, "cpu")
    quotas = [quota for folder in groups if (quota := _quota(folder))]
    return Cores(online, allowed, min(quotas, default=None))


def _quota(folder: Path) -> float | None:
    words = read_text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdecimal():
        return int(words[0]) / int(words[1])
    quota = read_number(folder / "cpu.cfs_quota_us")
    period = read_number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None

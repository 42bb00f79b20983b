"""What the kernel tells of a process: figures under the names that Prometheus's own clients use.

Source: proc(5). What another user's process does not show is left out.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_USER_TICKS, _SYSTEM_TICKS = 11, 12  # of /proc/PID/stat, counted behind the name, which may hold spaces
_RESIDENT = 1
_LIMIT = re.compile(r"^Max open files +(\d+)", re.MULTILINE)


class Figures(NamedTuple):
    """Seconds, bytes, and numbers of descriptors; None for what is not told."""

    cpu_seconds_total: float
    resident_memory_bytes: int
    open_fds: int | None
    max_fds: int | None


def look_at(pid: int) -> Figures | None:
    """Return the figures of a process, or None if it is gone, or the kernel tells nothing of it."""
    try:
        stat = _read(pid, "stat").rpartition(")")[2].split()
        pages = int(_read(pid, "statm").split()[_RESIDENT])
    except (OSError, IndexError, ValueError):
        return None
    ticks = int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS])
    return Figures(ticks / _TICKS_PER_S, pages * _PAGE_BYTES, _count_open(pid), _limit(pid))


def _count_open(pid: int) -> int | None:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return None


def _limit(pid: int) -> int | None:
    with suppress(OSError):
        found = _LIMIT.search(_read(pid, "limits"))
        return int(found[1]) if found else None
    return None


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as file:
        return file.read()

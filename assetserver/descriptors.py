"""How many descriptors this process may still open, asked for without counting them.

The kernel gives the lowest number that is free: a new descriptor with a high number says that all below it are in use.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress

WANTED = 65_536
"""For 16,384 connections that download: each takes the connection, its duplicate for ``sendfile``, and the file."""

LARGEST_RESERVE = 64
_SHARE = 8
"""An eighth of few descriptors is kept for the files that those who are connected ask for."""


def raise_limit() -> None:
    """Let this process open as many descriptors as it wants, or as it may: what shells give is for interactive programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Descriptors:
    """The descriptors of this process; ``limit`` is how many it may have."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
        self._reserve = min(LARGEST_RESERVE, self.limit // _SHARE)

    def is_high(self, number: int) -> bool:
        """Tell whether few were left when a descriptor got this number."""
        return number >= self.limit - self._reserve

    def are_scarce(self) -> bool:
        """Tell whether few are left now."""
        return self.is_high(_next_number())

    def are_plenty(self) -> bool:
        """Tell whether there are clearly more than few again. Takes that many for a moment."""
        taken: list[int] = []
        try:
            while len(taken) < self._reserve * 2:
                taken.append(_open_any())
        except OSError:
            return False
        finally:
            for one in taken:
                os.close(one)
        return True


def _next_number() -> int:
    try:
        number = _open_any()
    except OSError:
        return 1 << 31
    os.close(number)
    return number


def _open_any() -> int:
    return os.eventfd(0) if hasattr(os, "eventfd") else os.open(os.devnull, os.O_RDONLY)

"""What a service tells its manager, and how often it must: systemd's notification protocol, for ``Type=notify``.

A notice is one datagram of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names. Source: sd_notify(3),
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

LIMIT_STATUS = 300
"""Characters of a status: it stands in one line of ``systemctl status``."""

PATIENCE_S = 1.0


def parse_watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    """Return after how many seconds of silence process ``pid`` is taken to be stuck, or None if nobody waits for it."""
    text = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not (text.isascii() and text.isdigit()):
        return None
    return int(text) / 1e6 or None


def format_status(text: str) -> str:
    """Return the line of a notice that says in words how things stand."""
    return "STATUS=" + " ".join(text.split())[:LIMIT_STATUS]


class Notifier:
    """Tells the manager that ``environ`` names how process ``pid`` is; where it names none, nobody is told.

    Nothing here raises, or waits for longer than ``PATIENCE_S``. All may be repeated.
    """

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        limit_s = parse_watchdog(environ, os.getpid() if pid is None else pid)
        self._beat_s = limit_s / 2 if limit_s is not None and self._address else None
        self._beaten_s = float("-inf")

    @property
    def beat_s(self) -> float | None:
        """How often ``beat`` is to be called, in seconds, or None."""
        return self._beat_s

    def ready(self, status: str) -> None:
        """Say that it serves, at first or again after ``reloading``."""
        self._tell("READY=1", format_status(status))

    def reloading(self) -> None:
        """Say that it reads its configuration anew; ``ready`` must follow."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", format_status("reloading"))

    def stopping(self) -> None:
        """Say that it ends."""
        self._tell("STOPPING=1", format_status("stopping"))

    def status(self, text: str) -> None:
        """Say how things stand, in words, for ``systemctl status``."""
        self._tell(format_status(text))

    def beat(self, now_s: float) -> None:
        """Say that it is alive, if that is due: no later than half of the time after which it would be killed."""
        if self._beat_s is not None and now_s - self._beaten_s >= self._beat_s / 2:
            self._beaten_s = now_s
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.settimeout(PATIENCE_S)
            made.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)

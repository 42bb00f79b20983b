"""How fast a client takes its answer. Who takes a few bytes now and then is never idle, and holds a connection for days."""

from __future__ import annotations

import asyncio
import fcntl
import termios
from array import array

WINDOW_S = 60.0
"""What a client takes is counted over so long: a tunnel, or a phone that changes from one network to another, is no attack."""


class Pace:
    """What one client took of late; looked at by the sweep, so that sending costs nothing."""

    __slots__ = ("_begun_s", "_first", "_last")

    def __init__(self) -> None:
        self._begun_s = 0.0
        self._first = self._last = 0

    def is_too_slow(self, now_s: float, left: int, transport: asyncio.Transport, minimum_bytes_per_s: int) -> bool:
        """Tell whether the client took less than it must over a whole window; at times, in rising order of ``now_s``.

        ``left`` are the bytes of what was begun that the kernel has not been given; 0 if there are none, or if it is not
        known. What the kernel has and the client has not confirmed is asked for at both ends of a window: a full buffer of
        the kernel is not a fast client.
        """
        if not left or left > self._last:  # nothing to take, or another answer
            self._first = 0
        self._last = left
        if not left or (self._first and now_s - self._begun_s < WINDOW_S):
            return False
        queued = _count_unconfirmed(transport)
        taken, begun_s = self._first - left - queued, self._begun_s
        is_begun, self._first, self._begun_s = self._first > 0, left + queued, now_s
        # A client that has confirmed all waits for us: for the disk, or for its turn.
        return is_begun and queued > 0 and taken < minimum_bytes_per_s * (now_s - begun_s)


def _count_unconfirmed(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel has yet to bring to the client, or 0 if it does not tell."""
    count = array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    except (OSError, AttributeError):
        return 0
    return count[0]

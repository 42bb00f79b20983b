"""One timer: how late the event loop is, ten times a second; and what is due once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .board import Block
from .families import NANOSECONDS, family

BEAT_S = 0.1
_BEATS = 10

_LAG = family("event_loop_lag_seconds")
_LATEST = family("event_loop_latest_lag_seconds").slot()


class Pulse:
    """Beats as long as the loop turns, once it was started in it. ``each_second`` is called ``_BEATS`` beats apart.

    What is late is what runs in the loop for too long: a beat that comes 0.2 s after it was due, came after 0.2 s of it.
    """

    def __init__(self, block: Block, each_second: Callable[[], None]) -> None:
        self._block = block
        self._each_second = each_second
        self._beats = 0
        self._longest_s = 0.0
        self._due_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin. To be called in the loop; one that is not asyncio's has no pulse."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._schedule()

    def stop(self) -> None:
        """End, after what is due was done once more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._each_second()

    def _schedule(self) -> None:
        self._due_s = self._loop.time() + BEAT_S
        self._handle = self._loop.call_at(self._due_s, self._beat)

    def _beat(self) -> None:
        late_s = max(0.0, self._loop.time() - self._due_s)
        self._block.observe(_LAG, _LAG.first, late_s)
        self._longest_s = max(self._longest_s, late_s)
        self._beats += 1
        if self._beats >= _BEATS:
            self._block.slots[_LATEST] = int(self._longest_s * NANOSECONDS)
            self._beats, self._longest_s = 0, 0.0
            self._each_second()
        self._schedule()

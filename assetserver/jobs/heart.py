"""The heart of a worker: prolongs the leases of what runs, tells its progress, and notices what takes too long.

A thread of its own, which sleeps while nothing runs: an idle worker has no heartbeat.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from assetserver.errors import AssetServerError

from .attempt import Attempt
from .queue import Beat, JobQueue

logger = logging.getLogger(__name__)

BEATS_PER_LEASE = 3
"""A heartbeat may be late by two, as when the records are locked, and nothing is lost."""

_LONGEST_SILENCE_S = 0.5
"""How old the progress may be that others see."""


class Heart:
    """Keeps the leases of running attempts for ``lease_s``; calls ``on_overdue`` for one that takes longer than it may."""

    def __init__(self, queue: JobQueue, lease_s: float, on_overdue: Callable[[Attempt], None]) -> None:
        self._queue = queue
        self._lease_s = lease_s
        self._on_overdue = on_overdue
        self._running: dict[Attempt, _Pulse] = {}
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="assetserver-heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End: what still runs is not prolonged any more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()

    def watch(self, attempt: Attempt, limit_s: float) -> None:
        """Keep the lease of ``attempt``, which was taken just now, for up to ``limit_s``."""
        with self._changed:
            self._running[attempt] = _Pulse(time.monotonic(), attempt.begun_s + limit_s)
            self._changed.notify()

    def forget(self, attempt: Attempt) -> None:
        """Keep it no longer."""
        with self._changed:
            self._running.pop(attempt, None)

    def _run(self) -> None:
        while self._wait():
            due = self._list_due(time.monotonic())
            if due:
                self._beat(due)

    def _wait(self) -> bool:
        """Wait until it is time to look; return False once stopped."""
        with self._changed:
            if self._changed.wait_for(lambda: self._is_stopped or bool(self._running)) and not self._is_stopped:
                self._changed.wait_for(lambda: self._is_stopped, min(_LONGEST_SILENCE_S, self._lease_s / BEATS_PER_LEASE / 2))
            return not self._is_stopped

    def _list_due(self, now_s: float) -> list[Attempt]:
        """Return whose lease is to be prolonged, or whose progress told; give up those that take too long."""
        with self._changed:
            overdue = [attempt for attempt, pulse in self._running.items() if now_s >= pulse.overdue_s]
            for attempt in overdue:
                del self._running[attempt]
            due = [one for one, pulse in self._running.items() if pulse.is_due(one, now_s, self._lease_s / BEATS_PER_LEASE)]
        for attempt in overdue:
            self._on_overdue(attempt)
        return due

    def _beat(self, due: list[Attempt]) -> None:
        now_s = time.monotonic()
        shares = {attempt: attempt.share for attempt in due}
        try:
            lost = self._queue.heartbeat([Beat(one.lease, share) for one, share in shares.items()], self._lease_s)
        except AssetServerError as error:  # tried again at the next look; if the lease ends meanwhile, another worker has it
            logger.warning("leases of %d jobs were not prolonged: %s", len(due), error)
            return
        tokens = {lease.job.id for lease in lost}
        for attempt, share in shares.items():
            if attempt.job.id in tokens:
                attempt.lose()
                self.forget(attempt)
            else:
                self._note(attempt, now_s, share)

    def _note(self, attempt: Attempt, now_s: float, share: float) -> None:
        with self._changed:
            if pulse := self._running.get(attempt):
                pulse.beat_s, pulse.share = now_s, share


class _Pulse:
    """When an attempt was heard of last, how far it was, and when it has taken too long."""

    __slots__ = ("beat_s", "overdue_s", "share")

    def __init__(self, beat_s: float, overdue_s: float) -> None:
        self.beat_s, self.overdue_s, self.share = beat_s, overdue_s, 0.0

    def is_due(self, attempt: Attempt, now_s: float, every_s: float) -> bool:
        return attempt.share != self.share or now_s - self.beat_s >= every_s

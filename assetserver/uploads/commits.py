"""Changes of records, written together: whoever comes while a transaction is on its way waits for the next one.

A commit costs what the disk's fsync does, and 0.25 ms of CPU, however many changes it has. While many files are on their way,
it waits for half of them, for a few milliseconds at most: as databases do that know a commit delay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from assetserver.storage.pools import FilePool, wait_future

from .records import Change

MOST_AT_ONCE = 256
FEW = 4
"""With so many on their way or fewer, nobody waits for another one."""

DELAY_S = 0.004

Write = Callable[[Sequence[Change]], Sequence[Exception | None]]
_Waiting = tuple[Change, Future[Any], Any]
T = TypeVar("T")


class Commits:
    """Changes that wait for ``write``, which runs on ``pool``, one call at a time.

    ``coming`` tells how many files are on their way here, with those that wait already.
    """

    def __init__(self, pool: FilePool, write: Write, coming: Callable[[], int] = int) -> None:
        self._pool = pool
        self._write = write
        self._coming = coming
        self._are_enough = threading.Event()
        self._waiting: list[_Waiting] = []
        self._is_running = False
        self._lock = threading.Lock()

    async def commit(self, change: Change) -> None:
        """Make ``change`` durable. Raises why it was not made. Being cancelled leaves it on its way."""
        future: Future[None] = Future()
        self.submit(change, future, None)
        await wait_future(future)

    def submit(self, change: Change, future: Future[T], result: T) -> None:
        """Have ``change`` made soon; ``future`` gets ``result`` once it is durable, or why it was not made."""
        with self._lock:
            self._waiting.append((change, future, result))
            if len(self._waiting) * 2 >= self._coming():
                self._are_enough.set()
            starts, self._is_running = not self._is_running, True
        if starts:
            self._pool.submit(self._run).add_done_callback(self._drop_if_cancelled)

    def _run(self) -> None:
        while some := self._gather():
            for (_, future, result), refused in zip(some, self._try_write([one[0] for one in some]), strict=True):
                if refused is None:
                    future.set_result(result)
                else:
                    future.set_exception(refused)

    def _gather(self) -> list[_Waiting]:
        """Return the changes to be made next, none if there are none."""
        if len(self._waiting) * 2 < self._coming() > FEW:
            self._are_enough.clear()
            self._are_enough.wait(DELAY_S)
        return self._take()

    def _take(self) -> list[_Waiting]:
        with self._lock:
            some, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            self._is_running = bool(some)
            return some

    def _try_write(self, changes: list[Change]) -> Sequence[Exception | None]:
        """Whatever is raised is told to all who wait: on this thread nobody else would hear of it."""
        try:
            return self._write(changes)
        except Exception as error:  # noqa: BLE001 - see above
            return [error] * len(changes)

    def _drop_if_cancelled(self, run: Future[None]) -> None:
        """The pool was closed before it came to run: tell all who wait."""
        if not run.cancelled():
            return
        with self._lock:
            dropped, self._waiting, self._is_running = self._waiting, [], False
        for _, future, _ in dropped:
            future.set_exception(InterruptedError("the server is stopping"))

"""Changes of records, written together: whoever comes while a transaction is on its way waits for the next one.

A commit costs what the disk's fsync does, however many changes it has; so does making the names of blobs durable, by folder.
Written one by one, small files would be as many as the disk can sync in a second, divided by three.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from assetserver.storage.pools import FilePool, wait_future

from .records import Change

MOST_AT_ONCE = 256

Write = Callable[[Sequence[Change]], Sequence[Exception | None]]
_Waiting = tuple[Change, Future[Any], Any]
T = TypeVar("T")


class Commits:
    """Changes that wait for ``write``, which runs on ``pool``, one call at a time."""

    def __init__(self, pool: FilePool, write: Write) -> None:
        self._pool = pool
        self._write = write
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
            starts, self._is_running = not self._is_running, True
        if starts:
            self._pool.submit(self._run).add_done_callback(self._drop_if_cancelled)

    def _run(self) -> None:
        while some := self._take():
            for (_, future, result), refused in zip(some, self._try_write([one[0] for one in some]), strict=True):
                if refused is None:
                    future.set_result(result)
                else:
                    future.set_exception(refused)

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

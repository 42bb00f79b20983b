"""Holds off ``gc`` while a release arrives: its blobs come one by one, and no state names them before the last is there.

The lock is that of every publish, shared. It is kept for a while after the last request, since more of them follow; if a client
stays away for longer and ``gc`` takes what it sent, it is told what is missing and sends that again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager

import anyio

from assetserver.errors import BusyError
from assetserver.releases.collect import publishing_lock
from assetserver.storage.pools import FilePool, wait_done, wait_future

LINGER_S = 30.0
PATIENCE_S = 10.0
"""How long a request waits for ``gc`` to end before it is asked to come again."""


class PublishingLease:
    """The shared lock of publishing to ``folder``, held by this process while requests need it, and ``linger_s`` longer."""

    def __init__(self, folder: str, linger_s: float = LINGER_S, patience_s: float = PATIENCE_S) -> None:
        self._folder = folder
        self._linger_s = linger_s
        self._patience_s = patience_s
        self._pool = FilePool("assetserver-remote-lock", 1)
        self._users = 0
        self._lock: Future[ExitStack] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock. Raises ``BusyError`` if a collection does not end in time."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._take()
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._timer = asyncio.get_running_loop().call_later(self._linger_s, self.let_go)

    def let_go(self) -> None:
        """Give the lock back now, unless somebody needs it: nothing more will come."""
        if self._users or self._lock is None:
            return
        taken, self._lock = self._lock, None
        taken.add_done_callback(_close)

    def close(self) -> None:
        """Give the lock back; nobody may need it any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._users = 0
        self.let_go()

    async def _take(self) -> None:
        if self._lock is None:
            self._lock = self._pool.submit(_lock, self._folder)
        taken = self._lock
        with anyio.move_on_after(self._patience_s):
            await wait_done(taken)
        if not taken.done():
            raise BusyError("gc or verify is running; try again in a moment")
        try:
            await wait_future(taken)
        except OSError:
            self._lock = None
            raise


def _lock(folder: str) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(publishing_lock(folder))
    return stack


def _close(taken: Future[ExitStack]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        taken.result().close()

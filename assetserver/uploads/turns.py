"""Whose turn it is to write to an upload: the newest request's. The one before gives way and keeps what arrived.

A client that lost its connection comes back before the server knows of the loss. In this process the newcomer tells the older
request directly; requests of other worker processes see its wish at the file (``storage.staging``), four times a second: one
timer for all of them, which runs only while something is received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from assetserver.errors import BusyError, UploadBusyError, UploadError
from assetserver.storage.blobs import StagedUpload, Staging
from assetserver.storage.pools import FilePool, wait_future

from .deposit import close_file, told_errors

PATIENCE_S = 8.0
"""How long a newcomer waits for the older request; then it is answered 423."""

_LOOK_S = 0.25
_RETRY_S = 0.01


@dataclass
class _Turn:
    """A request that receives, and how to end that."""

    scope: anyio.CancelScope
    file: StagedUpload | None


class Turns:
    """The requests of this process that receive, on one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _Turn] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._working = 0
        self._is_idle = anyio.Event()

    def __contains__(self, upload_id: str) -> bool:
        return upload_id in self._running

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do what a stop waits for: all that becomes of a request's bytes. Raises ``BusyError`` once it is stopping."""
        if self._is_stopping:
            raise BusyError("the server is stopping")
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._is_idle.set()

    @contextmanager
    def receiving(self, upload_id: str, file: StagedUpload | None) -> Iterator[None]:
        """Run what receives until it ends or must give way; then raise ``UploadBusyError``, or at a stop ``BusyError``.

        Within ``working``: what was received is kept after this, and before a stop is over. Without ``file`` nobody else can
        know of the upload yet.
        """
        with anyio.CancelScope() as scope:
            self._running[upload_id] = _Turn(scope, file)
            self._watch()
            if self._is_stopping:
                scope.cancel()
            try:
                yield
            finally:
                del self._running[upload_id]
        if scope.cancelled_caught:
            raise self._explain(upload_id)

    def give_way(self, upload_id: str) -> None:
        """End the request that receives for an upload, if there is one here."""
        if (turn := self._running.get(upload_id)) is not None:
            turn.scope.cancel()

    async def stop(self, limit_s: float) -> None:
        """End all requests, now and from now on, and wait until they have kept what arrived, for up to ``limit_s``."""
        self._is_stopping = True
        for turn in self._running.values():
            turn.scope.cancel()
        self._is_idle = anyio.Event()
        if self._working:
            with anyio.move_on_after(limit_s):
                await self._is_idle.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        if self._timer is None and self._running:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for turn in self._running.values():
            if turn.file is not None and turn.file.is_wanted():
                turn.scope.cancel()
        self._watch()

    def _explain(self, upload_id: str) -> UploadError:
        if self._is_stopping:
            return BusyError("the server is stopping; what arrived is kept")
        return UploadBusyError(f"another request took over upload {upload_id}; what arrived is kept")


async def claim(staging: Staging, pool: FilePool, turns: Turns, upload_id: str) -> StagedUpload:
    """Return the file of an upload with the right to write to it, taken over from whoever writes; the caller closes it.

    Raises ``UploadBusyError`` if that does not give way, ``StorageError`` and its kin if the file cannot be opened.
    """
    give_up = anyio.current_time() + PATIENCE_S
    while True:
        file = await wait_future(pool.submit(_open, staging, upload_id))
        try:
            await _wait_claim(file, turns, upload_id, give_up)
        except BaseException:
            await close_file(pool, file)
            raise
        if not file.is_removed():
            return file
        await close_file(pool, file)


async def _wait_claim(file: StagedUpload, turns: Turns, upload_id: str, give_up: float) -> None:
    while not file.try_claim():
        turns.give_way(upload_id)
        if anyio.current_time() > give_up:
            raise UploadBusyError(f"another request writes to upload {upload_id} and does not give way")
        await anyio.sleep(_RETRY_S)


def _open(staging: Staging, upload_id: str) -> StagedUpload:
    with told_errors():
        return staging.open(upload_id)

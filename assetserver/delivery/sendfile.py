"""Bytes of files go by the kernel: ``os.sendfile`` onto a duplicate of the connection's descriptor.

Laws:
- One window per turn of the loop and connection, the smaller the more there are: downloads do not keep others waiting.
- The loop never waits for the disk: pages that are not in memory are read ahead on a thread. A file system that cannot be asked
  (NFS, FUSE, tmpfs: ``EOPNOTSUPP``) is taken for one whose pages are not.
- Nothing else writes on the connection meanwhile; the caller lets all that is buffered leave first.
- The kernel sends the file's own pages. One that is emptied or replaced leaves those on their way as they were. One that is
  written over in place, or cut to a length other than 0, may change those not yet received: the kernel zeroes the rest of the
  folio in which it cuts, up to 2 MiB. Only content that never changes is safe from that.

Source: sendfile(2), preadv2(2) for ``RWF_NOWAIT``; ASGI extensions, "Path Send".
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from assetserver.errors import FileChangedError, OverloadedError
from assetserver.storage.pools import FilePool, wait_future

from .files import PIECE_BYTES, open_regular
from .openfiles import OpenedFile
from .pages import Pages, are_there, read_ahead, read_ahead_of

FILE = "assetserver.response.file"
"""A message of ours: send ``count`` bytes of the descriptor ``file`` from ``offset``, in order with the body messages.

``check(position)`` raises ``FileChangedError`` when the file is not the one that was promised; ``opened`` is the file, and
``find()`` finds it again. Who takes the message notes in its ``sent`` how much went out, in bytes; no ``sent`` afterwards:
nobody took it, send the bytes yourself. It ends no response.
"""

PATH = "http.response.pathsend"
"""The message of the ASGI specification: send the whole file at ``path``, and end the response. Ours notes ``sent``, too."""

TURN_BYTES = 4 << 20
"""What all connections send in one turn of the loop, about: each its share, but not less than ``WINDOW_BYTES``.

Measured 2026-11-22 on a busy machine, so roughly: one download cost 189 µs of CPU per MiB with windows of 1 MiB, 237 with 256
KiB (nginx 219). Raised from 1 MiB to 4 on 2026-11-27: four downloads of 32 MiB took 1.87 of nginx's CPU before, 1.20 after.
Small answers beside 50 slow downloads had a p99 of 4.7 ms with it, nginx's of 5.5 (``benchmarks/bench_latency.py``).
"""

WINDOW_BYTES = 256 << 10
AT_ONCE_BYTES = 1 << 20
"""What an answer may bring in the turn in which it is asked for, before it counts among the downloads."""

_READERS = 4
_RETRY_S = 0.02
_NOT_HERE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOVERFLOW, errno.EOPNOTSUPP, errno.EMFILE, errno.ENFILE})
"""The kernel cannot send this file, or there is no descriptor left: the rest can still be streamed."""

_pool = FilePool("assetserver-ahead", _READERS)
_senders: set[FileSender] = set()


class FilePart(NamedTuple):
    """Some bytes of an open file, and what raises ``FileChangedError`` when they are no longer those.

    ``opened`` is the file, if it stays open for others: what of it is in memory is then known to them, too.
    """

    descriptor: int
    offset: int
    length: int
    check: Callable[[int], None]
    opened: OpenedFile | None = None


def can_sendfile() -> bool:
    """Tell whether this platform has what this module builds on."""
    return hasattr(os, "sendfile") and hasattr(os, "RWF_NOWAIT")


def takes_files(scope: Scope, receive: Receive) -> bool:
    """Tell whether ``FILE`` messages may be sent: the server takes them, and nobody who buffers stands in between.

    Who turns answers into streams of their own (Starlette's ``BaseHTTPMiddleware``) knows no other messages than the
    specification's. They hand on another ``receive``, too, and are known by that.
    """
    offer = scope.get("extensions", {}).get(FILE)
    return offer is not None and offer["receive"] is receive


def choose_window() -> int:
    """Return how many bytes one connection may send in this turn of the loop."""
    return max(WINDOW_BYTES, TURN_BYTES // len(_senders)) if _senders else TURN_BYTES


def send_at_once(connection: int, opened: OpenedFile, offset: int, count: int, now_s: float) -> int:
    """Send what is in memory of a file, and fits into what the kernel keeps for the connection; return how much, in bytes.

    Not more than ``AT_ONCE_BYTES``, or its share of the turn. 0 also where nothing can be sent: a ``FileSender`` waits for
    what is missing, or finds out. Never blocks.
    """
    count = min(count, AT_ONCE_BYTES, choose_window()) if count > WINDOW_BYTES else count
    if not are_there(opened, offset, count, now_s):
        return 0
    try:
        return os.sendfile(connection, opened.descriptor, offset, count)
    except OSError:
        return 0


class FileSender:
    """Sends ``part`` over the connection with the descriptor ``connection``, which stays open; ``sent`` of it is gone already.

    ``sent`` tells how much went out, in bytes; ``is_possible`` is False where the rest must be streamed; ``error`` is a
    ``FileChangedError``, or the ``OSError`` of a file that cannot be read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: int, part: FilePart, sent: int = 0) -> None:
        self.sent = sent
        self.is_possible = True
        self.error: FileChangedError | OSError | None = None
        self._loop = loop
        self._part = part
        self._connection = connection
        self._watched = -1
        self._on_end: Callable[[], None] | None = None
        self._is_reading = False
        self._active_s = loop.time()
        self._is_checked = False
        self._pages = Pages(part.descriptor, part.offset, part.offset + part.length, part.opened)

    @property
    def left(self) -> int:
        """How many bytes are not sent yet."""
        return self._part.length - self.sent

    def start(self, on_end: Callable[[], None], *, is_checked: bool = False) -> None:
        """Begin to send; ``on_end`` is called once, maybe before this returns. To be called once.

        ``is_checked``: somebody has just seen that the file is the one that was promised.
        """
        self._on_end = on_end
        self._is_checked = is_checked
        _senders.add(self)
        self._step()

    async def run(self) -> bool:
        """Send all of it; return False where the rest must be streamed.

        Stops without an error, and with less sent, after ``stop``, or when the client is gone.
        Raises ``FileChangedError``, and ``OSError`` when the file cannot be read. To be called once.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        try:
            self.start(lambda: _settle(done))
            await done
        finally:
            self.stop()
        if self.error is not None:
            raise self.error
        return self.is_possible

    def stop(self) -> None:
        """End: the connection is lost. May be repeated."""
        self._end()

    def idle_s(self, now_s: float) -> float:
        """Return for how long the client has taken nothing, in seconds; 0 while we wait for the disk."""
        return 0.0 if self._is_reading else now_s - self._active_s

    def _step(self) -> None:
        """Send a window, or wait for what it needs."""
        if self._on_end is None:
            return
        try:
            self._send_window()
        except BlockingIOError:
            self._watch()
        except (FileChangedError, OSError) as error:
            self._fail(error)

    def _send_window(self) -> None:
        position, count = self._part.offset + self.sent, min(choose_window(), self._part.length - self.sent)
        if count and (missing := self._pages.find_missing(position, count, self._loop.time())) is not None:
            self._read_ahead(missing)
            return
        if not self._is_checked:
            self._part.check(position)
        self._is_checked = False
        moved = os.sendfile(self._connection, self._part.descriptor, position, count) if count else 0
        if count and not moved:
            raise FileChangedError(f"a file was cut while it was sent, at byte {position}; the connection is closed")
        self.sent += moved
        self._active_s = self._loop.time()
        if self.sent < self._part.length:
            self._watch()
            return
        self._part.check(position + moved)
        self._end()

    def _read_ahead(self, block: int) -> None:
        self._unwatch()
        self._is_reading = True
        first, end = self._pages.bounds(block)
        opened = self._part.opened
        if opened is not None:
            reading = _pool.submit(read_ahead_of, opened, first, end - first)
        else:
            descriptor = os.dup(self._part.descriptor)  # the file may be closed while the thread still reads
            reading = _pool.submit(read_ahead, descriptor, first, end - first)
            reading.add_done_callback(lambda _: os.close(descriptor))
        reading.add_done_callback(lambda done: self._call(done, block))

    def _call(self, reading: Future[None], block: int) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._on_read, reading, block)

    def _on_read(self, reading: Future[None], block: int) -> None:
        self._is_reading = False
        self._active_s = self._loop.time()
        try:
            reading.result()
        except (OSError, CancelledError) as error:
            self._fail(error if isinstance(error, OSError) else OSError(errno.EINTR, "the server is stopping"))
        else:
            self._pages.note(block, self._active_s)
            self._step()

    def _fail(self, error: FileChangedError | OSError) -> None:
        if isinstance(error, FileChangedError) or error.errno in (errno.EIO, errno.ESTALE, errno.EINTR):
            self.error = error
        else:  # what remains is about the connection
            self.is_possible = error.errno not in _NOT_HERE
        self._end()

    def _end(self) -> None:
        self._unwatch()
        _senders.discard(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _watch(self) -> None:
        if self._watched >= 0:
            return
        try:
            self._watched = os.dup(self._connection)  # uvloop watches no descriptor that one of its transports has
        except OSError:  # none is left: look again a little later, which needs none
            self._loop.call_later(_RETRY_S, self._step)
        else:
            self._loop.add_writer(self._watched, self._step)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._loop.remove_writer(self._watched)
            os.close(self._watched)
            self._watched = -1


def stop_senders() -> None:
    """End whatever is being sent by this process: the server stops, and has waited long enough."""
    for sender in list(_senders):
        sender.stop()


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def stream_part(part: FilePart, send: Send) -> None:
    """Send a part of a file as body messages, piece by piece: where the kernel cannot. Raises ``FileChangedError``."""
    position, end = part.offset, part.offset + part.length
    while position < end:
        piece = await wait_future(_pool.submit(os.pread, part.descriptor, min(PIECE_BYTES, end - position), position))
        part.check(position)
        if not piece:
            raise FileChangedError(f"a file was cut while it was sent, at byte {position}; the connection is closed")
        position += len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def open_path(path: str) -> FilePart:
    """Open a file to be sent whole; the caller closes its descriptor. Raises ``OSError`` as ``open(2)`` does."""
    opening = _pool.submit(open_regular, path)
    try:
        descriptor, status = await wait_future(opening)
    except (asyncio.CancelledError, OverloadedError):
        opening.add_done_callback(_close_opened)
        raise
    written = status.st_size, status.st_mtime_ns

    def check(position: int) -> None:
        now = os.fstat(descriptor)
        if (now.st_size, now.st_mtime_ns) != written:
            raise FileChangedError(f"{path} changed while it was sent, at byte {position}; the connection is closed")

    return FilePart(descriptor, 0, status.st_size, check)


def _close_opened(opening: Future[tuple[int, os.stat_result]]) -> None:
    with suppress(OSError, CancelledError):
        os.close(opening.result()[0])

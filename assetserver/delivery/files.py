"""Blocking file work, in one place: open, sign, hash, read; and the pool of threads that it runs on.

The pool hands out ``concurrent.futures`` futures and not tasks, so that work outlives the request that asked for it, and the
same folder can serve any event loop: asyncio, trio, and one test's loop after another's.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio.lowlevel import current_token

from assetserver.errors import OverloadedError
from assetserver.storage.signatures import Signature, sign

PIECE_BYTES = 1 << 20
"""What is read at once. 1 MiB: a thread hop costs about 60 µs, a tenth of what reading it from the page cache does."""

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: opening a FIFO must not wait for a writer. It means nothing on regular files."""

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_of_thread = threading.local()
"""``stop`` on the threads of a pool: the event that ends their work."""

_exiting = threading.Event()
getattr(threading, "_register_atexit", atexit.register)(_exiting.set)
"""Ends the work of pools that nobody closed. An exiting interpreter joins their threads before it calls what ``atexit``
holds, so the private hook that ``concurrent.futures`` itself uses is taken where it is there."""

T = TypeVar("T")
P = ParamSpec("P")


def raise_if_overloaded(error: OSError, what: str) -> None:
    """Raise ``OverloadedError`` where ``error`` says that the process is out of descriptors or memory: nothing about a file."""
    if error.errno in _OUT_OF_DESCRIPTORS:
        raise OverloadedError(f"cannot {what}: {error.strerror}") from error


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file and return its descriptor and status; the caller closes it.

    Raises ``OSError`` as ``open(2)`` does, and ``IsADirectoryError`` for a folder, ``FileNotFoundError`` for anything that is
    neither (FIFO, socket, device): for a web server those do not exist.
    """
    descriptor = os.open(path, OPEN_FLAGS)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(path)
    raise FileNotFoundError(path)


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the content of a file from its current position to its end, 1 MiB at a time.

    Raises ``InterruptedError`` on a pool's thread when the pool is closed: nobody waits hours for a sparse file to be hashed.
    """
    stop: threading.Event | None = getattr(_of_thread, "stop", None)
    while piece := os.read(descriptor, PIECE_BYTES):
        if stop is not None and (stop.is_set() or _exiting.is_set()):
            raise InterruptedError(errno.EINTR, "the server is stopping")
        yield piece


def read_whole(path: str, expected: Signature, digest: bytes | None = None) -> bytes | None:
    """Return the content of ``path``, or None if it is not, or stopped being, what ``expected`` signs.

    One descriptor, checked before and after: never a mixture of two versions. Where its SHA-256 ``digest`` is known, the
    content is that: a signature alone does not tell two writes within one tick of the file system's clock apart, and what is
    kept in memory under a digest is taken for it wherever it occurs.
    """
    try:
        descriptor, status = open_regular(path)
    except OSError:
        return None
    try:
        if sign(status) != expected:
            return None
        content = b"".join(read_pieces(descriptor))
        unchanged = len(content) == expected.size and sign(os.fstat(descriptor)) == expected
        return content if unchanged and digest in (None, sha256(content).digest()) else None
    finally:
        os.close(descriptor)


def hash_pieces(pieces: Iterator[bytes]) -> tuple[bytes, int]:
    """Return the SHA-256 and the total length of ``pieces``."""
    digest = sha256()
    length = 0
    for piece in pieces:
        digest.update(piece)
        length += len(piece)
    return digest.digest(), length


class FilePool:
    """A few threads for file work, started when first needed; ``niceness`` puts them behind the serving thread."""

    def __init__(self, name: str, threads: int, *, niceness: int = 0) -> None:
        self._name = name
        self._threads = threads
        self._niceness = niceness
        self._executor: ThreadPoolExecutor | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``function`` on a thread, soon."""
        with self._lock:
            if self._executor is None:
                self._stop = threading.Event()
                self._executor = ThreadPoolExecutor(
                    self._threads, self._name, initializer=self._prepare_thread, initargs=(self._stop,)
                )
            return self._executor.submit(function, *args, **kwargs)

    def close(self) -> None:
        """Drop what has not started, end what reads at its next piece. The pool starts anew if it is used again."""
        with self._lock:
            executor, self._executor = self._executor, None
            self._stop.set()
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def _prepare_thread(self, stop: threading.Event) -> None:
        _of_thread.stop = stop
        if self._niceness and hasattr(os, "setpriority"):
            with suppress(OSError):  # Linux has a priority per thread; where it does not, ours is the process's
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)


def runs_on_asyncio() -> bool:
    """Tell whether the current event loop is asyncio's (or uvloop), else it is trio's."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


async def wait_future(future: Future[T]) -> T:
    """Return the result of ``future``, on any event loop that anyio knows. Being cancelled leaves the future running.

    Raises ``OverloadedError`` when its pool was closed meanwhile, and whatever the work raised.
    """
    await wait_done(future)
    try:
        return future.result()
    except (CancelledError, InterruptedError) as error:
        raise OverloadedError("the server is stopping") from error


async def wait_done(future: Future[Any]) -> None:
    """Wait until ``future`` is done, however it ends. Being cancelled leaves it running."""
    if future.done():
        return
    event = anyio.Event()
    loop: Any = current_token().native_token
    wake = loop.call_soon_threadsafe if runs_on_asyncio() else loop.run_sync_soon

    def on_done(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            wake(event.set)

    future.add_done_callback(on_done)
    await event.wait()

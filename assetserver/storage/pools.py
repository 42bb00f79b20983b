"""Pools of threads for blocking file work, and waiting for what runs there, on any event loop.

A pool hands out ``concurrent.futures`` futures and not tasks, so that work outlives the request that asked for it, and the
same folder can serve any event loop: asyncio, trio, and one test's loop after another's.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, TypeVar

import anyio
from anyio.lowlevel import current_token

from assetserver.errors import OverloadedError

_of_thread = threading.local()
"""``stop`` on the threads of a pool: the event that ends their work."""

_exiting = threading.Event()
getattr(threading, "_register_atexit", atexit.register)(_exiting.set)
"""Ends the work of pools that nobody closed. An exiting interpreter joins their threads before it calls what ``atexit``
holds, so the private hook that ``concurrent.futures`` itself uses is taken where it is there."""

BEHIND = 2
"""How many pieces of small work wait for each thread at work before another one is woken."""

GATHER_S = 0.001
"""How long work of an event loop waits at most for what comes beside it."""

T = TypeVar("T")
P = ParamSpec("P")


class Work(NamedTuple):
    """Something to do, and what to do instead if nobody will."""

    do: Callable[[], object]
    drop: Callable[[], object]


def raise_if_stopping() -> None:
    """Raise ``InterruptedError`` on a pool's thread whose pool is closed: nobody waits hours for a sparse file to be hashed."""
    stop: threading.Event | None = getattr(_of_thread, "stop", None)
    if stop is not None and (stop.is_set() or _exiting.is_set()):
        raise InterruptedError(errno.EINTR, "the server is stopping")


class FilePool:
    """A few threads for file work, started when first needed; ``niceness`` puts them behind the serving thread.

    Where they share a core with it, none is woken in its stead, and none gets as much while it has something to do.
    """

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
        if self._niceness:
            _go_behind(self._niceness)


def _go_behind(niceness: int) -> None:
    """Put the calling thread behind the others of its process, where the system has a priority for each thread: Linux."""
    if not hasattr(os, "SCHED_BATCH"):
        return
    with suppress(OSError):  # a filter may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class FileQueue:
    """Much small work for the threads of ``pool``: another one is woken only where those at work fall behind.

    A thread that is woken for each piece of work waits for the interpreter more than it works; where the disk is what takes
    long, work piles up, and all ``threads`` share it. It is a thread at work that wakes the next.
    """

    def __init__(self, pool: FilePool, threads: int) -> None:
        self._pool = pool
        self._threads = threads
        self._waiting: deque[Work] = deque()
        self._running = 0
        self._lock = threading.Lock()

    def submit(self, *work: Work) -> None:
        """Do each of ``work`` on a thread, soon, or drop it if the pool is closed before; neither may raise."""
        with self._lock:
            self._waiting.extend(work)
            starts = self._falls_behind()
        if starts:
            self._start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
                starts = self._falls_behind()
            if starts:
                self._start()
            work.do()

    def _falls_behind(self) -> bool:
        """Count one more thread, if those at work are too few. For who holds the lock."""
        starts = self._running < self._threads and len(self._waiting) > BEHIND * self._running
        self._running += starts
        return starts

    def _start(self) -> None:
        self._pool.submit(self._run).add_done_callback(self._drop_if_cancelled)

    def _drop_if_cancelled(self, run: Future[None]) -> None:
        """The pool was closed before a thread came to run: tell all who wait, if no other one works for them."""
        if not run.cancelled():
            return
        with self._lock:
            self._running -= 1
            dropped = [] if self._running else list(self._waiting)
            if dropped:
                self._waiting.clear()
        for one in dropped:
            one.drop()


class Gathering:
    """Work of one event loop that is handed to ``queue`` together: the loop goes on with what came beside it meanwhile.

    Between an event loop and threads that both have something to do, the interpreter changes hands at every system call. One
    after the other, a small upload took 0.9 ms of CPU instead of 1.4, and two changes of threads instead of seven (tmpfs, 32
    connections; measured 2026-11-28). ``waits`` tells whether more is about to come; other loops than asyncio's never wait.
    """

    def __init__(self, queue: FileQueue, waits: Callable[[], bool]) -> None:
        self._queue = queue
        self._waits = waits
        self._gathered: list[Work] = []
        self._waking: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Work) -> None:
        """Do ``work`` on a thread, in ``GATHER_S`` at the latest; see ``FileQueue.submit``."""
        self._gathered.append(work)
        if not (self._waits() and runs_on_asyncio()):
            self._hand_on()
        elif (loop := asyncio.get_running_loop()) is not self._waking:  # one that ended before it came to that never will
            self._waking = loop
            loop.call_later(GATHER_S, self._hand_on)

    def _hand_on(self) -> None:
        gathered, self._gathered, self._waking = self._gathered, [], None
        self._queue.submit(*gathered)


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
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        await _wait_done_anywhere(future)
        return
    waiter = loop.create_future()  # an anyio.Event does the same in 6 µs more (17 with the future; measured 2026-11-27)

    def on_done(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            loop.call_soon_threadsafe(_wake, waiter)

    future.add_done_callback(on_done)
    await waiter


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # who waited may have been cancelled
        waiter.set_result(None)


async def _wait_done_anywhere(future: Future[Any]) -> None:
    event = anyio.Event()
    loop: Any = current_token().native_token

    def on_done(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # as above
            loop.run_sync_soon(event.set)

    future.add_done_callback(on_done)
    await event.wait()

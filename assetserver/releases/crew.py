"""Much work at once: on all cores in child processes, or, where starting those would take longer, in threads.

Whoever stops early (Ctrl+C, an error, a generator that is closed) stops all of it: what has not begun is dropped, child
processes are killed, and they end with this one if it is killed itself.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

from assetserver.errors import PublishError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_all(work: Callable[[Task], Result], tasks: Sequence[Task], *, is_little: bool) -> Generator[Result, None, None]:
    """Yield what ``work`` returns for each of ``tasks``, as they end; they are begun in order.

    ``is_little``: threads do, since a process takes 0.3 s to start. Else ``work`` and ``tasks`` must be picklable. Raises what
    ``work`` raises, and ``PublishError`` if a process is killed. Close the iterator (``contextlib.closing``) to stop the work
    as soon as its reader fails: a reader's traceback would keep it alive.
    """
    if not tasks:
        return
    pool = _open_pool(min(len(os.sched_getaffinity(0)), len(tasks)), is_little=is_little)
    done = False
    try:
        with _interrupts_held():
            jobs = [pool.submit(work, task) for task in tasks]
        for job in as_completed(jobs):
            try:
                yield job.result()
            except BrokenProcessPool as error:
                raise PublishError("a process was killed, most likely for want of memory; publish again") from error
        done = True
    finally:
        _close(pool, at_once=not done)


def _open_pool(workers: int, *, is_little: bool) -> Executor:
    if is_little:
        return ThreadPoolExecutor(workers, "assetserver-crew")
    # Not fork: threads of the caller may hold locks. The children import what they work with alone.
    return ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent)


def _close(pool: Executor, *, at_once: bool) -> None:
    """Wait for the workers to end; ``at_once`` kills processes, and lets threads end what they have begun."""
    with _interrupts_held():
        if at_once and isinstance(pool, ProcessPoolExecutor):
            _kill_workers(pool)
        pool.shutdown(cancel_futures=at_once)


def _kill_workers(pool: ProcessPoolExecutor) -> None:
    """Kill the workers; ``kill_workers`` of Python 3.14 does the same, but for the half of a result.

    The pool's own thread would wait for the other half for ever, for this process holds the end that writes, too.
    """
    results = getattr(pool, "_result_queue", None)
    if results is not None:
        results._writer.close()  # noqa: SLF001 - as above
    for worker in list((getattr(pool, "_processes", None) or {}).values()):
        worker.kill()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep SIGINT until the end: no child is lost between its start and its place in the list, none outlives a stop.

    Children inherit the mask, so Ctrl+C, which a terminal sends to all of them, is for this process alone to act upon.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Have this child process end when its parent does, even by SIGKILL: it would wait for work for ever."""
    threading.Thread(target=_wait_for_parent, name="assetserver-parent", daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)

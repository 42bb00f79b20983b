"""Much work at once: on all cores in child processes, or, where starting those would take longer, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from assetserver.errors import PublishError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_all(work: Callable[[Task], Result], tasks: Sequence[Task], *, is_little: bool) -> Iterator[Result]:
    """Yield what ``work`` returns for each of ``tasks``, as they end; they are begun in order.

    ``is_little``: threads do, since a process takes 0.3 s to start. Else ``work`` and ``tasks`` must be picklable. Raises what
    ``work`` raises, and ``PublishError`` if a process is killed.
    """
    if not tasks:
        return
    with _open_pool(min(len(os.sched_getaffinity(0)), len(tasks)), is_little=is_little) as pool:
        for job in as_completed([pool.submit(work, task) for task in tasks]):
            try:
                yield job.result()
            except BrokenProcessPool as error:
                raise PublishError("a process was killed, most likely for want of memory; publish again") from error


def _open_pool(workers: int, *, is_little: bool) -> Executor:
    if is_little:
        return ThreadPoolExecutor(workers, "assetserver-crew")
    # Not fork: threads of the caller may hold locks. The children import what they work with alone.
    return ProcessPoolExecutor(workers, get_context("spawn"))

"""Pools of threads, and waiting for what runs on them, on both event loops."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from assetserver.delivery.files import PIECE_BYTES, hash_pieces, open_regular, read_pieces
from assetserver.errors import OverloadedError
from assetserver.storage.pools import BEHIND, FilePool, FileQueue, Gathering, Work, runs_on_asyncio, wait_done, wait_future

BACKENDS = ("asyncio", "trio")


def test_a_pool_starts_its_threads_only_when_used():
    pool = FilePool("lazy", 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lazy")]
    pool.close()


def test_a_pool_runs_on_named_threads_and_starts_anew_after_close():
    pool = FilePool("again", 2)
    for _ in range(2):
        name = pool.submit(lambda: threading.current_thread().name).result(timeout=60)
        assert name.startswith("again")
        pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("again")]


def test_closing_a_pool_drops_what_has_not_started():
    pool = FilePool("dropping", 1)
    started, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        started.set()
        go_on.wait(60)
        return "finished"

    running = pool.submit(hold)
    waiting = pool.submit(lambda: "never")
    assert started.wait(60)
    threading.Timer(0.05, go_on.set).start()
    pool.close()
    assert running.result(timeout=0) == "finished"
    assert waiting.cancelled()


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A sparse file that nobody lives to see hashed."""
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def test_closing_a_pool_ends_what_reads_at_its_next_piece(endless):
    pool, started, seen = FilePool("stopping", 1), threading.Event(), 0

    def read() -> None:
        nonlocal seen
        descriptor, _ = open_regular(str(endless))
        try:
            for _ in read_pieces(descriptor):
                seen += 1
                started.set()
        finally:
            os.close(descriptor)

    running = pool.submit(read)
    assert started.wait(60)
    pool.close()
    assert isinstance(running.exception(timeout=0), InterruptedError)
    assert seen < (1 << 40) // PIECE_BYTES
    assert pool.submit(read_some).result(timeout=60), "and the pool can be used anew"
    pool.close()


def _hash(path: Path) -> object:
    with path.open("rb") as file:
        return hash_pieces(read_pieces(file.fileno()))


def read_some() -> list[bytes]:
    descriptor, _ = open_regular(__file__)
    try:
        return list(read_pieces(descriptor))
    finally:
        os.close(descriptor)


def test_closing_one_pool_disturbs_no_other():
    closed, other = FilePool("closed", 1), FilePool("other", 1)
    for pool in (closed, other):
        assert len(pool.submit(read_some).result(timeout=60)) == 1
    closed.close()
    assert len(other.submit(read_some).result(timeout=60)) == 1
    assert len(read_some()) == 1
    other.close()


def test_an_interpreter_that_exits_waits_for_no_file(endless):
    script = f"""
import os, threading
from assetserver.delivery.files import hash_pieces, read_pieces
from assetserver.storage.pools import FilePool
started = threading.Event()
def read():
    started.set()
    hash_pieces(read_pieces(os.open({str(endless)!r}, os.O_RDONLY)))
pool = FilePool("left open", 1)
pool.submit(read)
started.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_waits_for_a_pool_that_closes_is_told_to_come_again(endless, backend):
    async def run() -> None:
        pool = FilePool("closing", 1)
        futures = [pool.submit(_hash, endless) for _ in range(2)]
        await anyio.to_thread.run_sync(pool.close)
        for future in futures:
            with pytest.raises(OverloadedError, match="stopping"):
                await wait_future(future)

    anyio.run(run, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_for_the_end_alone_raises_nothing(backend):
    failed: Future[str] = Future()
    failed.set_exception(RuntimeError("broken"))
    dropped: Future[str] = Future()
    dropped.cancel()
    later: Future[str] = Future()

    async def run() -> None:
        for future in (failed, dropped):
            await wait_done(future)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_done, later)
            await anyio.lowlevel.checkpoint()
            later.set_exception(RuntimeError("broken"))

    anyio.run(run, backend=backend)


def test_niceness_puts_only_the_pools_threads_behind():
    pool = FilePool("nice", 1, niceness=5)
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    try:
        nice = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(timeout=60)
        policy = pool.submit(os.sched_getscheduler, 0).result(timeout=60)
    finally:
        pool.close()
    assert (nice, policy) == (5, os.SCHED_BATCH)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_knows_which_it_is(backend):
    async def ask_loop() -> bool:
        return runs_on_asyncio()

    assert anyio.run(ask_loop, backend=backend) == (backend == "asyncio")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_future_is_waited_for_while_the_loop_runs(backend):
    future: Future[str] = Future()
    ticks = 0

    async def finish_later() -> None:
        nonlocal ticks
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
            ticks += 1
        threading.Thread(target=future.set_result, args=("done",)).start()

    async def run() -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish_later)
            return await wait_future(future)

    assert anyio.run(run, backend=backend) == "done"
    assert ticks == 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_future_raises_its_error(backend):
    future: Future[str] = Future()
    future.set_exception(OSError(5, "disk"))

    async def run() -> None:
        with pytest.raises(OSError, match="disk"):
            await wait_future(future)

    anyio.run(run, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_giving_up_waiting_leaves_the_future_running(backend):
    future: Future[str] = Future()

    async def run() -> None:
        with anyio.move_on_after(0.01) as scope:
            await wait_future(future)
        assert scope.cancelled_caught

    anyio.run(run, backend=backend)
    assert not future.cancelled()
    future.set_result("the loop that waited is gone")


def test_one_future_serves_both_kinds_of_loop():
    future: Future[str] = Future()
    results = []

    def serve(backend: str) -> None:
        results.append(anyio.run(wait_future, future, backend=backend))

    threads = [threading.Thread(target=serve, args=(backend,)) for backend in (*BACKENDS, *BACKENDS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(future._done_callbacks) < 4:
        assert time.monotonic() < deadline, "four loops never waited"
        time.sleep(0.002)
    future.set_result("done")
    for thread in threads:
        thread.join(60)
    assert results == ["done"] * 4


def test_a_queue_wakes_no_thread_for_work_that_one_can_do():
    pool = FilePool("queue", 4)
    queue, names, done = FileQueue(pool, 4), set(), threading.Event()

    def work(number: int) -> None:
        names.add(threading.current_thread().name)
        if number == BEHIND:
            done.set()

    first, go_on = threading.Event(), threading.Event()
    queue.submit(Work(lambda: (first.set(), go_on.wait(60)), pytest.fail))
    assert first.wait(60)
    for number in range(1, BEHIND + 1):
        queue.submit(Work(lambda number=number: work(number), pytest.fail))
    go_on.set()
    assert done.wait(60)
    assert len(names) == 1
    pool.close()


def test_a_queue_wakes_as_many_threads_as_work_that_waits_needs():
    pool = FilePool("queue", 3)
    queue, begun, go_on = FileQueue(pool, 3), threading.Semaphore(0), threading.Event()
    for _ in range(4 * BEHIND):
        queue.submit(Work(lambda: (begun.release(), go_on.wait(60)), pytest.fail))
    assert all(begun.acquire(timeout=60) for _ in range(3))
    assert not begun.acquire(blocking=False)
    go_on.set()
    assert all(begun.acquire(timeout=60) for _ in range(4 * BEHIND - 3))
    pool.close()


def test_a_queue_whose_pool_is_closed_drops_what_nobody_will_do():
    pool = FilePool("queue", 1)
    queue, begun, go_on, dropped = FileQueue(pool, 1), threading.Event(), threading.Event(), []
    pool.submit(lambda: (begun.set(), go_on.wait(60)))
    assert begun.wait(60)
    queue.submit(Work(pytest.fail, lambda: dropped.append(1)))
    queue.submit(Work(pytest.fail, lambda: dropped.append(2)))
    threading.Timer(0.05, go_on.set).start()
    pool.close()
    assert dropped == [1, 2]
    again = threading.Event()
    queue.submit(Work(again.set, pytest.fail))
    assert again.wait(60)
    pool.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("waits", [True, False])
def test_an_event_loop_hands_on_all_that_it_gathered(backend, waits):
    pool = FilePool("gathering", 2)
    gathering = Gathering(FileQueue(pool, 2), lambda: waits)

    async def work() -> list[int]:
        futures: list[Future[int]] = [Future() for _ in range(5)]
        for number, future in enumerate(futures):
            gathering.submit(Work(partial(future.set_result, number), pytest.fail))
        done = [await wait_future(future) for future in futures]
        last: Future[int] = Future()
        gathering.submit(Work(partial(last.set_result, 5), pytest.fail))
        return [*done, await wait_future(last)]

    assert anyio.run(work, backend=backend) == [0, 1, 2, 3, 4, 5]
    pool.close()


def test_work_that_an_ended_loop_gathered_is_done_with_that_of_the_next():
    pool, begun = FilePool("gathering", 1), []
    gathering = Gathering(FileQueue(pool, 1), lambda: True)

    async def leave() -> None:
        gathering.submit(Work(lambda: begun.append("first"), pytest.fail))

    async def work() -> None:
        done: Future[None] = Future()
        gathering.submit(Work(lambda: (begun.append("second"), done.set_result(None)), pytest.fail))
        with anyio.fail_after(60):
            await wait_future(done)

    asyncio.run(leave())
    asyncio.run(work())
    assert begun == ["first", "second"]
    pool.close()


def test_work_that_waits_for_more_begins_together():
    pool = FilePool("gathering", 1)
    gathering, begun = Gathering(FileQueue(pool, 1), lambda: True), []

    async def work() -> None:
        done: Future[None] = Future()
        gathering.submit(Work(lambda: begun.append("first"), pytest.fail))
        gathering.submit(Work(lambda: (begun.append("second"), done.set_result(None)), pytest.fail))
        assert begun == []
        await wait_future(done)

    asyncio.run(work())
    assert begun == ["first", "second"]
    pool.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_for_work_can_be_cancelled_and_leaves_it_running(backend):
    future: Future[str] = Future()

    async def work() -> str:
        with anyio.move_on_after(0.01) as scope:
            await wait_done(future)
        assert scope.cancelled_caught
        threading.Timer(0.02, lambda: future.set_result("done")).start()
        return await wait_future(future)

    assert anyio.run(work, backend=backend) == "done"

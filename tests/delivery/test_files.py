"""Opening, signing, reading and hashing real files, and waiting for threads on both event loops."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from assetserver.delivery import files
from assetserver.delivery.files import (
    PIECE_BYTES,
    FilePool,
    hash_pieces,
    open_regular,
    read_pieces,
    read_whole,
    runs_on_asyncio,
    wait_done,
    wait_future,
)
from assetserver.errors import OverloadedError
from assetserver.storage.signatures import sign

BACKENDS = ("asyncio", "trio")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.txt"
    found.write_bytes(b"hello world")
    return found


def test_a_regular_file_opens_with_its_status(path):
    descriptor, status = open_regular(str(path))
    try:
        assert status.st_size == 11
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_a_folder_does_not_open(tmp_path, count_descriptors):
    with pytest.raises(IsADirectoryError):
        open_regular(str(tmp_path))
    assert count_descriptors(tmp_path) == 0


def test_a_fifo_without_a_writer_neither_opens_nor_blocks(tmp_path, count_descriptors):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        open_regular(str(tmp_path / "pipe"))
    assert count_descriptors(tmp_path) == 0


def test_a_device_does_not_open():
    with pytest.raises(FileNotFoundError):
        open_regular("/dev/zero")


def test_a_socket_does_not_open(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="No such device"):
            open_regular(str(tmp_path / "s"))


def test_pieces_are_one_mebibyte_and_reassemble(tmp_path):
    content = os.urandom(2 * PIECE_BYTES + 17)
    (tmp_path / "big").write_bytes(content)
    descriptor, _ = open_regular(str(tmp_path / "big"))
    try:
        pieces = list(read_pieces(descriptor))
    finally:
        os.close(descriptor)
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 17]
    assert b"".join(pieces) == content
    assert hash_pieces(iter(pieces)) == (sha256(content).digest(), len(content))


def test_hashing_nothing_is_the_digest_of_nothing():
    assert hash_pieces(iter(())) == (sha256().digest(), 0)


def test_a_file_reads_whole_while_it_is_what_was_signed(path):
    assert read_whole(str(path), sign(path.stat())) == b"hello world"


def test_an_empty_file_reads_as_nothing_and_not_as_changed(tmp_path):
    (tmp_path / "empty").touch()
    assert read_whole(str(tmp_path / "empty"), sign((tmp_path / "empty").stat())) == b""


def test_a_replaced_file_does_not_read_even_with_size_and_times_preserved(path):
    before = path.stat()
    other = path.with_name("b")
    other.write_bytes(b"HELLO WORLD")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert read_whole(str(path), sign(before)) is None


def test_a_file_that_changes_while_it_is_read_does_not_read(path, monkeypatch):
    def read_then_change(descriptor):
        yield from read_pieces(descriptor)
        path.write_bytes(b"hello there")

    expected = sign(path.stat())
    monkeypatch.setattr(files, "read_pieces", read_then_change)
    assert read_whole(str(path), expected) is None


def test_a_missing_file_does_not_read(path):
    expected = sign(path.stat())
    path.unlink()
    assert read_whole(str(path), expected) is None


def test_content_that_is_not_what_was_hashed_does_not_read(path):
    expected = sign(path.stat())
    assert read_whole(str(path), expected, sha256(b"hello world").digest()) == b"hello world"
    assert read_whole(str(path), expected, sha256(b"HELLO WORLD").digest()) is None


def test_reading_leaves_no_descriptor(path, tmp_path, count_descriptors):
    read_whole(str(path), sign(path.stat()))
    read_whole(str(path), sign(tmp_path.stat()))
    assert count_descriptors(tmp_path) == 0


def test_a_pool_starts_its_threads_only_when_used():
    pool = FilePool("lazy", 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lazy")]
    pool.close()


def test_a_pool_runs_on_named_threads_and_starts_anew_after_close():
    pool = FilePool("again", 2)
    for _ in range(2):
        name = pool.submit(lambda: threading.current_thread().name).result(timeout=10)
        assert name.startswith("again")
        pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("again")]


def test_closing_a_pool_drops_what_has_not_started():
    pool = FilePool("dropping", 1)
    started, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        started.set()
        go_on.wait(10)
        return "finished"

    running = pool.submit(hold)
    waiting = pool.submit(lambda: "never")
    assert started.wait(10)
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
    assert started.wait(10)
    pool.close()
    assert isinstance(running.exception(timeout=0), InterruptedError)
    assert seen < (1 << 40) // PIECE_BYTES
    assert pool.submit(read_some).result(timeout=10), "and the pool can be used anew"
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
        assert len(pool.submit(read_some).result(timeout=10)) == 1
    closed.close()
    assert len(other.submit(read_some).result(timeout=10)) == 1
    assert len(read_some()) == 1
    other.close()


def test_an_interpreter_that_exits_waits_for_no_file(endless):
    script = f"""
import os, threading
from assetserver.delivery.files import FilePool, hash_pieces, read_pieces
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
        nice = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(timeout=10)
    finally:
        pool.close()
    assert nice == 5
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


def test_one_future_serves_both_kinds_of_loop(wait_until: Callable[..., None]):
    future: Future[str] = Future()
    results = []

    def serve(backend: str) -> None:
        results.append(anyio.run(wait_future, future, backend=backend))

    threads = [threading.Thread(target=serve, args=(backend,)) for backend in (*BACKENDS, *BACKENDS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(future._done_callbacks) == 4, "four loops waiting")
    future.set_result("done")
    for thread in threads:
        thread.join(10)
    assert results == ["done"] * 4

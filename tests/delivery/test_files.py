"""Opening, signing, reading and hashing real files, and waiting for threads on both event loops."""

import os
import socket
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
    sign,
    wait_future,
)

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

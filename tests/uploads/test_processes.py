"""Several worker processes with one data folder: whose turn it is, and that bytes never mix."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from .storing import Store, body, new, run

PROGRAM = str(Path(__file__).with_name("appender.py"))
CONTENT = os.urandom(600_000)


@pytest.fixture
def start(tmp_path):
    """Start another process that appends, and return it once its first bytes are under way."""
    (tmp_path / "content").write_bytes(CONTENT)
    running = []

    def begin(upload, rate):
        command = [sys.executable, PROGRAM, tmp_path / "data", upload.id, tmp_path / "content", str(rate)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture
def upload(tmp_path):
    store = Store(tmp_path / "data")
    return run(store, lambda: store.service.create(new(CONTENT, kind="tus")))


def test_a_request_of_another_worker_gives_way_within_a_moment(start, upload, tmp_path):
    older = start(upload, 50)
    assert older.stdout.readline() == "began\n"
    store = Store(tmp_path / "data")

    async def work():
        with anyio.fail_after(60):
            now = await store.service.settle(upload.id)
        assert 0 < now.offset < len(CONTENT)
        return await store.service.append(upload.id, now.offset, body(CONTENT[now.offset :]), content_length=None)

    done = run(store, work)
    assert older.communicate(timeout=60)[0] == "UploadBusyError\n"
    assert store.read(done) == CONTENT


def test_a_worker_that_was_killed_holds_nothing(start, upload, tmp_path):
    older = start(upload, 50)
    assert older.stdout.readline() == "began\n"
    older.send_signal(signal.SIGSTOP)
    older.kill()
    older.wait(60)
    store = Store(tmp_path / "data")
    done = run(store, lambda: store.service.append(upload.id, 0, body(CONTENT), content_length=None))
    assert store.read(done) == CONTENT


def test_workers_that_append_at_once_never_mix_their_bytes(start, upload, tmp_path):
    outcomes = []
    for _ in range(12):
        both = [start(upload, rate) for rate in (700, 900)]
        outcomes += [process.communicate(timeout=60)[0].split()[-1] for process in both]
        if str(len(CONTENT)) in outcomes:
            break
    assert set(outcomes) <= {"UploadBusyError", "OffsetConflictError", str(len(CONTENT))}
    store = Store(tmp_path / "data")
    done = run(store, lambda: store.service.settle(upload.id))
    assert store.read(done) == CONTENT

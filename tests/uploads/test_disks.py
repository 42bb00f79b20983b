"""Disks that are full, read-only or locked: an answer that says so, nothing half, and everything works again afterwards."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from assetserver.errors import BusyError, NoSpaceError, StorageError
from assetserver.uploads import deposit

from .storing import Store, body, new, run

PAGE = 4096
CONTENT = os.urandom(150_000)
PIECES = [CONTENT[at : at + 40_000] for at in range(0, len(CONTENT), 40_000)]


@pytest.fixture
def disk(tmp_path, require, missing):
    """A file system of 2 MiB in memory."""
    folder, mount = tmp_path / "disk", require("mount")
    folder.mkdir()
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        missing("the right to mount a tmpfs")
    yield folder
    subprocess.run([require("umount"), "-l", folder], check=True)


def fill(disk: Path, pages: int) -> Path:
    """Leave so many pages free."""
    ballast, status = disk / "ballast", os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, status.f_bavail - pages) * PAGE))
    return ballast


def until_it_fits(disk, attempt):
    """Call ``attempt`` with one page more each time, until it raises nothing; return how often it was refused."""
    for pages in range(500):
        ballast = fill(disk, pages)
        try:
            attempt()
        except StorageError as error:
            assert error.status in (503, 507)  # noqa: PT017 - which one depends on who was refused first
            assert error.retryable  # noqa: PT017
        else:
            return pages
        finally:
            ballast.unlink()
    raise AssertionError("it never fits")


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("batch_bytes", [50_000, deposit.BATCH_BYTES])
def test_a_whole_file_on_a_disk_that_is_full_at_any_write_is_refused_and_leaves_nothing(
    disk, is_fresh, batch_bytes, monkeypatch
):
    monkeypatch.setattr(deposit, "LEAST_BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(deposit, "BATCH_BYTES", batch_bytes)
    if not is_fresh:
        first = Store(disk)
        run(first, lambda: first.service.receive(new(b"first"), body(b"first")))

    def attempt():
        store = Store(disk)
        try:
            upload = run(store, lambda: store.service.receive(new(CONTENT), body(*PIECES)))
        finally:
            assert store.staged() == {}
        assert store.read(upload) == CONTENT

    assert until_it_fits(disk, attempt) > len(CONTENT) // PAGE
    store = Store(disk)
    uploads, _ = run(store, lambda: store.service.list(owner=None, cursor="", limit=10))
    assert [one.state for one in uploads] == ["complete"] * len(uploads)
    assert len(uploads) == (1 if is_fresh else 2)


def test_an_append_on_a_disk_that_is_full_at_any_write_keeps_what_it_said(disk, monkeypatch):
    monkeypatch.setattr(deposit, "LEAST_BATCH_BYTES", 50_000)
    monkeypatch.setattr(deposit, "BATCH_BYTES", 50_000)
    store = Store(disk)
    upload = run(store, lambda: store.service.create(new(CONTENT, kind="tus")))
    offsets = [0]

    def attempt():
        store = Store(disk)

        async def work():
            now = await store.service.settle(upload.id)
            assert now.offset >= offsets[-1]
            offsets.append(now.offset)
            rest = CONTENT[now.offset :]
            pieces = [rest[at : at + 40_000] for at in range(0, len(rest), 40_000)]
            return await store.service.append(upload.id, now.offset, body(*pieces), content_length=None)

        assert store.read(run(store, work)) == CONTENT
        assert store.staged() == {}

    assert until_it_fits(disk, attempt) > 5


@pytest.mark.parametrize("failing", ["pwritev", "fdatasync", "link", "fsync", "open"])
@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, NoSpaceError), (errno.EDQUOT, NoSpaceError), (errno.EIO, StorageError)]
)
def test_every_call_that_fails_is_told_and_leaves_nothing(tmp_path, monkeypatch, failing, code, error):
    store = Store(tmp_path)
    real = getattr(os, failing)

    def fail(*given, **named):
        if failing == "open" and "staging" not in str(given[0]):
            return real(*given, **named)
        raise OSError(code, os.strerror(code))

    async def work():
        await store.service.receive(new(b"first"), body(b"first"))
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, fail)
            with pytest.raises(error):
                await store.service.receive(new(b"second"), body(b"second"))
        assert store.staged() == {}
        await store.service.receive(new(b"second"), body(b"second"))

    run(store, work)
    assert len(store.stored()) == 2


def test_bytes_of_a_failed_sync_are_not_promised(tmp_path, monkeypatch):
    """After a failed fsync the kernel may have dropped them, and a second one succeeds all the same."""
    store = Store(tmp_path)

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def work():
        upload = await store.service.create(new(b"hello", kind="tus"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(StorageError):
                await store.service.append(upload.id, 0, body(b"hel"), content_length=3)
        assert (await store.service.settle(upload.id)).offset == 0
        return await store.service.append(upload.id, 0, body(b"hello"), content_length=5)

    assert store.read(run(store, work)) == b"hello"


def test_a_read_only_disk_refuses_uploads_and_shows_what_is_there(disk, require):
    store = Store(disk)
    done = run(store, lambda: store.service.receive(new(b"first"), body(b"first")))
    subprocess.run([require("mount"), "-o", "remount,ro", disk], check=True)
    store = Store(disk)

    async def work():
        for refused in (store.service.receive(new(b"second"), body(b"second")), store.service.create(new(b"x", kind="tus"))):
            with pytest.raises(StorageError):
                await refused

    run(store, work)
    assert store.read(done) == b"first"


def test_with_records_locked_by_another_program_clients_are_told_to_come_again(tmp_path):
    store, other = Store(tmp_path, patience_s=0.2), Store(tmp_path)

    async def work():
        upload = await store.service.create(new(b"hello", kind="tus"))
        with other.database.write():
            refusals = (
                store.service.receive(new(b"x"), body(b"x")),
                store.service.create(new(b"x", kind="tus")),
                store.service.append(upload.id, 0, body(b"hel"), content_length=3),
                store.service.remove(upload.id),
            )
            for refused in refusals:
                with pytest.raises(BusyError) as caught:
                    await refused
                assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
            assert (await store.service.find(upload.id)).offset == 0
        assert set(store.staged()) == {upload.id}
        await store.service.receive(new(b"x"), body(b"x"))
        return await store.service.append(upload.id, 0, body(b"hello"), content_length=5)

    assert store.read(run(store, work)) == b"hello"
    other.database.close()

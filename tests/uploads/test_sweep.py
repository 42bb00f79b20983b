"""What is swept, and what never is: what is young, what somebody writes to, what a record names."""

import os
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from assetserver.errors import UploadGoneError
from assetserver.uploads.sweep import SweepReport

from .storing import Clock, Store, body, new, run, stalled

NOW = 1_000_000.0


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def store(tmp_path, clock):
    return Store(tmp_path, clock=clock, expiry_s=7200, grace_s=3600)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def age(path, clock, seconds):
    os.utime(path, (clock.now - seconds,) * 2)


def test_unfinished_uploads_go_when_their_time_is_over(store, clock):
    async def work():
        old = await store.service.create(new(b"hello", kind="tus"))
        await store.service.append(old.id, 0, body(b"he"), content_length=2)
        clock.now += 3600
        young = await store.service.create(new(b"hello", kind="tus"))
        done = await store.service.receive(new(b"done"), body(b"done"))
        clock.now += 3600
        assert (await store.service.sweep()).expired == 1
        with pytest.raises(UploadGoneError):
            await store.service.find(old.id)
        assert (await store.service.find(young.id)).state == "uploading"
        assert await store.service.find(done.id) == done
        assert await store.service.sweep() == SweepReport()

    run(store, work)
    assert store.staged() == {}


def test_parts_go_when_their_time_is_over_and_what_was_made_of_them_stays(store, clock):
    async def work():
        part = await store.service.create(new(b"part", kind="tus-partial"))
        part = await store.service.append(part.id, 0, body(b"part"), content_length=4)
        whole = await store.service.concatenate(new(kind="tus-final", parts=(part.id, part.id)))
        clock.now += 7200
        assert (await store.service.sweep()).expired == 1
        return whole

    whole = run(store, work)
    assert store.stored() == {whole.sha256}


def test_files_and_blobs_that_nobody_names_go_once_they_are_old(store, clock):
    lost = Path(store.staging.folder, "L" * 24)

    async def work():
        kept = await store.service.receive(new(b"kept"), body(b"kept"))
        open_one = await store.service.create(new(b"open", kind="tus"))
        await store.service.append(open_one.id, 0, body(b"op"), content_length=2)
        store.staging.open(lost.name).close()
        orphan = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        store.blobs.put(orphan, [b"hello"])
        for path in (lost, store.blobs.path_of(orphan)):
            age(path, clock, 3599)
        assert await store.service.sweep() == SweepReport()
        for path in (lost, *map(store.blobs.path_of, (orphan, kept.sha256)), os.path.join(store.staging.folder, open_one.id)):
            age(path, clock, 3601)
        assert await store.service.sweep() == SweepReport(files=1, blobs=1)
        assert store.stored() == {kept.sha256}
        assert list(store.staged()) == [open_one.id]

    run(store, work)


def test_what_somebody_writes_to_is_never_swept(store, clock):
    async def work():
        arrived, upload = anyio.Event(), await store.service.create(new(b"hello", kind="tus"))

        async def client():
            await store.service.append(upload.id, 0, slowly(), content_length=None)

        async def slowly():
            yield b"hel"
            arrived.set()
            await go_on.wait()
            yield b"lo"

        go_on = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client)
            await arrived.wait()
            clock.now += 1e6
            assert await store.service.sweep() == SweepReport()
            go_on.set()
        return await store.service.find(upload.id)

    assert store.read(run(store, work)) == b"hello"


def test_a_whole_file_that_is_being_received_is_never_swept(store, clock, monkeypatch):
    monkeypatch.setattr("assetserver.uploads.deposit.BATCH_BYTES", 1)
    monkeypatch.setattr("assetserver.uploads.deposit.LEAST_BATCH_BYTES", 1)

    async def work():
        arrived = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: store.service.receive(new(None), stalled(b"hel", b"lo", arrived=arrived)))
            await arrived.wait()
            await anyio.to_thread.run_sync(wait_until, store.staged)
            clock.now = 1e10
            assert (await store.service.sweep()).files == 0
            assert len(store.staged()) == 1
            tasks.cancel_scope.cancel()

    run(store, work)
    assert store.staged() == {}


def test_an_upload_whose_bytes_are_all_there_is_completed(store, monkeypatch):
    """Whoever received them died before the record."""

    async def work():
        upload = await store.service.create(new(b"hello", kind="tus"))
        with monkeypatch.context() as patch:
            patch.setattr("assetserver.uploads.session.is_complete", lambda *_: False)
            await store.service.append(upload.id, 0, body(b"hello"), content_length=5)
        assert (await store.service.find(upload.id)).state == "uploading"
        await store.service.sweep()
        return await store.service.find(upload.id)

    done = run(store, work)
    assert (done.state, store.read(done)) == ("complete", b"hello")


def test_ids_that_are_gone_are_forgotten_in_the_end(store, clock):
    async def work():
        upload = await store.service.receive(new(b"x"), body(b"x"))
        await store.service.remove(upload.id)
        clock.now += 7 * 86_400 + 1
        await store.service.sweep()
        assert store.records().forget_gone(1e12) == 0

    run(store, work)


def test_sweeps_at_once_are_as_one(store, tmp_path, clock):
    other = Store(tmp_path, clock=clock, expiry_s=7200)

    async def work():
        for _ in range(20):
            await store.service.create(new(b"hello", kind="tus"))
        clock.now += 7200
        reports = []

        async def sweep(service):
            reports.append((await service.sweep()).expired)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweep, store.service)
            tasks.start_soon(sweep, other.service)
        assert sum(reports) == 20
        await other.aclose()

    run(store, work)

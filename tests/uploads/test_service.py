"""The storage core of uploads, from pieces of a body to a blob and a record, without HTTP."""

import hashlib
import os
import threading
import time
from hashlib import sha256

import anyio
import pytest

from assetserver.errors import (
    BadRequestError,
    BusyError,
    ChecksumMismatchError,
    NoSpaceError,
    OffsetConflictError,
    PreconditionFailedError,
    QuotaError,
    TooLargeError,
    UnsupportedTypeError,
    UploadBusyError,
    UploadGoneError,
    UploadMissingError,
)
from assetserver.storage.staging import StagedFile
from assetserver.uploads import deposit
from assetserver.uploads.records import Remove

from .storing import Clock, Store, body, cut_off, new, run, stalled

PNG = b"\x89PNG\r\n\x1a\n" + b"rest of a picture"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


async def begin(store, content, *, kind="tus", at=0, **values):
    """An upload of which the first ``at`` bytes are there."""
    upload = await store.service.create(new(content, kind=kind, **values))
    return await store.service.append(upload.id, 0, body(content[:at]), content_length=at) if at else upload


def test_a_whole_file_becomes_a_blob_and_a_record(store):
    async def work():
        upload = await store.service.receive(new(PNG, name="cat.png", metadata={"a": "b"}), body(PNG[:5], b"", PNG[5:]))
        assert await store.service.find(upload.id) == upload
        return upload

    upload = run(store, work)
    assert (upload.state, upload.size, upload.offset, upload.expires) == ("complete", len(PNG), len(PNG), None)
    assert (upload.sha256, upload.media_type, upload.metadata) == (sha256(PNG).hexdigest(), "image/png", {"a": "b"})
    assert store.read(upload) == PNG
    assert store.staged() == {}


@pytest.mark.parametrize("size", [0, 1, deposit.BATCH_BYTES - 1, deposit.BATCH_BYTES, 3 * deposit.BATCH_BYTES + 1])
def test_every_size_arrives_whole_in_pieces_of_any_size(store, size):
    content = os.urandom(size)

    async def work():
        pieces = [content[at : at + 65_521] for at in range(0, size, 65_521)]
        return await store.service.receive(new(content), body(*pieces))

    assert store.read(run(store, work)) == content


@pytest.mark.parametrize("is_known", [False, True])
def test_files_are_closed_beside_the_event_loop(store, monkeypatch, is_known):
    """The last one of a removed name waits for the disk."""
    closers, close = set(), StagedFile.close

    def note(self):
        closers.add(threading.current_thread().name.rpartition("_")[0])
        close(self)

    monkeypatch.setattr(StagedFile, "close", note)
    content = os.urandom(3 * deposit.BATCH_BYTES)

    async def work():
        if is_known:
            await store.service.receive(new(content), body(content))
        await store.service.receive(new(content), body(content))
        upload = await begin(store, content, at=5)
        await store.service.append(upload.id, 5, body(content[5:]), content_length=len(content) - 5)

    run(store, work)
    assert closers == {"assetserver-uploads"}


def test_a_body_of_unknown_length_is_received_to_its_end(store):
    upload = run(store, lambda: store.service.receive(new(None), body(b"a", b"b")))
    assert upload.size == 2


def test_the_same_bytes_are_one_blob_that_goes_with_the_last_record(store):
    async def work():
        first, second = [await store.service.receive(new(PNG), body(PNG)) for _ in range(2)]
        assert store.stored() == {first.sha256}
        await store.service.remove(first.id)
        assert store.stored() == {first.sha256}
        await store.service.remove(second.id)
        assert store.stored() == set()
        with pytest.raises(UploadGoneError):
            await store.service.find(first.id)
        with pytest.raises(UploadGoneError):
            await store.service.remove(first.id)
        with pytest.raises(UploadMissingError):
            await store.service.find("A" * 24)
        assert store.changes == 2

    run(store, work)


@pytest.mark.parametrize("length", [4, 6])
def test_a_whole_file_of_another_length_than_declared_leaves_nothing(store, length):
    async def work():
        with pytest.raises(BadRequestError if length > 5 else TooLargeError):
            await store.service.receive(new(None, length=length), body(b"he", b"llo"))
        assert await store.service.list(owner=None, cursor="", limit=10) == ([], "")

    run(store, work)
    assert (store.staged(), store.stored()) == ({}, set())


def test_a_cut_body_of_a_whole_file_leaves_nothing(store):
    async def work():
        with pytest.raises(ConnectionResetError):
            await store.service.receive(new(None), cut_off(os.urandom(3 * deposit.BATCH_BYTES), b"more"))

    run(store, work)
    assert (store.staged(), store.stored()) == ({}, set())


def test_a_whole_file_is_checked_against_the_digests_that_came_with_it(store):
    async def work():
        good = {"sha-256": sha256(PNG).digest(), "sha-512": hashlib.sha512(PNG).digest()}
        await store.service.receive(new(PNG, expected=good), body(PNG))
        with pytest.raises(ChecksumMismatchError):
            await store.service.receive(new(PNG, expected={**good, "sha-512": bytes(64)}), body(PNG))
        with pytest.raises(BadRequestError):
            await store.service.receive(new(PNG, expected={"crc": b""}), body(PNG))

    run(store, work)
    assert (len(store.stored()), store.staged()) == (1, {})


def test_a_type_is_found_by_content_and_what_is_not_allowed_leaves_nothing(store):
    async def work():
        only = {"types": ("image/*",), "declared_type": "image/png", "name": "a.png"}
        await store.service.receive(new(PNG, **only), body(PNG))
        with pytest.raises(UnsupportedTypeError, match="text/html"):
            await store.service.receive(new(None, **only), body(b"<html><script>"))

    run(store, work)
    assert (len(store.stored()), store.staged()) == (1, {})


def test_by_name_the_newest_is_found_and_conditions_hold(store):
    async def put(content, **values):
        return await store.service.receive(new(content, by_name="logo", **values), body(content))

    async def work():
        with pytest.raises(UploadMissingError):
            await store.service.find_by_name("logo")
        first = await put(b"one", if_none_match=True)
        with pytest.raises(PreconditionFailedError):
            await put(b"two", if_none_match=True)
        with pytest.raises(PreconditionFailedError):
            await store.service.check(new(b"two", by_name="logo", if_none_match=True))
        with pytest.raises(PreconditionFailedError):
            await put(b"two", if_match='"other"')
        second = await put(b"two", if_match=f'"{first.sha256[:32]}"')
        assert await store.service.find_by_name("logo") == second
        with pytest.raises(UploadMissingError):
            await store.service.find_by_name("logo", "elsewhere")
        await put(b"three", collection="elsewhere", if_none_match=True)
        assert store.changes == 3

    run(store, work)
    assert len(store.stored()) == 3
    assert store.staged() == {}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), NoSpaceError("the disk is full")], ids=repr)
def test_what_is_recorded_succeeded_though_nobody_could_be_told_of_it(store, caplog, error):
    store.change_error = error

    async def work():
        upload = await store.service.receive(new(PNG, by_name="logo"), body(PNG))
        assert (await store.service.find_by_name("logo")).id == upload.id
        await store.service.remove(upload.id)
        with pytest.raises(UploadMissingError):
            await store.service.find_by_name("logo")

    run(store, work)
    assert store.changes == 2
    assert store.stored() == set()
    assert caplog.text.count(str(error)) == 2


def test_of_two_that_want_a_free_name_one_gets_it(store):
    async def work():
        outcomes = []

        async def put(content):
            try:
                outcomes.append(await store.service.receive(new(content, by_name="x", if_none_match=True), body(content)))
            except PreconditionFailedError:
                outcomes.append(None)

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(put, b"%d" % number)
        assert sum(one is not None for one in outcomes) == 1

    run(store, work)


def test_an_upload_goes_on_where_it_is(store):
    content = os.urandom(2_500_000)

    async def work():
        upload = await begin(store, content, at=1_000_000)
        assert (upload.state, upload.offset) == ("uploading", 1_000_000)
        with pytest.raises(OffsetConflictError) as caught:
            await store.service.append(upload.id, 999_999, body(b"x"), content_length=1)
        assert caught.value.offset == 1_000_000
        done = await store.service.append(upload.id, 1_000_000, body(content[1_000_000:]), content_length=1_500_000)
        assert await store.service.find(upload.id) == done
        return done

    done = run(store, work)
    assert (done.state, done.sha256, done.expires) == ("complete", sha256(content).hexdigest(), None)
    assert store.staged() == {}


def test_another_process_that_goes_on_hashes_the_beginning_again(store, tmp_path):
    content = os.urandom(2_500_000)
    upload = run(store, lambda: begin(store, content, at=1_000_000, expected={"sha-512": hashlib.sha512(content).digest()}))
    other = Store(tmp_path)
    done = run(other, lambda: other.service.append(upload.id, 1_000_000, body(content[1_000_000:]), content_length=None))
    assert done.sha256 == sha256(content).hexdigest()


def test_what_arrived_before_the_client_went_stays(store):
    content = os.urandom(3_000_000)

    async def work():
        upload = await begin(store, content)
        with pytest.raises(ConnectionResetError):
            await store.service.append(upload.id, 0, cut_off(content[:1_700_000]), content_length=len(content))
        assert (await store.service.find(upload.id)).offset == 1_700_000
        return await store.service.append(upload.id, 1_700_000, body(content[1_700_000:]), content_length=None)

    assert store.read(run(store, work)) == content


def test_bytes_beyond_the_length_are_refused_and_none_of_them_kept(store):
    async def work():
        upload = await begin(store, b"hello")
        with pytest.raises(TooLargeError):
            await store.service.append(upload.id, 0, body(b"hello!"), content_length=6)
        with pytest.raises(TooLargeError):
            await store.service.append(upload.id, 0, body(b"hel", b"lo!"), content_length=None)
        assert (await store.service.settle(upload.id)).offset == 3
        done = await store.service.append(upload.id, 3, body(b"lo"), content_length=2)
        assert done.sha256 == sha256(b"hello").hexdigest()
        with pytest.raises(TooLargeError):
            await store.service.append(upload.id, 5, body(b"!"), content_length=None)
        assert await store.service.append(upload.id, 5, body(), content_length=None) == done

    run(store, work)


def test_a_wrong_checksum_takes_the_bytes_back(store):
    async def work():
        upload = await begin(store, b"hello world", at=5)
        right = ("sha1", hashlib.sha1(b" world", usedforsecurity=False).digest())
        with pytest.raises(ChecksumMismatchError):
            await store.service.append(upload.id, 5, body(b" w0rld"), content_length=6, checksum=right)
        with pytest.raises(ConnectionResetError):
            await store.service.append(upload.id, 5, cut_off(b" wor"), content_length=6, checksum=right)
        with pytest.raises(BadRequestError):
            await store.service.append(upload.id, 5, body(b" world"), content_length=6, checksum=("crc32", b""))
        assert (await store.service.find(upload.id)).offset == 5
        assert store.staged() == {upload.id: 5}
        return await store.service.append(upload.id, 5, body(b" ", b"world"), content_length=6, checksum=right)

    assert store.read(run(store, work)) == b"hello world"


def test_a_wrong_digest_of_the_whole_fails_the_upload_for_good(store):
    async def work():
        upload = await begin(store, b"hello", expected={"sha-256": bytes(32)})
        with pytest.raises(ChecksumMismatchError):
            await store.service.append(upload.id, 0, body(b"hello"), content_length=5)
        assert (await store.service.find(upload.id)).state == "failed"
        with pytest.raises(UploadGoneError):
            await store.service.append(upload.id, 5, body(), content_length=0)

    run(store, work)
    assert (store.staged(), store.stored()) == ({}, set())


def test_a_length_may_come_later_and_once(store):
    async def work():
        upload = await begin(store, None)
        await store.service.append(upload.id, 0, body(b"hello"), content_length=5)
        with pytest.raises(BadRequestError):
            await store.service.declare_length(upload.id, 4)
        assert (await store.service.declare_length(upload.id, 5)).state == "uploading"
        assert (await store.service.declare_length(upload.id, 5)).size == 5
        with pytest.raises(BadRequestError):
            await store.service.declare_length(upload.id, 6)
        return await store.service.append(upload.id, 5, body(), content_length=0)

    assert run(store, work).state == "complete"


def test_an_upload_of_nothing_is_complete_at_once(store):
    upload = run(store, lambda: begin(store, b""))
    assert (upload.state, upload.sha256) == ("complete", sha256().hexdigest())
    assert store.read(upload) == b""


def test_a_resumable_upload_is_complete_when_the_client_says_so(store):
    async def work():
        append = store.service.append
        upload = await begin(store, b"hello", kind="resumable")
        at_end = await append(upload.id, 0, body(b"hello"), content_length=5, completes=False)
        assert (at_end.state, at_end.offset) == ("uploading", 5)
        assert (await store.service.settle(upload.id)).state == "uploading"
        done = await append(upload.id, 5, body(), content_length=0, completes=True)
        assert done.state == "complete"
        unknown = await begin(store, None, kind="resumable")
        assert (await append(unknown.id, 0, body(b"hey"), content_length=None, completes=True)).size == 3
        short = await begin(store, b"hello", kind="resumable")
        with pytest.raises(BadRequestError):
            await append(short.id, 0, body(b"hell"), content_length=None, completes=True)
        assert (await store.service.find(short.id)).offset == 4
        with pytest.raises(BadRequestError):
            await append(short.id, 4, body(), content_length=0, completes=True)
        with pytest.raises(TooLargeError):
            await append(short.id, 4, body(b"oo"), content_length=None, completes=True)
        assert (await store.service.find(short.id)).state == "failed"

    run(store, work)


def test_parts_are_concatenated_in_their_order_and_only_those_of_the_same_owner(store):
    async def work():
        parts = [await begin(store, content, kind="tus-partial", at=len(content)) for content in (b"one ", b"two ", b"three")]
        ids = tuple(part.id for part in parts)
        whole = await store.service.concatenate(new(kind="tus-final", parts=(*ids, ids[0])))
        assert store.read(whole) == b"one two threeone "
        assert whole.sha256 == sha256(b"one two threeone ").hexdigest()
        with pytest.raises(BadRequestError):
            await store.service.concatenate(new(kind="tus-final", owner="else", parts=ids))
        with pytest.raises(BadRequestError):
            await store.service.concatenate(new(kind="tus-final", parts=(whole.id,)))
        open_one = await begin(store, b"four", kind="tus-partial", at=2)
        with pytest.raises(BadRequestError):
            await store.service.concatenate(new(kind="tus-final", parts=(open_one.id,)))
        assert [part.expires is not None for part in parts] == [True] * 3

    run(store, work)


def test_a_newer_request_takes_over_and_the_older_keeps_what_arrived(store):
    async def work():
        upload, arrived, outcomes = await begin(store, b"hello world"), anyio.Event(), []

        async def older():
            with pytest.raises(UploadBusyError) as caught:
                await store.service.append(upload.id, 0, stalled(b"hello", arrived=arrived), content_length=None)
            outcomes.append(caught.value.status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(older)
            await arrived.wait()
            assert (await store.service.settle(upload.id)).offset == 5
        assert outcomes == [423]
        return await store.service.append(upload.id, 5, body(b" world"), content_length=None)

    assert store.read(run(store, work)) == b"hello world"


def test_appends_at_once_never_mix_their_bytes(store):
    content = os.urandom(400_000)

    async def work():
        upload = await begin(store, content)

        async def client():
            while True:
                now = await store.service.settle(upload.id)
                if now.state == "complete":
                    return
                try:
                    pieces = [content[at : at + 10_000] for at in range(now.offset, len(content), 10_000)]
                    await store.service.append(upload.id, now.offset, slow(*pieces), content_length=None)
                except (OffsetConflictError, UploadBusyError):
                    await anyio.sleep(0.03)

        async def slow(*pieces):
            for piece in pieces:
                await anyio.sleep(0.001)
                yield piece

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(client)
        return await store.service.find(upload.id)

    assert store.read(run(store, work)) == content


def test_removing_ends_who_appends(store):
    async def work():
        upload, arrived = await begin(store, b"hello"), anyio.Event()

        async def older():
            with pytest.raises(UploadBusyError):
                await store.service.append(upload.id, 0, stalled(b"he", arrived=arrived), content_length=None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(older)
            await arrived.wait()
            await store.service.remove(upload.id)
        with pytest.raises(UploadGoneError):
            await store.service.append(upload.id, 2, body(b"llo"), content_length=None)

    run(store, work)
    assert store.staged() == {}


def test_stopping_keeps_what_arrived_and_lets_nobody_begin(store, tmp_path):
    content = os.urandom(2_000_000)

    async def work():
        upload, arrived = await begin(store, content), anyio.Event()

        async def client():
            with pytest.raises(BusyError, match="stopping"):
                await store.service.append(upload.id, 0, stalled(content[:1_500_000], arrived=arrived), content_length=None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client)
            await arrived.wait()
            await store.service.close()
        with pytest.raises(BusyError):
            await store.service.receive(new(b""), body())
        return upload

    upload = run(store, work)
    other = Store(tmp_path)
    done = run(other, lambda: other.service.append(upload.id, 1_500_000, body(content[1_500_000:]), content_length=None))
    assert other.read(done) == content


def test_a_request_that_is_cancelled_keeps_what_arrived(store):
    """What an event loop does to requests that outlive the graceful stop."""

    async def work():
        upload, arrived = await begin(store, b"hello"), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: store.service.append(upload.id, 0, stalled(b"hel", arrived=arrived), content_length=None))
            await arrived.wait()
            tasks.cancel_scope.cancel()
        assert (await store.service.find(upload.id)).offset == 3

    run(store, work)


def test_no_more_uploads_are_received_than_may_be(tmp_path):
    store = Store(tmp_path, concurrent=1)

    async def work():
        arrived = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: store.service.receive(new(None), stalled(b"x", arrived=arrived)))
            await arrived.wait()
            for refused in (store.service.receive(new(b""), body()), store.service.check(new(b""))):
                with pytest.raises(BusyError) as caught:
                    await refused
                assert caught.value.retry_after_s > 0
            tasks.cancel_scope.cancel()
        await store.service.receive(new(b""), body())

    run(store, work)


def test_sizes_are_bounded_by_the_server_and_by_what_was_agreed(tmp_path):
    store = Store(tmp_path, max_size=10)

    async def work():
        for refused in (new(b"", length=11), new(b"", length=6, max_size=5), new(b"", length=11, max_size=20)):
            for way in (store.service.check, store.service.create):
                with pytest.raises(TooLargeError):
                    await way(refused)
        with pytest.raises(TooLargeError):
            await store.service.receive(new(None, max_size=5), body(b"123", b"456"))
        with pytest.raises(BadRequestError):
            await store.service.check(new(b"", length=-1))
        deferred = await begin(store, None, max_size=5)
        with pytest.raises(TooLargeError):
            await store.service.append(deferred.id, 0, body(b"123", b"456"), content_length=None)
        with pytest.raises(TooLargeError):
            await store.service.declare_length(deferred.id, 6)

    run(store, work)


def test_unfinished_uploads_hold_no_more_than_the_quota(tmp_path):
    store = Store(tmp_path, token_unfinished_bytes=100, unfinished_bytes=150)

    async def work():
        mine = await store.service.create(new(length=80, kind="tus"))
        with pytest.raises(QuotaError, match="of me"):
            await store.service.create(new(length=21, kind="tus"))
        with pytest.raises(QuotaError):
            await store.service.check(new(length=21))
        await store.service.create(new(length=60, kind="tus", owner="you"))
        with pytest.raises(QuotaError):
            await store.service.create(new(length=11, kind="tus", owner="she"))
        await store.service.append(mine.id, 0, body(bytes(80)), content_length=80)
        deferred = await store.service.create(new(kind="tus"))
        with pytest.raises(QuotaError):
            await store.service.append(deferred.id, 0, body(bytes(91)), content_length=None)
        assert (await store.service.find(deferred.id)).offset == 0
        await store.service.append(deferred.id, 0, body(bytes(90)), content_length=None)

    run(store, work)


def test_bytes_in_flight_count_against_the_quota(tmp_path):
    store = Store(tmp_path, token_unfinished_bytes=100)

    async def work():
        arrived = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: store.service.receive(new(length=80), stalled(b"x", arrived=arrived)))
            await arrived.wait()
            with pytest.raises(QuotaError):
                await store.service.receive(new(length=21), body())
            tasks.cancel_scope.cancel()
        await store.service.receive(new(bytes(100)), body(bytes(100)))

    run(store, work)


def test_a_reserve_of_the_disk_is_kept_free(tmp_path):
    store = Store(tmp_path, reserve_bytes=1 << 46)

    async def work():
        for way in (store.service.check, store.service.create):
            with pytest.raises(NoSpaceError):
                await way(new(b"x"))
        with pytest.raises(NoSpaceError):
            await store.service.receive(new(None), body(b"x"))

    run(store, work)
    assert store.staged() == {}


def test_an_upload_whose_time_is_over_is_gone(tmp_path):
    clock = Clock(1000.0)
    store = Store(tmp_path, clock=clock, expiry_s=60)

    async def work():
        upload = await begin(store, b"hello", at=2)
        clock.now = 1059.0
        assert (await store.service.append(upload.id, 2, body(b"l"), content_length=1)).expires == 1119.0
        clock.now = 1118.0
        assert (await store.service.find(upload.id)).offset == 3
        clock.now = 1119.0
        for way in (store.service.find, store.service.settle, store.service.remove):
            with pytest.raises(UploadGoneError):
                await way(upload.id)

    run(store, work)
    assert store.staged() == {}


def test_lists_are_paged_and_only_ones_own(store):
    async def work():
        ids = [
            (await store.service.receive(new(b"%d" % n, owner="me" if n % 2 else "you"), body(b"%d" % n))).id for n in range(5)
        ]
        pages, cursor = [], ""
        while True:
            page, cursor = await store.service.list(owner=None, cursor=cursor, limit=2)
            pages.append([one.id for one in page])
            if not cursor:
                break
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        mine, _ = await store.service.list(owner="me", cursor="", limit=10)
        assert [one.id for one in mine] == [ids[3], ids[1]]
        with pytest.raises(BadRequestError):
            await store.service.list(owner=None, cursor="1 OR 1=1", limit=2)

    run(store, work)


def test_nothing_is_opened_before_something_is_uploaded(store, tmp_path):
    async def work():
        await store.service.sweep()

    run(store, work)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def commits(store):
    """How many changes each transaction had. The first one takes until fifty others wait, however slow the machine is."""
    sizes, real = [], store.service._depot._write

    def write(changes):
        deadline_s = time.monotonic() + 60
        while not sizes and len(store.service._depot.commits._waiting) < 50 and time.monotonic() < deadline_s:
            time.sleep(0.001)
        sizes.append(len(changes))
        return real(changes)

    store.service._depot.commits._write = write
    return sizes


def test_many_small_files_share_their_transactions(store, commits):
    async def work():
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(lambda content: store.service.receive(new(content), body(content)), b"%d" % number)

    run(store, work)
    assert sum(commits) == 100
    assert len(commits) < 60
    assert len(store.stored()) == 100


def test_a_blob_that_is_removed_while_the_same_bytes_come_is_stored_again(store):
    """The last record of the blob goes after the newcomer found it there and before it has its record."""

    async def work():
        first = await store.service.receive(new(b"same"), body(b"same"))
        real = store.service._depot.commits._write

        def write_once(changes):
            store.service._depot.commits._write = real
            records = store.service._depot._opened()
            assert records.commit([Remove(first.id, 1.0)], lambda _: True) == [None]
            assert records.drop_blob(first.sha256, lambda: store.blobs.delete(first.sha256))
            return real(changes)

        store.service._depot.commits._write = write_once
        return await store.service.receive(new(b"same"), body(b"same"))

    second = run(store, work)
    assert store.read(second) == b"same"
    assert store.staged() == {}


def test_a_file_that_is_all_here_becomes_a_blob_and_a_record(store):
    async def work():
        values = {"name": "cat.png", "metadata": {"a": "b"}, "expected": {"sha-256": sha256(PNG).digest()}}
        upload = await store.service.store(new(PNG, **values), PNG)
        assert await store.service.find(upload.id) == upload
        return upload

    upload = run(store, work)
    assert (upload.state, upload.size, upload.offset, upload.expires) == ("complete", len(PNG), len(PNG), None)
    assert (upload.media_type, upload.sha256, upload.metadata) == ("image/png", sha256(PNG).hexdigest(), {"a": "b"})
    assert store.read(upload) == PNG
    assert store.staged() == {}


@pytest.mark.parametrize(
    ("wanted", "content", "error"),
    [
        ({"length": 5}, b"four", BadRequestError),
        ({"length": 3}, b"four", TooLargeError),
        ({"max_size": 3}, b"four", TooLargeError),
        ({"expected": {"sha-256": bytes(32)}}, b"four", ChecksumMismatchError),
        ({"types": ("image/*",)}, b"four", UnsupportedTypeError),
        ({"expected": {"unknown": b""}}, b"four", BadRequestError),
    ],
)
def test_of_a_file_that_is_all_here_and_refused_nothing_stays(store, wanted, content, error):
    async def work():
        with pytest.raises(error):
            await store.service.store(new(None, **wanted), content)
        assert store.service._depot._storing == 0

    run(store, work)
    assert (store.stored(), store.staged()) == (set(), {})


def test_of_a_file_that_is_all_here_and_whose_record_is_refused_no_file_stays(store):
    async def work():
        await store.service.store(new(b"one", by_name="page"), b"one")
        with pytest.raises(PreconditionFailedError):
            await store.service.store(new(b"two", by_name="page", if_none_match=True), b"two")
        return await store.service.find_by_name("page")

    assert store.read(run(store, work)) == b"one"
    assert store.staged() == {}


@pytest.mark.parametrize("call", ["pwritev", "fdatasync", "link", "fsync"])
def test_a_disk_that_refuses_a_file_that_is_all_here_is_told_and_nothing_stays(store, monkeypatch, call):
    async def work():
        await store.service.store(new(b"before"), b"before")
        real = getattr(os, call)

        def refuse(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, call, refuse)
        with pytest.raises(NoSpaceError):
            await store.service.store(new(b"x"), b"x")
        monkeypatch.setattr(os, call, real)
        return await store.service.store(new(b"x"), b"x")

    assert store.read(run(store, work)) == b"x"
    assert store.staged() == {}


def test_whatever_is_wrong_with_the_jobs_of_a_file_that_is_all_here_is_told_and_nothing_stays(store):
    def refuse(_):
        raise ZeroDivisionError

    async def work():
        store.service._depot._follow_up = refuse
        with anyio.fail_after(60), pytest.raises(ZeroDivisionError):
            await store.service.store(new(b"x"), b"x")

    run(store, work)
    assert (store.stored(), store.staged()) == (set(), {})


def test_files_that_are_all_here_share_their_transactions_and_keep_their_order(store, commits):
    async def work():
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(store.service.store, new(b"%d" % number, name=f"{number}.txt"), b"%d" % number)
        await store.service.store(new(b"last", name="last.txt", by_name="page"), b"last")
        return await store.service.list(owner=None, cursor="", limit=1000)

    uploads, _ = run(store, work)
    assert sum(commits) == 101
    assert len(commits) < 60
    assert uploads[0].name == "last.txt"
    assert {one.name: store.read(one).decode() for one in uploads[1:]} == {
        f"{number}.txt": str(number) for number in range(100)
    }


def test_a_blob_that_is_removed_while_a_file_of_the_same_bytes_is_stored_is_stored_again(store):
    async def work():
        first = await store.service.store(new(b"same"), b"same")
        real = store.service._depot.commits._write

        def write_once(changes):
            store.service._depot.commits._write = real
            records = store.service._depot._opened()
            assert records.commit([Remove(first.id, 1.0)], lambda _: True) == [None]
            assert records.drop_blob(first.sha256, lambda: store.blobs.delete(first.sha256))
            return real(changes)

        store.service._depot.commits._write = write_once
        return await store.service.store(new(b"same"), b"same")

    second = run(store, work)
    assert store.read(second) == b"same"
    assert store.staged() == {}


def test_a_stop_waits_for_files_that_are_all_here(store):
    async def work():
        kept = []

        async def keep():
            kept.append(await store.service.store(new(b"x"), b"x"))

        await store.service.check(new(b"x"))  # how much fits on the disk is known then

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep)
            await anyio.lowlevel.checkpoint()
            await store.service.close()
        with pytest.raises(BusyError):
            await store.service.store(new(b"y"), b"y")
        return kept

    assert [store.read(one) for one in run(store, work)] == [b"x"]


def test_no_reserve_is_touched_by_a_file_that_is_all_here(tmp_path):
    store = Store(tmp_path, reserve_bytes=1 << 46)

    async def work():
        with pytest.raises(NoSpaceError):
            await store.service.store(new(None), b"x")

    run(store, work)
    assert store.staged() == {}

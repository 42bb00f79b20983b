"""Bytes on a connection: through one descriptor, never padded, never mixed, and closed however it ends."""

import gc
import os
from collections.abc import Callable
from hashlib import shake_256
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask

from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.body import AssetResponse, open_file
from assetserver.delivery.files import PIECE_BYTES
from assetserver.errors import FileChangedError
from assetserver.semantics.representation import ContentCoding, Representation
from assetserver.semantics.respond import NoBody, ResponsePlan
from assetserver.storage.signatures import sign


def noise(seed: int, size: int) -> bytes:
    """Return bytes that no coding makes smaller, the same for the same seed."""
    return shake_256(bytes([seed])).digest(size)


SIZE = 5 * PIECE_BYTES + 1234
OLD = noise(1, SIZE)
NEW = noise(2, SIZE)

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])

Hook = Callable[[int], None]


@pytest.fixture
def site(make_site):
    made = make_site()
    made.write("big.bin", OLD)
    return made


@pytest.fixture
def download(make_scope, backend) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that downloads slowly: ``between`` runs after each piece, with its number."""

    def run(app: AssetFiles, path: str, between: Hook = lambda _: None, sent=None, **fields: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = [] if sent is None else sent
        pieces = 0

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()

        async def send(message: dict[str, Any]) -> None:
            nonlocal pieces
            messages.append(message)
            if message.get("body"):
                pieces += 1
                between(pieces)

        scope = make_scope(path, headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()])
        anyio.run(app, scope, receive, send, backend=backend)
        return messages

    return run


@pytest.fixture
def count_left(site, count_descriptors) -> Callable[[], int]:
    """Return a function that counts the open files of the site, but for those that stay open between requests.

    A file is closed with the last reference to it, and the traceback of an error that a test caught may hold one.
    """

    def count() -> int:
        site.resources.open_files.clear()
        gc.collect()
        return count_descriptors(site.root)

    return count


def content_of(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def at(number: int, act: Callable[[], object]) -> Hook:
    return lambda now: act() if now == number else None


def test_a_large_file_arrives_whole_in_small_pieces(site, download, backend):
    messages = download(site.app, "/big.bin")
    assert dict(messages[0]["headers"])[b"content-length"] == b"%d" % SIZE
    assert content_of(messages) == OLD
    assert max(len(message.get("body", b"")) for message in messages) == PIECE_BYTES
    assert [message.get("more_body", False) for message in messages[1:]] == [True] * 6 + [False]


def test_ranges_and_parts_of_a_large_file_are_the_same_bytes(site, download, backend):
    one = download(site.app, "/big.bin", range="bytes=1048570-3145739")
    assert content_of(one) == OLD[1048570:3145740]
    several = download(site.app, "/big.bin", range="bytes=4000000-5000000,10-2000000")
    body = content_of(several)
    assert dict(several[0]["headers"])[b"content-length"] == b"%d" % len(body)
    first, second = body.index(OLD[4000000:5000001]), body.index(OLD[10:2000001])
    assert first < second


def test_a_file_replaced_during_a_download_goes_on_with_its_old_bytes(site, download, backend):
    messages = download(site.app, "/big.bin", at(2, lambda: site.write("big.bin", NEW)))
    assert content_of(messages) == OLD
    site.forget()
    assert content_of(download(site.app, "/big.bin")) == NEW


def test_a_file_deleted_during_a_download_goes_on_with_its_old_bytes(site, download, backend):
    assert content_of(download(site.app, "/big.bin", at(2, (site.root / "big.bin").unlink))) == OLD


@pytest.mark.parametrize("fields", [{}, {"range": "bytes=10-5000000"}, {"range": "bytes=0-9,100-5000000"}])
def test_a_file_cut_during_a_download_ends_it_short(site, download, backend, fields):
    sent: list[dict[str, Any]] = []
    with pytest.raises(FileChangedError):
        download(site.app, "/big.bin", at(2, lambda: os.truncate(site.root / "big.bin", 2 * PIECE_BYTES)), sent, **fields)
    promised = int(dict(sent[0]["headers"])[b"content-length"])
    assert len(content_of(sent)) < promised, "no padding"
    assert sent[-1]["more_body"], "and no end, so the server has to close the connection"


@pytest.mark.parametrize("fields", [{}, {"range": "bytes=10-5000000"}, {"range": "bytes=0-9,100-5000000"}])
def test_a_file_rewritten_in_place_during_a_download_is_never_mixed(site, download, backend, fields):
    """``cp new old`` and ``rsync --inplace`` write into the file that is open: the descriptor shows the new bytes."""
    sent: list[dict[str, Any]] = []
    with pytest.raises(FileChangedError):
        download(site.app, "/big.bin", at(2, lambda: (site.root / "big.bin").write_bytes(NEW)), sent, **fields)
    body = content_of(sent)
    for start in range(0, SIZE - 64, 4096):
        assert NEW[start : start + 64] not in body
    assert len(body) < int(dict(sent[0]["headers"])[b"content-length"])


def test_a_file_that_grows_during_a_download_arrives_as_it_was_or_not_at_all(site, download, backend):
    def grow() -> None:
        with (site.root / "big.bin").open("ab") as file:
            file.write(b"more")

    sent: list[dict[str, Any]] = []
    try:
        download(site.app, "/big.bin", at(2, grow), sent)
    except FileChangedError:
        assert len(content_of(sent)) < SIZE
    else:
        assert content_of(sent) == OLD


def test_every_end_closes_the_descriptor(site, download, backend, count_left, count_descriptors):
    counts: list[int] = []
    download(site.app, "/big.bin", at(1, lambda: counts.append(count_descriptors(site.root))))
    assert counts == [2], "the one that stays open, and the one that is read"
    assert count_descriptors(site.root) == 1
    assert count_left() == 0

    def fail() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        download(site.app, "/big.bin", at(2, fail))
    assert count_left() == 0
    with pytest.raises(FileChangedError):
        download(site.app, "/big.bin", at(2, lambda: os.truncate(site.root / "big.bin", 10)))
    assert count_left() == 0


def test_a_client_that_leaves_stops_the_reading_and_closes_the_descriptor(site, make_scope, backend, count_left):
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        left = anyio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) == 3:
                left.set()
            await anyio.lowlevel.checkpoint()

        await site.app(make_scope("/big.bin"), receive, send)

    anyio.run(run, backend=backend)
    assert len(content_of(sent)) < SIZE
    assert count_left() == 0


def test_a_server_that_gives_up_on_a_request_leaves_no_descriptor(site, make_scope, backend, count_left):
    async def run() -> None:
        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()

        async def send(message: dict[str, Any]) -> None:
            if message.get("body"):
                scope.cancel()
                await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            await site.app(make_scope("/big.bin"), receive, send)
        assert scope.cancelled_caught

    anyio.run(run, backend=backend)
    assert count_left() == 0


def test_a_request_body_does_not_count_as_leaving(site, make_scope, backend):
    sent: list[dict[str, Any]] = []
    bodies = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.request", "body": b""}])

    async def receive() -> dict[str, Any]:
        message = next(bodies, None)
        return message or await anyio.sleep_forever()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        await anyio.lowlevel.checkpoint()

    anyio.run(site.app, make_scope("/big.bin"), receive, send, backend=backend)
    assert content_of(sent) == OLD


def test_two_hundred_mixed_requests_leave_no_descriptor(site, ask, backend, count_descriptors, count_left):
    site.write("small.css")
    site.write("docs/index.html", "<p>")
    paths = cycle(["/big.bin", "/small.css", "/docs/", "/nothing", "/docs", "/../x", "/small.css/"])
    methods = cycle(["GET", "GET", "HEAD", "POST", "OPTIONS"])
    fields = cycle(
        [{}, {}, {"range": "bytes=0-9"}, {"range": "bytes=5-6,9-"}, {"range": "bytes=99999999-"}, {"accept-encoding": "br"}]
    )
    before = count_descriptors()
    for number in range(200):
        ask(site.app, next(paths), next(methods), backend=backend, **next(fields))
        if number % 50 == 0:
            site.forget()
    assert count_left() == 0
    assert count_descriptors() <= before + 4, "but for what the event loops keep"


def test_memory_does_not_grow_with_the_size_of_a_file(make_site, make_scope, backend):
    site = make_site()
    size = 200 << 20
    with (site.root / "sparse.bin").open("wb") as file:
        file.truncate(size)
    total = largest = 0

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()

    async def send(message: dict[str, Any]) -> None:
        nonlocal total, largest
        total += len(message.get("body", b""))
        largest = max(largest, len(message.get("body", b"")))

    before = resident_bytes()
    anyio.run(site.app, make_scope("/sparse.bin"), receive, send, backend=backend)
    assert total == size
    assert largest <= PIECE_BYTES
    assert resident_bytes() - before < 40 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_file_that_is_no_longer_what_was_signed_does_not_open(tmp_path, backend, count_descriptors):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = sign(path.stat())

    async def run() -> None:
        file = await open_file(str(path), before)
        assert await file.read(10) == b"one"
        await (file.close() if backend == "asyncio" else file.aclose())
        path.write_bytes(b"three")
        assert await open_file(str(path), before) is None
        path.unlink()
        assert await open_file(str(path), before) is None

    anyio.run(run, backend=backend)
    assert count_descriptors(tmp_path) == 0


def test_a_pipe_that_took_the_place_of_a_file_does_not_hang(tmp_path, backend):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = sign(path.stat())
    path.unlink()
    os.mkfifo(path)

    async def run() -> None:
        with anyio.fail_after(60):
            assert await open_file(str(path), before) is None

    anyio.run(run, backend=backend)


def test_fields_may_be_changed_until_the_response_is_sent_and_background_work_runs_after(exchange, make_scope, backend):
    ran = []
    plain = Representation(ContentCoding.IDENTITY, "text/plain", 0, None)
    response = AssetResponse(ResponsePlan(304, ((b"etag", b'"x"'),), plain, NoBody()))
    response.headers["x-extra"] = "1"
    response.set_cookie("a", "b")
    del response.headers["etag"]
    response.background = BackgroundTask(ran.append, "after")
    answer = anyio.run(exchange, response, make_scope("/"), backend=backend)
    assert (answer["x-extra"], answer.get("etag"), answer["set-cookie"].startswith("a=b")) == ("1", None, True)
    assert ran == ["after"]


def test_background_work_also_runs_after_a_file(site, exchange, make_scope, backend):
    ran = []

    class Counting(AssetFiles):
        async def get_response(self, path, scope):
            response = await super().get_response(path, scope)
            response.background = BackgroundTask(ran.append, path)
            return response

    app = Counting(directory=site.root, resources=site.resources)
    assert anyio.run(exchange, app, make_scope("/big.bin"), backend=backend).body == OLD
    assert ran == ["big.bin"]

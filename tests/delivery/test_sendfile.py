"""Files sent by the kernel, over real sockets: the same bytes, in order, never padded, nothing left open."""

import asyncio
import errno
import http.client
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from hashlib import shake_256
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from assetserver.delivery import pages, sendfile
from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.hotcache import HOT, HotCache
from assetserver.delivery.pages import is_in_memory, read_ahead
from assetserver.delivery.protocol import AssetProtocol
from assetserver.delivery.sendfile import FilePart, FileSender
from assetserver.errors import FileChangedError
from assetserver.observe import AccessLog

SIZE = (24 << 20) + 4321
CONTENT = shake_256(b"1").digest(SIZE)
LIMIT_S = 60


class Lines:
    """An access log that keeps its records."""

    def __init__(self):
        self.records = []

    def append(self, record):
        self.records.append(record)


class Server:
    """A server in a thread of this process, so that its descriptors and memory are ours."""

    def __init__(self, app, loop):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(app, http=AssetProtocol, ws="none", loop=loop, log_level="critical", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    def connect(self, receive_bytes=0):
        made = socket.socket()
        if receive_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.settimeout(LIMIT_S)
        made.connect(("127.0.0.1", self.port))
        return made

    def get(self, path, method="GET", **fields):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in fields.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    @property
    def open_count(self):
        return len(self.server.server_state.connections)


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def sent(monkeypatch):
    """What went out by the kernel: a list with the number of bytes of each part."""
    parts = []
    run = FileSender.run

    async def noting(self):
        try:
            return await run(self)
        finally:
            parts.append(self.sent)

    monkeypatch.setattr(FileSender, "run", noting)
    return parts


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request):
    """Return a context manager that serves an app."""

    @contextmanager
    def run(app):
        server = Server(app, request.param)
        server.thread.start()
        try:
            yield server
        finally:
            server.server.should_exit = True
            server.thread.join(LIMIT_S)
            server.listener.close()
            assert not server.thread.is_alive(), "the server did not stop"

    return run


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "site"
    made.mkdir()
    (made / "big.bin").write_bytes(CONTENT)
    return made


@pytest.fixture
def server(serve, folder, lines, make_site):
    site = make_site()
    (site.root / "big.bin").write_bytes(CONTENT)
    app = Starlette(
        routes=[
            Route("/response", lambda _: FileResponse(folder / "big.bin")),
            Route("/late", lambda _: FileResponse(folder / "big.bin", stat_result=os.stat(__file__))),
            Mount("/", site.app),
        ],
        middleware=[Middleware(AccessLog, lines)],
    )
    with serve(app) as running:
        running.file = site.root / "big.bin"
        yield running


def ask(path="/big.bin", *fields):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


def read_head(stream):
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line.decode().strip())
    return lines


def read_answer(stream):
    head = read_head(stream)
    length = next(int(line.split(": ")[1]) for line in head if line.lower().startswith("content-length"))
    return head[0], stream.read(length)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_whole_file_goes_by_the_kernel(server, sent, lines, wait_until):
    answer, body = server.get("/big.bin")
    assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))
    assert body == CONTENT
    wait_until(lambda: sent == [SIZE])
    wait_until(lambda: lines.records)
    assert lines.records[0].sent == SIZE


def test_a_range_goes_by_the_kernel(server, sent, wait_until):
    answer, body = server.get("/big.bin", range="bytes=1048570-3145739")
    assert (answer.status, body) == (206, CONTENT[1048570:3145740])
    wait_until(lambda: sent == [3145740 - 1048570])


def test_parts_go_by_the_kernel_between_their_heads(server, sent, lines, wait_until):
    answer, body = server.get("/big.bin", range="bytes=4000000-5000000,10-2000000")
    assert answer.status == 206
    assert len(body) == int(answer.headers["content-length"])
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    parts = [part.split(b"\r\n\r\n", 1)[1] for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]]
    assert parts == [CONTENT[4000000:5000001], CONTENT[10:2000001]]
    wait_until(lambda: sent == [1000001, 1999991])
    wait_until(lambda: lines.records)
    assert lines.records[0].sent == len(body)


def test_head_sends_no_body(server, sent):
    for path in ("/big.bin", "/response"):
        answer, body = server.get(path, "HEAD")
        assert (answer.status, answer.headers["content-length"], body) == (200, str(SIZE), b"")
    assert sent == []


def test_a_connection_is_kept_after_a_file(server, sent, wait_until):
    with server.connect() as made, made.makefile("rb") as stream:
        for path in ("/big.bin", "/response", "/none", "/big.bin"):
            made.sendall(ask(path))
            status, body = read_answer(stream)
            assert body == CONTENT if "200" in status else path == "/none"
    wait_until(lambda: sent == [SIZE] * 3)


@pytest.mark.parametrize("has_sendfile", [True, False])
def test_a_file_asked_for_again_and_again_is_whole_each_time_beside_a_hot_cache(
    serve, folder, make_site, has_sendfile, monkeypatch
):
    if not has_sendfile:
        monkeypatch.setattr("assetserver.delivery.protocol.can_sendfile", lambda: False)
    site = make_site()
    site.write("big.bin", CONTENT)
    site.write("small.bin", CONTENT[:100])
    cache = HotCache()

    @asynccontextmanager
    async def lifespan(_):
        yield {HOT: cache}

    app = Starlette(routes=[Mount("/", site.app)], lifespan=lifespan)
    with serve(app) as server, server.connect() as made, made.makefile("rb") as stream:
        for _ in range(5):
            made.sendall(ask("/big.bin"))
            assert read_answer(stream)[1] == CONTENT
            made.sendall(ask("/small.bin"))
            assert read_answer(stream)[1] == CONTENT[:100]
    assert len(cache) == 1 + has_sendfile, "what is sent in pieces is not kept"


def test_pipelined_requests_behind_a_file_are_answered_in_order(server):
    with server.connect() as made, made.makefile("rb") as stream:
        made.sendall(ask("/big.bin") + ask("/big.bin", "Range: bytes=5-9") + ask("/response"))
        time_of_first = read_answer(stream)
        assert time_of_first[1] == CONTENT
        assert read_answer(stream)[1] == CONTENT[5:10]
        assert read_answer(stream)[1] == CONTENT


def test_a_connection_that_is_to_close_closes_after_the_last_byte(server):
    with server.connect() as made, made.makefile("rb") as stream:
        made.sendall(ask("/big.bin", "Connection: close"))
        read_head(stream)
        assert stream.read() == CONTENT


def test_memory_and_files_in_turns_arrive_in_order_however_slowly_they_are_read(serve, folder):
    turns, piece, part = 300, 40_000, 30_000
    descriptor = os.open(folder / "big.bin", os.O_RDONLY)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        length = b"%d" % (turns * (piece + part))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for turn in range(turns):
            await send({"type": "http.response.body", "body": bytes([turn % 256]) * piece, "more_body": True})
            message = {"type": sendfile.FILE, "file": descriptor, "offset": turn, "count": part, "check": lambda _: None}
            await send(message)
            assert message["sent"] == part
        await send({"type": "http.response.body"})

    with serve(app) as server, server.connect(receive_bytes=1 << 14) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        for turn in range(turns):
            assert stream.read(piece) == bytes([turn % 256]) * piece
            assert stream.read(part) == CONTENT[turn : turn + part]
    os.close(descriptor)


def test_a_client_that_leaves_leaves_nothing_behind(server, wait_until, lines):
    server.get("/big.bin", range="bytes=0-9")
    wait_until(lambda: not server.open_count)
    before = descriptors()
    for _ in range(10):
        made = server.connect(receive_bytes=1 << 16)
        made.sendall(ask())
        assert made.recv(1000)
        made.close()
    wait_until(lambda: not server.open_count and not server.server.server_state.tasks)
    wait_until(lambda: descriptors() <= before)
    assert all(record.sent < SIZE for record in lines.records)


def test_a_client_that_leaves_while_its_next_request_waits_leaves_nothing_behind(server, wait_until):
    server.get("/big.bin", range="bytes=0-9")
    wait_until(lambda: not server.open_count)
    before = descriptors()
    made = server.connect(receive_bytes=1 << 16)
    made.sendall(ask() + ask())
    assert made.recv(1000)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    made.close()
    wait_until(lambda: not server.open_count and not server.server.server_state.tasks)
    wait_until(lambda: descriptors() <= before)


@pytest.mark.parametrize("fields", [(), ("Range: bytes=10-20000000",), ("Range: bytes=0-9,100-20000000",)])
def test_a_file_cut_in_the_middle_ends_the_connection_short(server, fields, wait_until):
    with server.connect(receive_bytes=1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask("/big.bin", *fields))
        head = read_head(stream)
        promised = next(int(line.split()[1]) for line in head if line.lower().startswith("content-length"))
        os.truncate(server.file, 20000)
        body = stream.read()
        assert len(body) < promised
    wait_until(lambda: not server.open_count)


def test_a_file_cut_while_it_is_streamed_ends_the_connection_short(server, monkeypatch, wait_until):
    monkeypatch.setattr("assetserver.delivery.protocol.can_sendfile", lambda: False)
    with server.connect(receive_bytes=1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        os.truncate(server.file, 20000)
        body = stream.read()
    assert len(body) < SIZE
    assert CONTENT.startswith(body), "nothing stands in the place of what is gone"
    wait_until(lambda: not server.open_count)


def test_a_file_cut_and_made_as_long_as_before_ends_the_connection_short(server, wait_until):
    """The kernel would send the hole as zeros."""
    with server.connect(receive_bytes=1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        os.truncate(server.file, 0)
        os.truncate(server.file, SIZE)
        body = stream.read()
    assert len(body) < SIZE
    assert CONTENT.startswith(body), "nothing stands in the place of what is gone"
    wait_until(lambda: not server.open_count)


def test_a_client_that_only_stops_sending_leaves_nothing_behind(server, wait_until):
    server.get("/big.bin", range="bytes=0-9")
    wait_until(lambda: not server.open_count)
    before = descriptors()
    with server.connect(receive_bytes=1 << 16) as made:
        made.sendall(ask())
        assert made.recv(1000)
        made.shutdown(socket.SHUT_WR)
        while made.recv(1 << 20):
            pass
    wait_until(lambda: not server.open_count and not server.server.server_state.tasks)
    wait_until(lambda: descriptors() <= before)


def test_a_file_overwritten_in_the_middle_ends_the_connection_short(server):
    with server.connect(receive_bytes=1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        server.file.write_bytes(bytes(SIZE))
        body = stream.read()
    assert len(body) < SIZE
    assert CONTENT.startswith(body), "what was sent before was cut off, and not changed"


def test_a_file_replaced_in_the_middle_goes_on_with_its_old_bytes(server, tmp_path):
    with server.connect(receive_bytes=1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        (tmp_path / "new").write_bytes(bytes(SIZE))
        (tmp_path / "new").replace(server.file)
        assert stream.read(SIZE) == CONTENT


def test_a_file_that_is_not_as_long_as_promised_is_not_sent(server):
    with server.connect() as made, made.makefile("rb") as stream:
        made.sendall(ask("/late"))
        read_head(stream)
        assert stream.read() == b""


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_slow_readers_take_no_memory(server):
    server.get("/big.bin")
    before = resident_bytes()
    made = [server.connect(receive_bytes=1 << 14) for _ in range(50)]
    for one in made:
        one.sendall(ask())
    for one in made:
        assert one.recv(100)
    assert server.get("/big.bin", range="bytes=0-9")[1] == CONTENT[:10], "others are answered"
    assert resident_bytes() - before < 10 << 20
    for one in made:
        one.close()


def test_twenty_downloads_at_once_are_each_the_same_bytes(server):
    with ThreadPoolExecutor(20) as pool:
        bodies = list(pool.map(lambda _: server.get("/big.bin")[1] == CONTENT, range(20)))
    assert bodies == [True] * 20


def test_a_file_response_of_starlette_goes_by_the_kernel(server, sent, lines, wait_until):
    answer, body = server.get("/response")
    assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))
    assert body == CONTENT
    wait_until(lambda: sent == [SIZE])
    wait_until(lambda: lines.records)
    assert lines.records[0].sent == SIZE


def make_cold(path):
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_cold_file_is_read_ahead_on_a_thread(server, monkeypatch):
    threads = []

    def noting(*args):
        threads.append(threading.current_thread())
        read_ahead(*args)

    monkeypatch.setattr(pages, "is_in_memory", lambda *_: False)
    monkeypatch.setattr(pages, "read_ahead", noting)
    make_cold(server.file)
    assert server.get("/big.bin")[1] == CONTENT
    assert len(threads) >= SIZE >> 20
    assert server.thread not in threads


def test_what_was_read_ahead_is_in_memory(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT[: 4 << 20])
    make_cold(path)
    with path.open("rb") as file:
        descriptor = file.fileno()
        try:
            os.preadv(descriptor, [bytearray(1)], 3 << 20, os.RWF_NOWAIT)
        except BlockingIOError:
            assert not is_in_memory(descriptor, 0, 1 << 20)
        except OSError:
            pytest.skip("this file system cannot be asked")
        read_ahead(descriptor, 0, 4 << 20)
        assert is_in_memory(descriptor, 0, 4 << 20)
        assert is_in_memory(descriptor, 4 << 20, 10), "after the end there is nothing to wait for"


def test_a_client_that_leaves_while_the_disk_is_slow_leaves_nothing_behind(server, monkeypatch, wait_until):
    server.get("/big.bin", range="bytes=0-9")
    wait_until(lambda: not server.open_count)
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        go_on.wait(LIMIT_S)

    monkeypatch.setattr(pages, "is_in_memory", lambda *_: False)
    monkeypatch.setattr(pages, "read_ahead", slow)
    before = descriptors()
    made = server.connect()
    made.sendall(ask())
    assert begun.wait(LIMIT_S)
    assert server.get("/none")[0].status == 404, "others are answered"
    made.close()
    wait_until(lambda: not server.open_count and not server.server.server_state.tasks)
    go_on.set()
    wait_until(lambda: descriptors() <= before)


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "x"), OSError(errno.ENOSYS, "x")])
def test_what_the_kernel_cannot_send_is_streamed(server, monkeypatch, error, lines, wait_until):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, "sendfile", fail)
    assert server.get("/big.bin")[1] == CONTENT
    assert server.get("/response")[1] == CONTENT
    wait_until(lambda: len(lines.records) == 2)
    assert [record.sent for record in lines.records] == [SIZE, SIZE]


def test_without_a_descriptor_to_spare_files_are_streamed(server, monkeypatch):
    def fail(_):
        raise OSError(errno.EMFILE, "x")

    monkeypatch.setattr(os, "dup", fail)
    assert server.get("/big.bin")[1] == CONTENT


def test_without_sendfile_all_is_as_before(server, monkeypatch, sent):
    monkeypatch.setattr("assetserver.delivery.protocol.can_sendfile", lambda: False)
    assert server.get("/big.bin")[1] == CONTENT
    assert server.get("/response")[1] == CONTENT
    assert sent == []


def test_a_stopping_server_finishes_its_files(serve, folder):
    with serve(AssetFiles(directory=folder)) as server, server.connect(1 << 16) as made, made.makefile("rb") as stream:
        made.sendall(ask())
        read_head(stream)
        server.server.should_exit = True
        assert stream.read() == CONTENT
        server.thread.join(LIMIT_S)
        assert not server.thread.is_alive()


async def _pass(request, call_next):
    return await call_next(request)


@pytest.mark.parametrize("middleware", [Middleware(BaseHTTPMiddleware, dispatch=_pass), Middleware(GZipMiddleware)])
def test_middleware_that_knows_no_files_gets_bytes(serve, folder, middleware):
    app = Starlette(routes=[Mount("/", AssetFiles(directory=folder))], middleware=[middleware])
    with serve(app) as server:
        answer, body = server.get("/big.bin")
        assert answer.status == 200
        assert body == CONTENT


def test_a_client_that_takes_nothing_is_cut(server, monkeypatch, wait_until):
    made = server.connect(receive_bytes=1 << 14)
    made.sendall(ask())
    assert made.recv(100)
    wait_until(lambda: server.open_count == 1)
    monkeypatch.setattr("assetserver.delivery.limits.SEND_IDLE_S", -1.0)
    wait_until(lambda: not server.open_count)
    made.close()


def test_sending_says_when_a_file_is_shorter_than_thought(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    ours, theirs = socket.socketpair()
    ours.settimeout(0)

    async def run(descriptor):
        sender = FileSender(asyncio.get_running_loop(), ours.fileno(), FilePart(descriptor, 0, 10, lambda _: None))
        await sender.run()

    with ours, theirs, path.open("rb") as file, pytest.raises(FileChangedError, match="at byte 3"):
        asyncio.run(run(file.fileno()))

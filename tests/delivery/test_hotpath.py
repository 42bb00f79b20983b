"""The hot path on real connections: what it repeats is what stock Uvicorn sends, whole and in order, whatever comes between."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assetserver.delivery import hotpath, limits, livefolder, pages, sendfile, sweep
from assetserver.delivery.protocol import AssetProtocol
from assetserver.delivery.sendfile import FileSender

from .wires import LIMIT_S, Server, Wire, alike, get, running, wait_for

BIG = b"0123456789abcdef" * 196_608
MIDDLE = BIG[: 640 << 10]  # the kernel sends it, and it fits into no buffer
SMALL = b"hello world"
CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 60
FILES = {
    "big.bin": BIG,
    "other.bin": BIG[::-1],
    "middle.bin": MIDDLE,
    "file.txt": SMALL,
    "style.css": CSS,
    "d/index.html": b"<h1>Folder</h1>\n",
}
LAST = get("/file.txt?last", "Connection: close\r\n")


@pytest.fixture(scope="module", autouse=True)
def settled():
    """Files of a moment ago are trusted, as old ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(livefolder, "SETTLED_NS", -(10**10))
        yield


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory) -> Callable[..., Path]:
    def make(**more: bytes) -> Path:
        folder = tmp_path_factory.mktemp("site")
        (folder / "d").mkdir()
        for name, content in {**FILES, **more}.items():
            (folder / name).write_bytes(content)
        return folder

    return make


@pytest.fixture(scope="module")
def root(make_folder) -> Path:
    return make_folder()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def ours(root, request) -> Iterator[Server]:
    with running(root, loop=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def stock(root) -> Iterator[Server]:
    with running(root, HttpToolsProtocol) as server:
        yield server


@pytest.fixture
def own(make_folder) -> Iterator[Server]:
    """A server of one test, whose files may be changed."""
    with running(make_folder()) as server:
        yield server


class Counts:
    """What went the slow way, and what the kernel sent for the hot one."""

    def __init__(self) -> None:
        self.slow = 0
        self.files: list[FileSender] = []


@pytest.fixture(autouse=True)
def counts(monkeypatch) -> Counts:
    made = Counts()
    feed, start = AssetProtocol._feed, FileSender.start

    def count_feed(self: AssetProtocol, data: bytes) -> None:
        made.slow += 1
        feed(self, data)

    def count_start(self: FileSender, on_end: Callable[[], None], **keywords: bool) -> None:
        made.files.append(self)
        start(self, on_end, **keywords)

    monkeypatch.setattr(AssetProtocol, "_feed", count_feed)
    monkeypatch.setattr(FileSender, "start", count_start)
    return made


def ask_hot(server: Server, counts: Counts, request: bytes, wire: Wire | None = None) -> bytes:
    """Ask until an answer is one of the hot path; return that."""
    if wire is None:
        with server.connect() as made:
            return ask_hot(server, counts, request, made)
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        before = counts.slow
        answer = wire.ask(request)
        if counts.slow == before:
            return answer
    pytest.fail(f"always slow: {request!r}")


def ask_each_hot(counts: Counts, requests: Iterator[bytes], wire: Wire) -> bytes:
    """Ask for one after the other, each once, until an answer is one of the hot path; return that request's answer."""
    for request in requests:
        before = counts.slow
        answer = wire.ask(request)
        if counts.slow == before:  # else the folder was looked at again
            return answer
    pytest.fail("always slow")


def whole(server: Server, *pieces: bytes, receive_bytes: int = 0) -> bytes:
    """Send pieces and return all that comes until the server closes."""
    with server.connect(receive_bytes) as wire:
        with contextlib.suppress(ConnectionError):
            wire.send(*pieces)
        return wire.read_all()


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def heat(server: Server, counts: Counts, *requests: bytes) -> None:
    for request in requests:
        ask_hot(server, counts, request)


# The same answers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/file.txt", ""),
        ("/style.css", "Accept-Encoding: br\r\n"),
        ("/style.css?v=1", 'If-None-Match: "other"\r\n'),
        ("/d/", "User-Agent: x\r\n"),
        ("/big.bin", ""),
        ("/big.bin?x", "Accept-Encoding: gzip, br\r\n"),
        ("/file.txt", "Range: bytes=0-3\r\n"),
        ("/file.txt", "Range: bytes=-3\r\n"),
        ("/file.txt", "Range: lines=1\r\n"),
        ("/big.bin", "Range: bytes=1000000-2500000\r\n"),
        ("/big.bin", "Range: bytes=-1\r\n"),
        ("/big.bin", "Range: bytes=3145727-\r\n"),
    ],
)
def test_a_hot_answer_is_the_stock_one(ours, stock, counts, method, target, fields):
    request = get(target, fields, method)
    expected = stock.ask(target, fields) if method == "GET" else None
    with ours.connect() as wire, stock.connect() as theirs:
        first = theirs.ask(request)
        answer = ask_hot(ours, counts, request, wire)
        assert alike(answer, first=True) == alike(first, first=True)
        assert expected is None or alike(expected, first=True) == alike(first, first=True)
        assert wire.ask(get("/file.txt")).endswith(SMALL), "nothing follows it that was not asked for"


def test_an_answer_to_head_and_one_to_get_are_not_each_other_s(ours, counts):
    requests = [get(target, method=method) for target in ("/file.txt", "/big.bin") for method in ("GET", "HEAD")]
    heat(ours, counts, *requests)
    with ours.connect() as wire:
        for request in requests * 3:
            answer = wire.ask(request)
            assert body(answer) == (b"" if request.startswith(b"HEAD") else BIG if b"big" in request else SMALL)


def test_the_same_range_is_sent_by_the_kernel_again(ours, counts):
    """And another one is another answer."""
    fields = "Range: bytes=5-2000004\r\n"
    heat(ours, counts, get("/big.bin", fields))
    counts.files.clear()
    with ours.connect() as wire:
        for _ in range(3):
            answer = ask_hot(ours, counts, get("/big.bin", fields), wire)
            assert answer.startswith(b"HTTP/1.1 206 ")
            assert b"\r\ncontent-range: bytes 5-2000004/3145728\r\n" in answer
            assert body(answer) == BIG[5:2000005]
            assert body(wire.ask(get("/big.bin", "Range: bytes=6-9\r\n"))) == BIG[6:10]
            assert body(wire.ask(get("/big.bin"))) == BIG
    assert [sender.sent for sender in counts.files].count(2_000_000) >= 3


ACCEPTS = ["", "Accept: text/html\r\n", "Accept: application/json\r\n", "Accept: */*\r\n", "accept: \r\n"]
ACCEPTS += ["Accept: application/problem+json\r\n", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_miss_is_told_in_the_form_that_the_client_reads_hot_and_slow(ours, stock, counts, method):
    with ours.connect() as wire, stock.connect() as theirs:
        expected = [alike(theirs.ask(get("/none.js", fields, method))) for fields in ACCEPTS]
        for _ in range(2):
            for fields, answer in zip(ACCEPTS, expected, strict=True):
                assert answer.startswith(b"HTTP/1.1 404 ")
                assert alike(ask_hot(ours, counts, get("/none.js", fields, method), wire)) == answer, fields
        for fields, answer in zip(ACCEPTS * 5, expected * 5, strict=True):
            assert alike(wire.ask(get("/none.js", fields, method))) == answer, fields
    assert len(set(expected)) >= 3


def test_a_miss_ends_when_the_file_comes(own, counts):
    request = get("/new.txt")
    assert ask_hot(own, counts, request).startswith(b"HTTP/1.1 404 ")
    (own.root / "new.txt").write_bytes(b"new")
    with own.connect() as wire:
        wait_for(lambda: wire.ask(request).endswith(b"\r\n\r\nnew"), "the file")
        assert {body(wire.ask(request)) for _ in range(20)} == {b"new"}
        assert ask_hot(own, counts, request, wire).endswith(b"\r\n\r\nnew")


def test_many_requests_in_one_segment_are_answered_in_order(ours, stock, counts):
    hot = [get("/file.txt"), get("/style.css", "Accept-Encoding: br\r\n"), get("/file.txt", method="HEAD"), get("/none.js")]
    hot += [get("/file.txt", "Range: bytes=2-4\r\n"), get("/middle.bin")]
    heat(ours, counts, *hot)
    cold = [get("/file.txt?cold"), get("/file.txt", 'If-Match: "no"\r\n'), get("/none", method="POST")]
    streams = [b"".join(pair) for pair in itertools.product(hot, cold, hot)]
    streams += [b"".join(hot), b"".join(reversed(hot)), b"".join(hot * 3), hot[0] * 40, hot[-1] * 3]
    for stream in streams:
        mine, theirs = (alike(whole(server, stream + LAST), first=True) for server in (ours, stock))
        assert mine == theirs, stream


ODD = [
    "http://a/file.txt",
    "/file.txt#x",
    "*",
    "/%66ile.txt",
    "//file.txt",
    "/./file.txt",
    "/file.txt?",
]


@pytest.mark.parametrize("target", ODD)
def test_another_spelling_of_a_target_gets_the_stock_answer(ours, stock, counts, target):
    """Also where a shape is known that reads it."""
    heat(ours, counts, get("/file.txt"))
    for _ in range(4):
        mine, theirs = (alike(whole(server, get("/file.txt") + get(target) + LAST), first=True) for server in (ours, stock))
        assert mine == theirs


@pytest.mark.parametrize("byte", [*range(9), 11, 12, *range(14, 32), 127])
def test_a_control_character_is_refused_hot_and_slow(ours, counts, byte):
    request = get("/file.txt", "X: 1\r\n")
    heat(ours, counts, request)
    odd = bytes([byte])
    changed = [request.replace(b"1.1\r\n", b"1.1\r" + odd), request[:-1] + odd, request.replace(b"X: 1", b"X: " + odd)]
    for one in [*changed, request.replace(b"/file", b"/" + odd)]:
        with ours.connect() as wire:
            assert wire.ask(request).endswith(SMALL)
            wire.send(one + request)
            assert wire.read_all()[:12] == b"HTTP/1.1 400", one


# A file that takes its time


@contextlib.contextmanager
def downloading(server: Server, counts: Counts, *behind: bytes) -> Iterator[tuple[Wire, FileSender]]:
    """Ask for a hot file with a small window, ``behind`` it in the same segment; yield while the client is waited for."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        heat(server, counts, get("/big.bin"))
        counts.files.clear()
        before = counts.slow
        with server.connect(4096) as wire:
            wire.send(get("/big.bin") + b"".join(behind))
            wait_for(lambda: counts.files and counts.files[0]._watched >= 0, "the wait for the client")
            if counts.slow == before:  # a folder is looked at again now and then, and then the slow path answers
                yield wire, counts.files[0]
                return
    pytest.fail("always slow")


def test_a_slow_reader_gets_all_of_it_and_keeps_nobody_waiting(ours, counts):
    with downloading(ours, counts) as (wire, sender):
        for _ in range(5):
            assert ours.ask("/file.txt").endswith(SMALL)
            assert body(ours.ask("/other.bin")) == BIG[::-1]
        assert sender.sent < len(BIG)
        assert body(wire.read()) == BIG
        for _ in range(3):
            assert body(wire.ask(get("/big.bin"))) == BIG
            assert wire.ask(get("/file.txt")).endswith(SMALL)


BEHIND = {
    "a hit": [get("/file.txt")],
    "a miss": [get("/file.txt?cold")],
    "hits, and a file": [get("/file.txt"), get("/big.bin", "Range: bytes=7-2000000\r\n"), get("/file.txt"), get("/big.bin")],
    "a refused request": [get("/file.txt", method="POST"), get("/file.txt")],
    "a request to close": [LAST, get("/file.txt")],
}


@pytest.mark.parametrize("behind", BEHIND)
def test_what_comes_behind_a_file_in_one_segment_waits_its_turn(ours, stock, counts, behind):
    heat(ours, counts, get("/file.txt"), get("/big.bin", "Range: bytes=7-2000000\r\n"))
    requests = [*BEHIND[behind], LAST]
    with downloading(ours, counts, *requests) as (wire, _):
        mine = wire.read_all()
    theirs = whole(stock, get("/big.bin"), *requests)
    assert alike(mine, first=True) == alike(theirs, first=True)


@pytest.mark.parametrize("behind", BEHIND)
def test_what_comes_while_a_file_is_sent_waits_its_turn(ours, stock, counts, behind):
    heat(ours, counts, get("/file.txt"))
    requests = [*BEHIND[behind], LAST]
    stream = b"".join(requests)
    with downloading(ours, counts) as (wire, _):
        for start in range(0, len(stream), 30):
            wire.send(stream[start : start + 30])
        mine = wire.read_all()
    theirs = whole(stock, get("/big.bin"), *requests)
    assert alike(mine, first=True) == alike(theirs, first=True)


@pytest.mark.parametrize("in_one", [True, False])
def test_what_is_no_request_behind_a_file_is_refused_after_it(ours, counts, in_one):
    garbage = b"GARBAGE\r\n\r\n"
    with downloading(ours, counts, *([garbage] if in_one else [])) as (wire, _):
        if not in_one:
            wire.send(garbage)
        assert body(wire.read()) == BIG
        assert wire.read_all()[:12] == b"HTTP/1.1 400"


@pytest.mark.parametrize("cut", [1, 5, 30, -2])
def test_half_a_request_behind_a_file_is_no_request_yet(ours, counts, cut):
    heat(ours, counts, get("/file.txt"))
    following = get("/file.txt")
    heat(ours, counts, get("/big.bin"))
    with ours.connect(4096) as wire:
        wire.send(get("/file.txt") + get("/big.bin") + following[:cut])
        assert wire.read().endswith(SMALL)
        assert body(wire.read()) == BIG
        wire.send(following[cut:])
        assert wire.read().endswith(SMALL)


def test_a_client_that_vanishes_ends_the_sending(own, counts, count_descriptors):
    for _ in range(3):
        with downloading(own, counts) as (wire, sender):
            wire.socket.recv(1000)
        wait_for(lambda: not own.connections, "the end of the connection")
        assert sender.sent < len(BIG)
        assert sender not in sendfile._senders
        del sender
        assert body(own.ask("/big.bin")) == BIG
    wait_for(lambda: not own.connections, "the end of all connections")
    counts.files.clear()
    own.open_files.clear()
    gc.collect()
    assert count_descriptors(own.root) == 0


def write_over(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"X" * 1000)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.truncate(file, 1_500_000),
        lambda file: os.truncate(file, 0),
        write_over,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(BIG + b"more"),
    ],
    ids=["cut", "cut to nothing", "written over", "made empty", "written anew"],
)
def test_a_file_that_is_changed_while_it_is_sent_ends_the_connection(own, counts, change):
    """An incomplete answer: never padded, and nothing of the next one behind it."""
    file = own.root / "big.bin"
    with downloading(own, counts) as (wire, _):
        wire.send(get("/file.txt"))
        change(file)
        received = wire.read_all()
    content = body(received)
    assert b"\r\ncontent-length: 3145728\r\n" in received
    assert len(content) < len(BIG)
    assert re.fullmatch(rb"[0-9a-fX]*", content), "of the file, and of nothing else"
    with own.connect() as wire:
        wait_for(lambda: body(wire.ask(get("/big.bin"))) == file.read_bytes(), "the new content")


@pytest.mark.parametrize("remove", [True, False])
def test_a_file_that_is_replaced_while_it_is_sent_goes_on_as_it_was(own, counts, remove):
    file = own.root / "big.bin"
    with downloading(own, counts) as (wire, _):
        if remove:
            file.unlink()
        else:
            (own.root / "beside").write_bytes(b"new")
            (own.root / "beside").replace(file)
        assert body(wire.read()) == BIG
        wait_for(
            lambda: wire.ask(get("/big.bin"))[9:12] == b"404" if remove else wire.ask(get("/big.bin")).endswith(b"new"), "it"
        )


def test_a_file_that_is_not_kept_open_any_more_is_opened_again(ours, counts):
    with ours.connect() as wire:
        for _ in range(3):
            ask_hot(ours, counts, get("/big.bin"), wire)
            ours.open_files.clear()
            before = counts.slow
            assert body(wire.ask(get("/big.bin"))) == BIG
            assert counts.slow == before + 1, "by the slow path"
            assert body(ask_hot(ours, counts, get("/big.bin"), wire)) == BIG


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_that_the_kernel_cannot_send_is_whole_each_time(own, monkeypatch, number):
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", fail)
    with own.connect() as wire:
        for _ in range(5):
            assert body(wire.ask(get("/big.bin"))) == BIG
            assert wire.ask(get("/file.txt")).endswith(SMALL)


def test_without_a_descriptor_a_hot_file_is_whole(own, counts, monkeypatch):
    """Waiting for a client takes one."""
    heat(own, counts, get("/big.bin"))

    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", fail)
    with own.connect(4096) as wire:
        for _ in range(2):
            assert body(wire.ask(get("/big.bin"))) == BIG


def test_a_client_that_takes_nothing_of_a_hot_file_is_cut_off_and_one_that_is_slow_is_not(own, counts, monkeypatch):
    monkeypatch.setattr(limits, "SEND_IDLE_S", 1.5)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)
    with downloading(own, counts) as (wire, sender):
        received = b""
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 3.0:
            received += wire.socket.recv(60_000)
            time.sleep(0.1)
        assert sender in sendfile._senders
        wait_for(lambda: not own.connections, "the end of the connection")
        assert sender not in sendfile._senders


# The end of the server


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_server_that_stops_sends_the_file_to_its_end(make_folder, counts, count_descriptors, loop):
    root = make_folder()
    with running(root, loop=loop) as server:
        with downloading(server, counts, get("/file.txt")) as (wire, sender):
            server.uvicorn.should_exit = True
            wait_for(lambda: not server.uvicorn.servers or not server.uvicorn.servers[0].is_serving(), "the stop")
            received = wire.read_all()
            assert body(received)[: len(BIG)] == BIG
            assert received.count(b"HTTP/1.1") <= 2
        assert sender not in sendfile._senders
    del sender
    counts.files.clear()
    gc.collect()
    assert count_descriptors(root) == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("reads", [True, False])
def test_no_descriptor_is_left_of_a_server_that_sent_hot_files(make_folder, counts, count_descriptors, loop, reads):
    """Nor of one that did not wait for a client that takes nothing."""

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    root, before = make_folder(), count()
    with running(root, loop=loop) as server:
        heat(server, counts, get("/big.bin"), get("/other.bin"), get("/file.txt"))
        assert len(server.open_files) == count_descriptors(root) == 2
        stack = contextlib.ExitStack()
        with stack:
            for _ in range(5):
                wire = stack.enter_context(server.connect(4096))
                wire.send(get("/big.bin"))
                if reads:
                    assert body(wire.read()) == BIG
            if not reads:
                wait_for(lambda: len(sendfile._senders) == 5, "the beginning of all")
                server.uvicorn.should_exit = True
                wait_for(lambda: not server.loop.is_running(), "the end of the server")
    counts.files.clear()
    assert count_descriptors(root) == 0
    wait_for(lambda: count() <= before, "the end of all descriptors")


# The log


def test_the_log_tells_a_hot_file_by_its_own_id_and_by_what_was_sent(root, counts, monkeypatch):
    """Others are answered while it is sent; one client leaves in between."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with running(root, access_log="json") as server:
        heat(server, counts, get("/file.txt"))
        with downloading(server, counts) as (wire, _):
            for _ in range(3):
                server.ask("/file.txt")
            answer = wire.read()
        with downloading(server, counts) as (wire, left):
            wire.socket.recv(1000)
        wait_for(lambda: not server.connections, "the end of all connections")
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = re.search(rb"x-request-id: (\S+)", answer)
    assert found is not None
    [row] = [row for row in rows if row["request_id"] == found[1].decode()]
    assert (row["path"], row["status"], row["bytes_sent"]) == ("/big.bin", 200, len(BIG))
    assert [row["bytes_sent"] for row in rows if row["path"] == "/big.bin"][-1] == left.sent < len(BIG)
    assert len({row["request_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    "ranges",
    [
        ["bytes=0-0", "bytes=5-1000", "bytes=100-", "bytes=-7", "bytes=0-", "bytes=1048576-2097151"],
        ["bytes=5-5", "bytes=1000-999", "items=0-5", "bytes=99999999999-", "bytes=", "bytes=-0", "bytes=2-3 "],
    ],
)
def test_other_ranges_of_a_file_get_the_stock_answers(ours, stock, counts, ranges):
    heat(ours, counts, get("/big.bin", "Range: bytes=1-2\r\n"))
    with ours.connect() as wire, stock.connect() as theirs:
        for one in ranges * 2:
            request = get("/big.bin", f"Range: {one}\r\n")
            assert alike(wire.ask(request)) == alike(theirs.ask(request))


@pytest.mark.parametrize("target", ["/big.bin", "/file.txt"])
def test_several_short_ranges_are_repeated(ours, stock, counts, target):
    request = get(target, "Range: bytes=0-1,5-6,-2\r\n")
    assert alike(ask_hot(ours, counts, request), first=True) == alike(
        stock.ask(target, "Range: bytes=0-1,5-6,-2\r\n"), first=True
    )


def test_a_range_of_the_very_representation_is_cut_without_the_slow_path(ours, stock, counts):
    etag = re.search(rb"\r\netag: (\S+)", stock.ask("/big.bin"))
    assert etag is not None
    heat(
        ours,
        counts,
        get("/big.bin", "Range: bytes=1-2\r\n"),
        get("/big.bin", f"If-Range: {etag[1].decode()}\r\nRange: bytes=1-2\r\n"),
    )
    with ours.connect() as wire, stock.connect() as theirs:
        for number in range(6):
            fields = f"If-Range: {etag[1].decode()}\r\nRange: bytes={number}-70000\r\n"
            assert alike(ask_hot(ours, counts, get("/big.bin", fields), wire)) == alike(theirs.ask(get("/big.bin", fields)))
        others = (get("/big.bin", f"If-Range: {etag[1].decode()}\r\nRange: bytes=9-{last}\r\n") for last in range(99, 999))
        ask_each_hot(counts, others, wire)


@pytest.mark.parametrize(
    "validator", ['"another"', 'W/"another"', "Mon, 01 Jan 2035 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 GMT", "x", ""]
)
def test_a_range_of_another_representation_gets_the_stock_answer_hot_and_slow(ours, stock, counts, validator):
    heat(ours, counts, get("/middle.bin", "Range: bytes=1-2\r\n"))
    fields = f"If-Range: {validator}\r\nRange: bytes=1-2\r\n"
    with ours.connect() as wire, stock.connect() as theirs:
        for _ in range(6):
            assert alike(wire.ask(get("/middle.bin", fields))) == alike(theirs.ask(get("/middle.bin", fields)))
            assert alike(wire.ask(get("/middle.bin", "If-Range: x\r\n"))) == alike(
                theirs.ask(get("/middle.bin", "If-Range: x\r\n"))
            )


def test_a_small_part_of_a_file_takes_no_sender(ours, counts):
    request = get("/big.bin", "Range: bytes=7-1006\r\n")
    heat(ours, counts, request)
    counts.files.clear()
    with ours.connect() as wire:
        for _ in range(3):
            assert body(ask_hot(ours, counts, request, wire)) == BIG[7:1007]
    assert not counts.files


def test_what_the_kernel_takes_of_a_small_part_is_not_sent_twice(ours, counts, monkeypatch):
    request = get("/big.bin", "Range: bytes=7-100006\r\n")
    heat(ours, counts, request)
    counts.files.clear()
    monkeypatch.setattr(hotpath, "send_at_once", lambda *given: sendfile.send_at_once(*given[:3], 1000, given[-1]))
    with ours.connect() as wire:
        assert body(ask_hot(ours, counts, request, wire)) == BIG[7:100007]
    wait_for(lambda: [sender.sent for sender in counts.files] == [100_000], "the count of what was sent")


@pytest.mark.parametrize(("name", "last"), [("read_now", 1006), ("send_at_once", 100_006)])
def test_no_part_of_a_file_is_another_one_s(own, counts, monkeypatch, name, last):
    """What changes while it is sent ends the connection; what changes before is answered anew."""
    request = get("/big.bin", f"Range: bytes=7-{last}\r\n")
    heat(own, counts, request)
    take = getattr(hotpath, name)

    def take_and_change(*given: Any) -> Any:
        taken = take(*given)
        (own.root / "big.bin").write_bytes(BIG[::-1])
        return taken

    monkeypatch.setattr(hotpath, name, take_and_change)
    with own.connect() as wire:
        wire.send(get("/big.bin", f"Range: bytes=8-{last}\r\n") + LAST)
        answers = wire.read_all()
    assert BIG[8 : last + 1] not in answers or not answers.endswith(SMALL)


def test_a_short_part_that_is_asked_for_again_comes_from_memory(ours, counts, monkeypatch):
    heat(ours, counts, get("/big.bin", "Range: bytes=1-2\r\n"))
    read: list[int] = []
    monkeypatch.setattr(hotpath, "read_now", lambda *given: read.append(given[1]) or pages.read_now(*given))
    request = get("/big.bin", "Range: bytes=4321-5000\r\n")
    with ours.connect() as wire:
        answers = [wire.ask(request) for _ in range(6)]
    assert {alike(answer) for answer in answers} == {alike(answers[0])}
    assert body(answers[-1]) == BIG[4321:5001]
    assert read == [4321, 4321]


def test_another_range_of_a_file_is_cut_without_the_slow_path(ours, counts):
    heat(ours, counts, get("/big.bin", "Range: bytes=1-2\r\n"))
    with ours.connect() as wire:
        for number in range(8):
            request = get("/big.bin", f"Range: bytes={number * 7}-{number * 7 + 9}\r\n")
            assert body(ask_hot(ours, counts, request, wire)) == BIG[number * 7 : number * 7 + 10]
        others = (get("/big.bin", f"Range: bytes={first}-{first + 9}\r\n") for first in range(70_000, 80_000, 10))
        answer = ask_each_hot(counts, others, wire)
        first = int(re.search(rb"content-range: bytes (\d+)-", answer)[1])
        assert body(answer) == BIG[first : first + 10]


@pytest.mark.parametrize(("target", "content"), [("/file.txt", SMALL), ("/big.bin", BIG)])
@pytest.mark.parametrize("fields", ["", "If-Range: x\r\n"])
def test_a_client_that_sends_no_more_gets_what_it_asked_for(ours, counts, target, content, fields):
    if not fields:
        heat(ours, counts, get(target))
    with ours.connect() as wire:
        wire.send(get(target, fields) * 2)
        wire.socket.shutdown(socket.SHUT_WR)
        answers = wire.read_all()
    assert answers.count(content) == 2
    assert answers.endswith(content)

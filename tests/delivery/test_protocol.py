"""The protocol on real connections: the same answers as stock Uvicorn's, deadlines, limits, bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assetserver.cli import main
from assetserver.delivery import limits, livefolder, sweep
from assetserver.delivery.hotcache import HOT
from assetserver.delivery.protocol import AssetProtocol

from .wires import LIMIT_S, Server, Wire, alike, get, post, running, wait_for

END = b"GET /file.txt?end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BODY = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "d").mkdir()
    css = b"body { color: rebeccapurple; margin: 0 }\n" * 60
    files = {"index.html": b"<h1>Home</h1>\n" * 50, "d/index.html": b"<h1>Folder</h1>\n", "404.html": b"<h1>None</h1>\n"}
    files |= {
        "style.css": css,
        "file.txt": b"hello world",
        "a b.txt": b"space",
        "empty.txt": b"",
        "big.bin": b"0123456789abcdef" * 196_608,
    }
    files |= {"mid.bin": b"0123456789abcdef" * 60_000, "app.4f1d6e3a9b.js": b"console.log(1)\n" * 40}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module", autouse=True)
def settled():
    """Files of a moment ago are trusted, as old ones are: both servers then see one state of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(livefolder, "SETTLED_NS", -(10**10))
        yield


@pytest.fixture(scope="module")
def ours(root):
    with running(root) as server:
        yield server


@pytest.fixture(scope="module")
def stock(root):
    with running(root, HttpToolsProtocol) as server:
        yield server


ETAG = "ETAG"
"""Stands for the current tag of style.css."""

FIELDS = [
    "",
    "Accept-Encoding: gzip, br, zstd\r\n",
    "accept-encoding: gzip\r\nUser-Agent: x\r\n",
    "Accept-Encoding: identity;q=0\r\n",
    "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n",
    "Accept-Encoding:\r\n",
    "Accept-Encoding: br;q=0.5 , gzip;q=0.1 \r\n",
    f"If-None-Match: {ETAG}\r\nAccept-Encoding: br\r\n",
    'If-None-Match: "other"\r\n',
    "If-None-Match: *\r\n",
    f'If-None-Match: "a"\r\nIf-None-Match: {ETAG}\r\n',
    f"If-None-Match: {ETAG}\r\nIf-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT\r\n",
    "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
    'If-Match: "no"\r\n',
    "If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT\r\n",
    "Range: bytes=0-3\r\n",
    "Range: bytes=-3,0-1\r\n",
    "Range: bytes=999999999-\r\n",
    'Range: bytes=0-3\r\nIf-Range: "other"\r\n',
    "Want-Repr-Digest: sha-256=1\r\n",
    "Cookie: a=1\r\nCookie: b=2\r\n",
    "Connection: keep-alive\r\n",
    "Connection: Keep-Alive, foo\r\n",
    "Connection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    "Expect: 100-continue\r\n",
    "Content-Length: 0\r\n",
    "X-Forwarded-For: 1.2.3.4\r\n",
    "host: b\r\n",
    "X-Empty:\r\n",
]
TARGETS = [
    "/style.css",
    "/",
    "/file.txt",
    "/empty.txt",
    "/d/",
    "/d",
    "/none",
    "/none.js",
    "/app.4f1d6e3a9b.js",
    "/style.css?v=1",
]
ODD = [
    *(
        "//file.txt",
        "/./file.txt",
        "/%66ile.txt",
        "/file.txt?",
        "/file.txt#x",
        "/a%20b.txt",
        "/%00",
        "/%2e%2e/x",
        "/file.txt?a?b",
    )
]
ODD += ["http://a/file.txt", "/-/healthy", "/-/nothing", "*", "/é"]
REQUESTS = [get(target, fields) for target in TARGETS[:3] for fields in FIELDS]
REQUESTS += [
    get(target, "Accept-Encoding: br\r\n", method) for target in TARGETS for method in ("GET", "HEAD", "OPTIONS", "DELETE")
]
REQUESTS += [get(target) for target in ODD[:-2]]
REQUESTS += [get("/mid.bin"), get("/big.bin", "Range: bytes=5-9\r\n")]
REQUESTS += [
    post("Content-Length: 4\r\n", b"body"),
    post("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\n", b"3;x=y\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    get(fields="Content-Length: 4\r\n") + b"body",
    get(fields="Transfer-Encoding: chunked\r\n") + b"1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n",
]
CLOSING = [
    get(fields="Connection: close\r\n"),
    b"GET /file.txt HTTP/1.0\r\n\r\n",
    b"GET /file.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /file.txt HTTP/1.1\r\n\r\n",
    b"GET /file.txt HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET /file.txt HTTP/1.1\r\nHost: a b\r\n\r\n",
]


def tagged(server: Server, requests: list[bytes]) -> list[bytes]:
    tag = re.search(rb"(?im)^etag: ([^\r\n]*)", server.ask("/style.css"))
    assert tag
    return [request.replace(ETAG.encode(), tag[1]) for request in requests]


def replay(server: Server, requests: list[bytes]) -> list[bytes]:
    """Ask one after the other, on one connection as long as it is kept."""
    answers = []
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(server.connect())
        for request in requests:
            answers.append(wire.ask(request))
            if b"\r\nconnection: close\r\n" in answers[-1].lower():
                wire = stack.enter_context(server.connect())
    return answers


def test_every_answer_is_the_stock_one_however_often_it_is_asked(ours, stock):
    requests = tagged(stock, REQUESTS)
    for round_ in range(3):
        for request, *answers in zip(requests, replay(ours, requests), replay(stock, requests), strict=True):
            assert alike(answers[0], first=True) == alike(answers[1], first=True), (round_, request)
    # Looked at at once, so that both are warm.
    for request in requests:
        mine, theirs = (replay(server, [request] * 4) for server in (ours, stock))
        assert alike(mine[3]) == alike(theirs[3]), request


def whole(server: Server, *pieces: bytes, pause: bool = False) -> bytes:
    """Send pieces and return all that comes until the server closes."""
    with server.connect() as wire:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                wire.send(piece)
                if pause:
                    time.sleep(0.001)
        return wire.read_all()


@pytest.mark.parametrize("request_", CLOSING)
def test_what_closes_the_connection_closes_it_alike(ours, stock, request_):
    for _ in range(3):
        assert alike(whole(ours, request_), first=True) == alike(whole(stock, request_), first=True)


def test_hits_and_misses_in_one_segment_keep_their_order(ours, stock):
    stream = get() + get("/none.js") + get() + get("/big.bin", "Range: bytes=1-2\r\n") + get("/style.css") + END
    for _ in range(3):
        assert alike(whole(ours, stream), first=True) == alike(whole(stock, stream), first=True)


def test_a_request_cut_anywhere_gets_the_same_answer(ours, stock):
    stream = get("/style.css", "Accept-Encoding: br\r\n") + get("/file.txt")
    expected = alike(whole(stock, stream + END), first=True)
    for cut in range(len(stream)):
        assert alike(whole(ours, stream[:cut], stream[cut:] + END), first=True) == expected, cut


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chosen=st.lists(
        st.sampled_from([one for one in REQUESTS if b"big" not in one and b"100-c" not in one]), min_size=1, max_size=6
    ),
    cuts=st.lists(st.integers(0, 900), max_size=5),
)
def test_any_requests_in_any_pieces_get_the_stock_answers(ours, stock, chosen, cuts):
    stream = b"".join(chosen) + END
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(places)]
    mine, theirs = (whole(server, *pieces, pause=True) for server in (ours, stock))
    assert alike(mine, first=True) == alike(theirs, first=True)


@pytest.mark.parametrize("target", ["/big.bin", "/mid.bin", "/empty.txt", "/style.css"])
@pytest.mark.parametrize("fields", ["", "Accept-Encoding: br\r\n", 'If-None-Match: "other"\r\n'])
def test_a_file_is_whole_every_time(ours, stock, target, fields):
    """Also one that is too large to be held in memory, and sent in pieces."""
    expected = alike(stock.ask(target, fields), first=True)
    for _ in range(5):
        assert alike(ours.ask(target, fields), first=True) == expected


def test_a_stale_field_of_another_visitor_is_in_no_answer(ours, stock):
    """A CDN sends the requests of many visitors over one connection."""
    [tagged_one] = tagged(stock, [get("/style.css", f"If-None-Match: {ETAG}\r\nAccept-Encoding: br\r\n")])
    requests = [
        tagged_one,
        get("/style.css", "If-None-Match: \r\nAccept-Encoding: br\r\n"),
        get("/style.css", "Accept-Encoding: br\r\n"),
        get("/style.css", "X: 1\r\nAccept-Encoding: br\r\n"),
        tagged_one,
        get("/style.css", "X: 1\r\nX: 2\r\n"),
        get("/style.css", "Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n"),
        get("/style.css", "Accept-Encoding: br\r\naccept-encoding: gzip\r\n"),
        tagged_one,
        get("/style.css"),
    ]
    expected = [alike(whole(stock, request + END), first=True) for request in requests]
    for _ in range(4):
        with ours.connect() as wire:
            for request, answer in zip(requests, expected, strict=True):
                assert answer.startswith(alike(wire.ask(request), first=True)), request


@pytest.mark.parametrize("line", [b"Host: evil", b"If-None-Match: *", b"Range: bytes=0-0"])
def test_trailers_are_no_fields_of_the_header(ours, line):
    for _ in range(3):
        request = get(fields="Transfer-Encoding: chunked\r\n") + b"1\r\na\r\n0\r\n" + line + b"\r\n\r\n"
        assert ours.ask().endswith(b"hello world")
        assert replay(ours, [request])[0].endswith(b"\r\n\r\nhello world")


HEAD = f"Connection: Upgrade\r\n{{}}\r\nContent-Length: {len(BODY)}\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "Upgrade: h2c",
        "UPGRADE: h2c",
        "uPgRaDe:h2c",
        "Upgrade: websocket, h2c",
        "Upgrade: h2c, websocket",
        "CONNECTION",
        "Upgrade: h2c\r\nUpgrade: h2c",
        "Upgrade: websocket",
    ],
)
@pytest.mark.parametrize("cut", ["nowhere", "before the body", "in the header", "behind a request", "behind a body"])
def test_the_body_of_a_request_to_upgrade_is_no_request(ours, line, cut):
    request = (
        post(HEAD.format(line)) if line != "CONNECTION" else post(HEAD.format("UPGRADE: h2c").replace(": Up", ": UP").upper())
    )
    first = {"behind a request": get(), "behind a body": post("Content-Length: 4\r\n", b"bo")}.get(cut, b"")
    with ours.connect() as wire:
        if cut == "in the header":
            wire.send(request[:60])
            wait_for(lambda: any(one._is_receiving for one in ours.connections), "the first piece")
            request = request[60:]
        if cut == "behind a body":
            wire.ask(first)
            wire.send(b"dy" + request)
        else:
            wire.send(first + request + (BODY if cut == "nowhere" else b""))
        answers = []
        with contextlib.suppress(EOFError, ConnectionError):  # it may be refused, whatever waits for an answer
            if cut == "behind a request":
                answers.append(wire.read())
            answers.append(wire.read(b"POST"))
            wire.send(b"" if cut == "nowhere" else BODY, END)
        received = b"".join(answers) + wire.read_all()
    assert b" 404 " not in received, "what the body says was taken for a request"


@pytest.mark.parametrize("fields", ["Upgrade : h2c\r\n", "Upgrade: a\0b\r\n", "X: 1\r\nUpgrade: a\r\n b\r\n"])
def test_a_malformed_field_is_not_mended(ours, fields):
    assert whole(ours, get("/file.txt", fields + "Connection: close\r\n"))[:12] == b"HTTP/1.1 400"


@pytest.mark.parametrize("fields", ["Upgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n"])
def test_a_request_to_upgrade_without_a_body_is_answered_as_any_other(ours, stock, fields):
    for _ in range(3):
        answers = [alike(server.ask("/file.txt", fields), first=True) for server in (ours, stock)]
        assert answers[0] == answers[1]


# What changes


def put(file: Path, content: bytes) -> None:
    beside = file.with_name("tmp~" + file.name)
    beside.write_bytes(content)
    beside.replace(file)


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_a_file_changed_on_disk_is_noticed_within_a_second_and_never_forgotten(tmp_path):
    file = tmp_path / "file.txt"
    file.write_bytes(b"0")
    with running(tmp_path) as server, server.connect() as wire:
        for number in range(1, 4):
            for _ in range(20):
                assert body(wire.ask(get())) == b"%d" % (number - 1)
            put(file, b"%d" % number)
            assert_switches(wire, get(), b"%d" % (number - 1), b"%d" % number)
        file.unlink()
        wait_for(lambda: wire.ask(get())[:12] == b"HTTP/1.1 404", "the end of the file")
        assert [wire.ask(get())[:12] for _ in range(20)] == [b"HTTP/1.1 404"] * 20


def assert_switches(wire: Wire, request: bytes, old: bytes, new: bytes) -> None:
    """Ask until the new content comes: only the old one may come before, and never after."""
    seen = [body(wire.ask(request))]
    deadline_s = time.monotonic() + LIMIT_S
    while seen[-1] != new:
        assert time.monotonic() < deadline_s, "still the old content"
        seen.append(body(wire.ask(request)))
    seen += [body(wire.ask(request)) for _ in range(50)]
    assert seen == [old] * seen.index(new) + [new] * (len(seen) - seen.index(new))


@pytest.fixture
def releases(tmp_path) -> Callable[..., object]:
    """``releases(content, *flags)`` publishes a release with one file."""

    def publish(content: bytes, *flags: str) -> str:
        folder = tmp_path / "dist"
        folder.mkdir(exist_ok=True)
        (folder / "file.txt").write_bytes(content)
        data = str(tmp_path / "data")
        result = CliRunner().invoke(main, ["publish", str(folder), "--data", data, "--json", *flags])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)["id"]

    return publish


def test_an_activation_and_a_rollback_are_noticed_and_never_forgotten(tmp_path, releases):
    releases(b"first", "--prod")
    with running(tmp_path, data=tmp_path / "data") as server, server.connect() as wire:
        assert {body(wire.ask(get())) for _ in range(20)} == {b"first"}
        releases(b"second", "--prod")
        assert_switches(wire, get(), b"first", b"second")
        result = CliRunner().invoke(main, ["rollback", "--data", str(tmp_path / "data")])
        assert result.exit_code == 0, result.output
        assert_switches(wire, get(), b"second", b"first")


def test_an_alias_that_moved_is_noticed_on_the_hot_path(tmp_path, releases):
    releases(b"first", "--alias", "staging")
    request = get("/-/releases/@staging/file.txt")
    with running(tmp_path, data=tmp_path / "data") as server, server.connect() as wire:
        assert {body(wire.ask(request)) for _ in range(20)} == {b"first"}
        releases(b"second", "--alias", "staging")
        assert_switches(wire, request, b"first", b"second")


# The log


@pytest.mark.parametrize("form", ["combined", "json"])
def test_hot_requests_are_logged_as_others(root, monkeypatch, form):
    logs = []
    fields = 'User-Agent: t"est\r\nReferer: http://r/\r\nAccept-Encoding: br\r\n'
    targets = ["/style.css", "/style.css?a=%20b", "/a%20b.txt", "/file.txt#x", "http://a/file.txt", "/empty.txt", "/file.txt?"]
    for kind in (AssetProtocol, HttpToolsProtocol):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stdout", stream)
        with running(root, kind, access_log=form) as server:
            for target in targets:
                replay(server, [get(target, fields)] * 6)
        logs.append(
            re.sub(r'"(ts|request_id)":"[^"]*",|"(duration_ms|ttfb_ms)":[0-9.]+,|\[[^]]*\]', "", stream.getvalue()).splitlines()
        )
    assert len(logs[0]) == 6 * len(targets)
    assert [logs[0][index] for index in range(len(logs[0])) if index % 6 == 5] == [
        logs[1][index] for index in range(len(logs[1])) if index % 6 == 5
    ]


# Deadlines


@pytest.fixture
def quick(root, monkeypatch):
    """A server whose deadlines are short; a client on a busy machine keeps them when it is meant to."""
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)
    for name in ("HEADER_S", "BODY_IDLE_S", "SEND_IDLE_S"):
        monkeypatch.setattr(limits, name, 0.3)
    with running(root) as server:
        yield server
        for name in ("HEADER_S", "BODY_IDLE_S", "SEND_IDLE_S"):
            monkeypatch.setattr(limits, name, LIMIT_S)
        assert server.ask().endswith(b"hello world")  # it goes on serving
        wait_for(lambda: not server.connections, "the end of all connections")


def drip(wire: Wire, piece: bytes) -> bytes:
    """Send a piece every now and then until the server closes; return what came."""
    wire.socket.settimeout(0.02)
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        try:
            with contextlib.suppress(ConnectionError):
                wire.send(piece)
            wire.read_all()
        except TimeoutError:
            continue
        return wire._rest
    pytest.fail("the connection is still open")


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"G", b""),
        (b"GET /file.txt HT", b""),
        (b"GET /", b"a"),
        (b"GET /file.txt HTTP/1.1\r\nHost: a\r\nX", b"a"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n", b"a: b\r\n"),
    ],
)
def test_a_header_that_drips_is_answered_408(quick, start, piece):
    with quick.connect() as wire:
        wire.send(start)
        assert drip(wire, piece)[:12] == b"HTTP/1.1 408"


def test_empty_lines_for_ever_keep_no_connection_open(quick, monkeypatch):
    with quick.connect() as wire:
        wait_for(lambda: quick.connections, "the connection")
        quick.connections[0].timeout_keep_alive = 0.3
        drip(wire, b"\r\n")


def test_a_second_request_has_all_its_time(quick, monkeypatch):
    """Its header begins behind a body that took long."""
    for name in ("HEADER_S", "BODY_IDLE_S"):
        monkeypatch.setattr(limits, name, LIMIT_S)
    with quick.connect() as wire:
        wire.send(post("Content-Length: 4\r\n", b"bo"))
        assert wire.read(b"POST").startswith(b"HTTP/1.1 405")
        [connection] = quick.connections
        connection._begun_s -= LIMIT_S - 1
        wire.send(b"dy" + get()[:20])
        wait_for(lambda: connection._is_receiving and not connection._is_in_body, "the second header")
        assert connection.loop.time() - connection._begun_s < LIMIT_S / 2
        wire.send(get()[20:])
        assert wire.read().endswith(b"hello world")


def test_an_idle_connection_is_closed_without_a_word(quick):
    for ask in (False, True):
        with quick.connect() as wire:
            if ask:
                for _ in range(4):
                    wire.ask(get())
            wait_for(lambda: quick.connections, "the connection")
            quick.connections[0].timeout_keep_alive = 0.2
            assert wire.read_all() == b""


def test_a_request_has_one_answer_even_if_its_body_stalls(quick):
    """The answer was sent before the body was whole: nothing may follow it but the end."""
    with quick.connect() as wire:
        wire.send(post("Content-Length: 100\r\n", b"half"))
        assert wire.read(b"POST").startswith(b"HTTP/1.1 405")
        assert wire.read_all() == b""


@pytest.mark.parametrize(
    ("start", "piece"),
    [(post("Content-Length: 100000\r\n"), b"a"), (post("Transfer-Encoding: chunked\r\n", b"3;"), b"a")],
    ids=["a body", "an extension of a chunk"],
)
def test_a_body_that_drips_behind_its_answer_keeps_no_connection_open(quick, monkeypatch, start, piece):
    monkeypatch.setattr(limits, "BODY_IDLE_S", 60.0)
    monkeypatch.setattr(limits, "LEFTOVER_S", 0.3)
    with quick.connect() as wire:
        wire.send(start)
        assert drip(wire, piece)[:12] == b"HTTP/1.1 405"


def test_requests_before_one_that_is_refused_are_answered(ours):
    """In one segment: the parser comes to the bad one before the first is answered."""
    for bad in (b"\0", get("/file.txt", "X: a\r\n b\r\n"), post("Transfer-Encoding: chunked\r\n", b"xyz\r\n")):
        with ours.connect() as wire:
            wire.send(get("/file.txt?1") + get("/style.css?2") + bad + get("/none"))
            assert wire.read().endswith(b"hello world")
            assert body(wire.read()).startswith(b"body {")
            assert wire.read()[:12] == b"HTTP/1.1 400"
            assert wire.read_all() == b""


def test_what_stands_behind_an_upgrade_that_is_ignored_is_asked_for_again(ours):
    """The parser stops there, and what it was given is lost."""
    with ours.connect() as wire:
        wire.send(get("/file.txt?1") + get("/file.txt?2", "Connection: Upgrade\r\nUpgrade: h2c\r\n") + get("/none"))
        assert b"connection: close" not in wire.read()
        assert b"\r\nconnection: close\r\n" in wire.read()
        assert wire.read_all() == b""


def test_a_request_has_one_answer_even_if_its_body_breaks(quick):
    with quick.connect() as wire:
        wire.send(post("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n"))
        assert wire.read(b"POST").startswith(b"HTTP/1.1 405")
        wire.send(b"xyz\r\n")
        assert wire.read_all() == b""


def test_a_body_that_the_application_waits_for_and_that_stalls_is_answered_408(monkeypatch):
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "BODY_IDLE_S", 0.3)
    with reading() as port, Wire(port) as wire:
        wire.send(post("Content-Length: 100\r\n", b"half"))
        assert wire.read_all()[:12] == b"HTTP/1.1 408"


@contextlib.contextmanager
def reading() -> Iterator[int]:
    """Serve an application that reads all of a body before it answers; yield its port."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=AssetProtocol, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        wait_for(lambda: server.started, "the start")
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listener.close()


@pytest.mark.parametrize("target", ["/big.bin", "/mid.bin"])
@pytest.mark.parametrize("asked", [1, 4])
@pytest.mark.parametrize("times", [1, 3])
def test_a_client_that_reads_nothing_is_cut_off(quick, target, asked, times):
    """Cold or hot, of a file or from memory; with or without a request that waits."""
    for _ in range(asked - 1):
        quick.ask("/mid.bin")
    wait_for(lambda: not quick.connections, "the end of those before")
    with quick.connect(4096) as wire:
        wait_for(lambda: quick.connections, "the connection")
        [connection] = quick.connections
        connection.timeout_keep_alive = 0.3
        wire.send(get(target) * times)
        wait_for(lambda: not quick.connections, "the end of the connection")


def test_hot_answers_do_not_pile_up_for_a_client_that_reads_nothing(ours):
    """One more request is a hundred bytes, one more answer a megabyte."""
    for _ in range(4):
        ours.ask("/mid.bin")
    wait_for(lambda: not ours.connections, "the end of those before")
    with ours.connect(4096) as wire:
        wait_for(lambda: ours.connections, "the connection")
        [connection] = ours.connections
        for number in range(30):
            before = connection._active_s
            wire.send(get("/mid.bin"))
            if connection.flow.read_paused:
                break
            with contextlib.suppress(AssertionError):
                wait_some(lambda seen=before: connection._active_s != seen)
            assert connection.transport.get_write_buffer_size() < 8 << 20, f"after {number + 1} requests"


def wait_some(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 0.2
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.002)


# Limits


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(fields="X: " + "a" * (64 << 10) + "\r\n"), 431),
        (get(fields="X" * (64 << 10) + ": a\r\n"), 431),
        (get(fields="".join(f"X{number}: {'a' * 1000}\r\n" for number in range(66))), 431),
        (get(fields="X: a\r\n" * 128), 431),
        (get(fields="X: a\r\n" * 127), 200),
        (get("/" + "a" * (16 << 10)), 414),
        (get("/file.txt?" + "a" * (16 << 10)), 414),
        (get("/file.txt?" + "a" * (15 << 10)), 200),
    ],
    ids=["a field", "a name", "fields", "129 fields", "128 fields", "a path", "a query", "a long query"],
)
def test_what_is_too_long_is_refused(ours, request_, status):
    assert whole(ours, request_ if status >= 400 else request_ + END)[:12] == b"HTTP/1.1 %d" % status
    cuts = [request_[start : start + 5000] for start in range(0, len(request_), 5000)]
    assert whole(ours, *cuts, *(() if status >= 400 else (END,)))[:12] == b"HTTP/1.1 %d" % status


@pytest.mark.parametrize(
    "start",
    [get(fields="X: ")[:-2], get()[:-2], b"GET /", post("Transfer-Encoding: chunked\r\n", b"0\r\nX: ")],
    ids=["a value", "a name", "a target", "a trailer"],
)
def test_what_has_no_end_is_refused_before_it_fills_memory(ours, start):
    """A parser that hands over whole fields would collect it: 64 MiB here, in time that grows with its square."""
    sent = 0
    with ours.connect() as wire, contextlib.suppress(ConnectionError):
        wire.send(start)
        for _ in range(256):
            wire.send(b"a" * (64 << 10))
            sent += 64 << 10
    assert sent < 8 << 20


def test_what_follows_is_not_written_into_an_answer_under_way(ours):
    """A large answer, one that waits, and what cannot be parsed, in one segment."""
    with ours.connect(4096) as wire:
        wire.send(get("/big.bin", "X: 1\r\n"))  # not hot
        wait_for(
            lambda: ours.connections and (ours.connections[0]._sender or ours.connections[0].transport.get_write_buffer_size()),
            "the beginning of the answer",
        )
        wire.send(get() + b"GARBAGE\r\n\r\n")
        content = body(wire.read_all())[: 3 << 20]
    assert content == (b"0123456789abcdef" * 196_608)[: len(content)]


def test_no_descriptor_is_left(root):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    with running(root) as server:
        for _ in range(10):
            for request in (get("/big.bin"), get(), b"G", b"\0"):
                with server.connect() as wire:
                    wire.send(request)
        wait_for(lambda: not server.connections, "the end of all connections")
    wait_for(lambda: count() <= before, "the end of all descriptors")


@pytest.mark.parametrize("path", ["hot", "cold"])
def test_request_ids_are_unique_and_the_date_is_of_now(ours, path):
    fields = "" if path == "hot" else "Range: bytes=0-\r\n"
    answers = replay(ours, [get("/file.txt", fields)] * 50)
    assert len({re.search(rb"x-request-id: (\S+)", answer)[1] for answer in answers}) == 50
    seen = re.search(rb"date: ([^\r]+)", answers[-1])[1]
    wait_for(lambda: re.search(rb"date: ([^\r]+)", ours.ask())[1] != seen, "another second")


def test_the_real_program_speaks_the_protocol(origin, root):
    """And not the stock one: it refuses a header that is too long, and repeats what it sent."""
    port = int(origin(root).rpartition(":")[2])
    with Wire(port) as wire:
        answers = [wire.ask(get()) for _ in range(5)]
        assert {alike(answer, first=True) for answer in answers} == {alike(answers[0], first=True)}
        wire.send(get(fields="X: a\r\n" * 200))
        assert wire.read_all()[:12] == b"HTTP/1.1 431"


def test_without_a_lifespan_state_it_serves_as_uvicorn_does():
    with reading() as port, Wire(port) as wire:
        for _ in range(3):
            assert wire.ask(get()).endswith(b"ok")
    assert HOT == "assetserver.hot"

"""Anything at all is answered as stock Uvicorn and the slow path answer it, or with a 4xx and the end of the connection.

What stock Uvicorn would answer is asked for message by message: where one ends, llhttp says, alone and byte for byte. So a body
that is taken for a request, an answer in another's place, or one that too many pieces led astray, is found. Dates and request
ids differ, and whether an answer came from memory. ``FUZZ_EXAMPLES=100000`` looks longer.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator

import httptools
import pytest
import uvicorn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from assetserver.app import create_app
from assetserver.delivery import livefolder
from assetserver.delivery.hotcache import HOT
from assetserver.delivery.protocol import AssetProtocol
from assetserver.settings import load_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
LIMIT_S = 60.0
UNLIKE = re.compile(rb"(?im)^(date|x-request-id|cache-status): [^\r\n]*\r\n")
REFUSAL = re.compile(rb"HTTP/1\.1 4\d\d [^\r\n]*\r\n(?=.*?^connection: close\r\n).*?\r\n\r\n", re.DOTALL | re.MULTILINE)
UPGRADE = re.compile(rb"(?i)upgrade(?=:)")


class Stock(HttpToolsProtocol):
    """Uvicorn's protocol, but for its fields of trailers, which it takes for those of the header."""

    _is_in_header = True

    def on_message_begin(self) -> None:
        self._is_in_header = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_header = False
        super().on_headers_complete()


class Transport(asyncio.Transport):
    """What a connection's client gets. Keeps what comes while reading is paused; takes nothing once it is closing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 80)})
        self.written = bytearray()
        self.is_paused = self._is_closing = False

    def write(self, data: bytes) -> None:
        if not self._is_closing:
            self.written += data

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Origin:
    """An application and both protocols, without sockets."""

    def __init__(self, root) -> None:
        config = {"server.access_log": "off", "compression.patience_s": 10.0, "compression.minimum_bytes": 200}
        config |= {"mounts": [{"prefix": "/", "directory": str(root)}]}
        self._app = create_app(load_settings(None, {}, config))
        self._config = uvicorn.Config(
            self._app, ws="none", log_config=None, log_level="critical", access_log=False, proxy_headers=False
        )
        self._config.load()
        self._runner = asyncio.Runner()
        self._stop = asyncio.Event()
        self.state = self._runner.run(self._start())

    async def _start(self) -> dict[str, object]:
        started: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

        async def live() -> None:  # one task for its beginning and its end, as of a server
            async with self._app.router.lifespan_context(self._app) as state:
                started.set_result(state)
                await self._stop.wait()

        self._lifespan = asyncio.create_task(live())
        return await started

    async def _end(self) -> None:
        self._stop.set()
        await self._lifespan

    def close(self) -> None:
        self._runner.run(self._end())
        self._runner.close()

    def exchange(self, kind: type, pieces: list[bytes], *, calm: bool = True) -> tuple[list[bytes], bool]:
        """Return what was answered after each piece, and whether the connection was ended; if ``calm``, one after the other."""
        return self._runner.run(self._exchange(kind, pieces, calm=calm))

    async def _exchange(self, kind: type, pieces: list[bytes], *, calm: bool) -> tuple[list[bytes], bool]:
        server = ServerState()
        server.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
        protocol = kind(config=self._config, server_state=server, app_state=self.state, _loop=asyncio.get_running_loop())
        transport, answers, seen = Transport(), [], 0
        protocol.connection_made(transport)
        for number, piece in enumerate(pieces):
            if transport.is_closing():
                break
            protocol.data_received(piece)
            await asyncio.sleep(0)
            if calm or transport.is_paused or number == len(pieces) - 1:
                await _settle(server)
            answers.append(bytes(transport.written[seen:]))
            seen = len(transport.written)
        is_ended = transport.is_closing()
        protocol.connection_lost(None)
        for handle in vars(server).values():
            if isinstance(handle, asyncio.TimerHandle):
                handle.cancel()
        return answers, is_ended


async def _settle(server: ServerState) -> None:
    """Wait until all that was asked is answered."""
    async with asyncio.timeout(LIMIT_S):
        while server.tasks:
            await asyncio.wait(set(server.tasks))
            await asyncio.sleep(0)


class Messages:
    """Where the messages of a stream end, byte for byte, as the parser sees it, and the header of one without an end.

    ``is_sound`` is False if something is no message.
    """

    def __init__(self, stream: bytes) -> None:
        self.ends: list[int] = []
        self.is_sound = True
        self._is_over = self._is_header_over = False
        header = 0
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            for at in range(len(stream)):
                parser.feed_data(stream[at : at + 1])
                if self._is_over:
                    self.ends.append(at + 1)
                elif self._is_header_over:
                    header = at + 1
                self._is_over = self._is_header_over = False
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_sound = False
        if header > max(self.ends, default=0):
            self.ends.append(header)

    def on_headers_complete(self) -> None:
        self._is_header_over = True

    def on_message_complete(self) -> None:
        self._is_over = True


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    inside = sorted({place for place in places if 0 < place < len(stream)})
    return [stream[start:stop] for start, stop in zip([0, *inside], [*inside, len(stream)], strict=True)]


def alike(answer: bytes) -> bytes:
    return UNLIKE.sub(b"", answer)


def judge(origin: Origin, stream: bytes, places: list[int], *, calm: bool) -> list[bytes]:
    """Fail if ``stream``, cut at ``places``, is not answered as it should be; return what stock Uvicorn answers."""
    plain = UPGRADE.sub(b"xpgrade", stream)  # ours ignores it, as it may
    messages = Messages(plain)
    expected, _ = origin.exchange(Stock, cut(plain, messages.ends)[: len(messages.ends)])
    pieces, is_ended = origin.exchange(AssetProtocol, cut(stream, places), calm=calm)
    rest, count = alike(b"".join(pieces)), 0
    for answer in map(alike, expected):
        if not answer or not rest.startswith(answer):
            break
        rest, count = rest[len(answer) :], count + 1
    last = alike(expected[count]).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1) if count < len(expected) else b""
    if plain != stream and rest and rest == last:
        assert is_ended  # an upgrade that could not be cut out: what follows is asked for again
        return expected
    told = f"{stream!r} cut at {places}: after {count} of {len(expected)} answers {rest[:300]!r}"
    assert rest or count == len(expected), told
    assert not rest or REFUSAL.fullmatch(rest), told
    assert is_ended or (messages.is_sound and not rest), told
    return expected


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Iterator[Origin]:
    root = tmp_path_factory.mktemp("site")
    (root / "d").mkdir()
    files = {"index.html": b"<h1>Home</h1>\n" * 50, "style.css": b"p { margin: 0 }\n" * 60, "file.txt": b"hello world"}
    files |= {"d/index.html": b"<h1>Folder</h1>\n", "404.html": b"<h1>None</h1>\n", "empty.txt": b""}
    for name, content in files.items():
        (root / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(livefolder, "SETTLED_NS", -(10**10))
        made = Origin(root)
        yield made
        made.close()


HOT_REQUESTS = [
    b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /style.css HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
    b'GET /style.css HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nIf-None-Match: "x"\r\n\r\n',
    b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n",
]
TARGETS = [b"/", b"/file.txt", b"/style.css", b"/d", b"/d/", b"/none", b"/empty.txt", b"/file.txt?a=b", b"//file.txt", b"*"]
TARGETS += [b"http://a/file.txt", b"http://b/file.txt", b"/%66ile.txt", b"/../x", b"/%00", b"/file.txt#x", b"file.txt"]
TARGETS += [b"/\xc3\xa9", b""]
METHODS = [b"GET"] * 8 + [b"HEAD", b"POST", b"OPTIONS", b"PUT", b"DELETE", b"get", b"BREW", b"TRACE"]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 "]
FIELDS = [b"Accept-Encoding: br", b"Accept-Encoding: gzip, br, zstd", b"accept-encoding:gzip", b"Accept-Encoding:"]
FIELDS += [b'If-None-Match: "x"', b"If-None-Match: *", b"If-Match: *", b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"]
FIELDS += [b"Range: bytes=0-3", b"Range: bytes=9-", b"Connection: keep-alive", b"Connection: close", b"Connection: Upgrade"]
FIELDS += [b"Upgrade: h2c", b"Upgrade: websocket", b"Host: b", b"Host: a", b"Host: a b", b"host:", b"X-Forwarded-For: 6.6.6.6"]
FIELDS += [
    b"Content-Length: 4",
    b"Content-Length: 0",
    b"Content-Length: 40",
    b"Content-Length: x",
    b"Transfer-Encoding: chunked",
]
FIELDS += [b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Expect: 100-continue", b"Expect: x"]
FIELDS += [b"Cookie: a=1", b"Cookie: b=2", b"X: a\r\n b", b"X : a", b"X: a\nY: b", b"X: \0", b"X: \xff", b": a", b"X"]
BODIES = [b""] * 4 + [b"body", b"0\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"\r\n", b"\n"]
BODIES += [b"4;x=y\r\nbody\r\n0\r\nHost: b\r\nRange: bytes=0-1\r\n\r\n", b"4\nbody\n0\n\n"]
BODIES += [b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"%",
    b"/",
    b"..",
    b"0",
    b"9",
    b"\r\n\r\n",
    b"\xff",
    b"HTTP/1.1",
]
TOKENS += [b"Host: b\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\n"]
TOKENS += [b"Connection: close\r\n", b"Connection: Upgrade\r\n"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request: often one that is hot, else of parts that need not fit together."""
    if draw(st.booleans()):
        return draw(st.sampled_from(HOT_REQUESTS))
    line = b" ".join([draw(st.sampled_from(METHODS)), draw(st.sampled_from(TARGETS)), draw(st.sampled_from(VERSIONS))])
    host = draw(st.sampled_from([[b"Host: a"], [b"Host: a"], [b"Host: a"], []]))
    fields = draw(st.permutations(host + draw(st.lists(st.sampled_from(FIELDS), max_size=4))))
    return b"\r\n".join([line, *fields, b"", draw(st.sampled_from(BODIES))])


@st.composite
def mutations(draw: st.DrawFn, stream: bytes) -> bytes:
    """Draw a stream that differs in a place or two."""
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(stream)))
        until = min(len(stream), at + draw(st.integers(0, 12)))
        change = draw(st.sampled_from([b"", stream[at:until] * 2, *TOKENS]) | st.binary(min_size=1, max_size=3))
        stream = stream[:at] + change + stream[until:]
    return stream


UPGRADE_BEHIND = HOT_REQUESTS[0] + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + HOT_REQUESTS[0]
SMUGGLED = b"POST /file.txt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 33\r\n\r\n"
SMUGGLED += b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n\r\n"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), chosen=st.lists(requests(), min_size=1, max_size=5), calm=st.booleans())
def test_any_bytes_in_any_pieces_are_answered_as_stock_uvicorn_does_or_refused(origin, data, chosen, calm):
    stream = data.draw(mutations(b"".join(chosen)))
    places = data.draw(st.lists(st.integers(1, max(1, len(stream))), max_size=6))
    judge(origin, stream, places, calm=calm)


@settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(stream=st.binary(max_size=200), places=st.lists(st.integers(1, 200), max_size=4), calm=st.booleans())
@example(stream=SMUGGLED, places=[], calm=True)
@example(stream=SMUGGLED, places=[90], calm=False)
@example(stream=UPGRADE_BEHIND, places=[], calm=False)
@example(stream=HOT_REQUESTS[0] * 3 + b"\0", places=[], calm=False)
def test_noise_is_refused(origin, stream, places, calm):
    judge(origin, HOT_REQUESTS[0] + stream, places, calm=calm)


def test_every_cut_of_a_stream_of_hits_and_misses_is_alike(origin):
    stream = b"".join(HOT_REQUESTS) + b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n" + HOT_REQUESTS[0]
    for place in range(1, len(stream)):
        assert len(judge(origin, stream, [place], calm=bool(place % 2))) == 7


def test_what_is_compared_has_hits_among_it(origin):
    """Else all of this would only look at the slow path."""
    server = [origin.exchange(AssetProtocol, [request] * 3)[0] for request in HOT_REQUESTS]
    assert all(alike(answers[0]) == alike(answers[2]) for answers in server)
    assert len(origin.state[HOT]) >= 4

"""What attackers send, byte for byte, in one table: each is refused or answered once, and no part of it is another request.

Behind every probe stands one more request. A refusal closes the connection, so that it gets no answer; after a probe that was
answered it gets one, and the connection ends. Who is slow is a matter of ``tests/delivery/test_protocol.py``.

Source: RFC 9112 §11, §2.2, §3, §5, §6, §7.1; RFC 9110 §7.8, §10.1.1.
"""

from __future__ import annotations

import contextlib
import re
import socket
from urllib.parse import urlsplit

import pytest

LIMIT_S = 8.0
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET /file.txt?last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
REFUSED = (400,)
UNSUPPORTED = (400, 505)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def post(fields: bytes = b"", content: bytes = b"", method: bytes = b"POST") -> bytes:
    return method + b" /file.txt HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n" + content


def get(target: bytes = b"/file.txt", fields: bytes = b"Host: test\r\n", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + fields + b"\r\n"


def length(value: bytes) -> bytes:
    return post(b"Content-Length:" + value + b"\r\n", b"abc")


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + value + b"\r\n", b"0\r\n\r\n" + SMUGGLED)


def chunks(content: bytes) -> bytes:
    return post(CHUNKED, content)


LIED = b"Content-Length: %d\r\n" % (5 + len(SMUGGLED))

FRAMING = {
    "length and chunks": (post(LIED + CHUNKED, b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "chunks and length": (post(CHUNKED + LIED, b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "length and chunks on GET": (post(LIED + CHUNKED, b"0\r\n\r\n" + SMUGGLED, b"GET"), REFUSED),
    "two lengths alike": (post(b"Content-Length: 3\r\n" * 2, b"abc"), REFUSED),
    "two lengths": (post(b"Content-Length: 0\r\n" + LIED, b"12345" + SMUGGLED), REFUSED),
    "a list of lengths": (length(b" 3, 3"), REFUSED),
    "a length of +3": (length(b" +3"), REFUSED),
    "a length of -1": (length(b" -1"), REFUSED),
    "a length of 0x3": (length(b" 0x3"), REFUSED),
    "a length of 1e1": (length(b" 1e1"), REFUSED),
    "a length of 2^64": (length(b" 18446744073709551616"), REFUSED),
    "an empty length": (length(b""), REFUSED),
    "a length in two words": (length(b" 3 0"), REFUSED),
    "xchunked": (coding(b" xchunked"), (400, 501)),
    "chunked, identity": (coding(b" chunked, identity"), (400, 501)),
    "identity": (coding(b" identity"), (400, 501)),
    "chunked twice": (post(CHUNKED * 2, b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "chunked after a control": (coding(b" \x0bchunked"), (400, 501)),
    "chunked, chunked": (coding(b" chunked, chunked"), (400, 501)),
    "chunks in HTTP/1.0": (b"POST /file.txt HTTP/1.0\r\nHost: test\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED, REFUSED),
    "a chunk line with a bare LF": (chunks(b"3\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk size of 0x3": (chunks(b"0x3\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk size of -1": (chunks(b"-1\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk size with a space": (chunks(b"3 \r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk size of 2^64": (chunks(b"10000000000000000\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk size without end": (chunks(b"f" * 5000 + b"\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk longer than its size": (chunks(b"3\r\nabcd\r\n0\r\n\r\n"), REFUSED),
    "a chunk without CRLF": (chunks(b"3\r\nabc0\r\n\r\n"), REFUSED),
    "a chunk extension with a bare LF": (chunks(b"3;a\nabc\r\n0\r\n\r\n"), REFUSED),
    "gzip and chunks": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), REFUSED),
    "gzip and chunks for a page": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n", b"GET"), REFUSED),
    "codings in two lines": (post(b"Transfer-Encoding: gzip\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "a chunk extension": (chunks(b"3;a=b\r\nabc\r\n0\r\n\r\n"), (405,)),
    "a trailer Host": (chunks(b"3\r\nabc\r\n0\r\nHost: evil.test\r\n\r\n"), (405,)),
    "a trailer Authorization": (chunks(b"3\r\nabc\r\n0\r\nAuthorization: Basic YTph\r\n\r\n"), (405,)),
    "a trailer X-Forwarded-For": (chunks(b"3\r\nabc\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"), (405,)),
    "what follows the last request": (get(fields=b"Host: test\r\nConnection: close\r\n") + SMUGGLED, (200,)),
    "a trailer Content-Length": (chunks(b"0\r\nContent-Length: 40\r\n\r\n"), REFUSED),
    "a trailer Transfer-Encoding": (chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), (*REFUSED, 405)),
}

FIELDS = {
    "obs-fold": (get(fields=b"Host: test\r\nX: a\r\n b\r\n"), REFUSED),
    "obs-fold of Host": (get(fields=b"Host:\r\n test\r\n"), REFUSED),
    "obs-fold of Transfer-Encoding": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n" + SMUGGLED), REFUSED),
    "a space before the colon": (get(fields=b"Host : test\r\n"), REFUSED),
    "a space before the colon of a length": (post(b"Content-Length : 40\r\n", SMUGGLED), REFUSED),
    "a space before the first field": (get(fields=b" Host: test\r\n"), REFUSED),
    "no name": (get(fields=b"Host: test\r\n: a\r\n"), REFUSED),
    "no colon": (get(fields=b"Host: test\r\nX\r\n"), REFUSED),
    "bare LF everywhere": (get().replace(b"\r\n", b"\n"), REFUSED),
    "a bare LF between fields": (get(fields=b"Host: test\nX: a\r\n"), REFUSED),
    "a bare LF in a value": (get(fields=b"X: a\nHost: test\r\n"), REFUSED),
    "a bare LF at the end": (b"GET /file.txt HTTP/1.1\r\nHost: test\r\n\n", REFUSED),
    "a bare CR": (get(fields=b"Host: test\r\nX: a\rb\r\n"), REFUSED),
    "NUL in a value": (get(fields=b"Host: test\r\nX: \0\r\n"), REFUSED),
    "NUL in a name": (get(fields=b"Host: test\r\nX\0: a\r\n"), REFUSED),
    "a control in a value": (get(fields=b"Host: test\r\nX: \1\r\n"), REFUSED),
    "an 8-bit byte in a value": (get(fields=b"Host: test\r\nX: \xff\r\n"), (200, 400)),
    "an underscore in a name": (get(fields=b"Host: test\r\nX_Y: a\r\n"), (200,)),
    "no Host": (get(fields=b"X: a\r\n"), REFUSED),
    "two Hosts": (get(fields=b"Host: test\r\nHost: test\r\n"), REFUSED),
    "a Host with a path": (get(fields=b"Host: test/a\r\n"), REFUSED),
    "a Host with a user": (get(fields=b"Host: a@test\r\n"), REFUSED),
    "a header of 1 MB": (get(fields=b"Host: test\r\nX: " + b"a" * (1 << 20) + b"\r\n"), (431,)),
    "100,000 fields": (get(fields=b"Host: test\r\n" + b"X: a\r\n" * 100_000), (431,)),
    "a target of 1 MB": (get(b"/" + b"a" * (1 << 20)), (414,)),
    "100,000 trailers": (chunks(b"0\r\n" + b"X: a\r\n" * 100_000 + b"\r\n"), (405, 431)),
}

LINES = {
    "NUL in the target": (get(b"/file.txt\0"), REFUSED),
    "a control in the target": (get(b"/file.txt\1"), REFUSED),
    "8-bit bytes in the target": (get(b"/\xc3\xa9"), REFUSED),
    "a space in the target": (get(b"/file.txt HTTP/1.1 x"), REFUSED),
    "two spaces": (b"GET  /file.txt HTTP/1.1\r\nHost: test\r\n\r\n", (200, 400)),
    "HTTP/0.9": (b"GET /file.txt\r\n\r\n", UNSUPPORTED),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), (*UNSUPPORTED, 200)),
    "HTTP/1.9": (get(version=b"HTTP/1.9"), (*UNSUPPORTED, 200)),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), UNSUPPORTED),
    "HTTP/2.0 without Host": (get(fields=b"", version=b"HTTP/2.0"), UNSUPPORTED),
    "HTTP/11.1": (get(version=b"HTTP/11.1"), UNSUPPORTED),
    "http/1.1": (get(version=b"http/1.1"), UNSUPPORTED),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNSUPPORTED),
    "an unknown method": (get().replace(b"GET", b"BREW"), (400, 405, 501)),
    "a lower-case method": (get().replace(b"GET", b"get"), (400, 405, 501)),
    "a method of RTSP": (get().replace(b"GET", b"DESCRIBE"), (400, 405, 501)),
    "TRACE": (get().replace(b"GET", b"TRACE"), (405, 501)),
    "CONNECT": (b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n", (400, 405, 501)),
    "an authority": (get(b"test:443"), REFUSED),
    "a word": (get(b"file.txt"), REFUSED),
    "a star": (get(b"*"), REFUSED),
    "OPTIONS of a star": (get(b"*").replace(b"GET", b"OPTIONS"), (200, 204)),
    "an absolute target": (get(b"http://test/file.txt"), (200,)),
    "an absolute target of another host": (get(b"http://evil.test/file.txt"), REFUSED),
    "an absolute target of another port": (get(b"http://test:81/file.txt"), REFUSED),
    "an absolute target with a user": (get(b"http://evil.test@test/file.txt"), REFUSED),
    "an absolute target in other words": (get(b"HTTP://TEST:80/file.txt"), (200,)),
    "an absolute target without Host in HTTP/1.0": (
        get(b"http://evil.test/file.txt", b"Connection: keep-alive\r\n", b"HTTP/1.0"),
        (200,),
    ),
    "an absolute target of another scheme": (get(b"ftp://test/file.txt"), REFUSED),
    "two slashes": (get(b"//evil.test/file.txt"), (301, 308, 400, 404)),
    "three slashes": (get(b"///file.txt"), (301, 308, 400, 404)),
    "two slashes inside": (get(b"/d//index.html"), (301, 308, 400, 404)),
    "a fragment": (get(b"/file.txt#fragment"), (200, 308, 400, 404)),
    "dots": (get(b"/../../etc/passwd"), (301, 308, 400, 404)),
    "encoded dots": (get(b"/%2e%2e/%2e%2e/etc/passwd"), (301, 308, 400, 404)),
    "dots encoded twice": (get(b"/%252e%252e/file.txt"), (400, 404)),
    "an encoded slash": (get(b"/d%2findex.html"), (400, 404)),
    "a backslash": (get(b"/..\\..\\etc\\passwd"), (301, 308, 400, 404)),
    "an encoded backslash": (get(b"/%5c..%5cfile.txt"), (400, 404)),
    "an encoded NUL": (get(b"/file.txt%00"), (400, 404)),
    "an encoded CRLF": (get(b"/d%0d%0aSet-Cookie:%20a=1"), (400, 404)),
    "an encoded CRLF that could be redirected": (get(b"//d%0d%0aSet-Cookie:%20a=1"), (301, 308, 400, 404)),
    "an overlong dot": (get(b"/%c0%ae%c0%ae/file.txt"), (400, 404)),
    "an overlong slash": (get(b"/d%e0%80%afindex.html"), (400, 404)),
    "half a character": (get(b"/%ff"), (400, 404)),
    "a surrogate": (get(b"/%ed%a0%80"), (400, 404)),
    "no hexadecimal": (get(b"/%zz"), (301, 308, 400, 404)),
    "a hidden file": (get(b"/.env"), (404,)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60, REFUSED),
    "the PROXY protocol": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(), REFUSED),
    "the PROXY protocol, in binary": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\1" * 12 + get(), REFUSED),
    "an identifier that the client made up": (get(fields=b'Host: test\r\nX-Request-ID: ${jndi}"\r\n'), (200,)),
    "a host that the client made up": (get(fields=b"Host: test\r\nX-Forwarded-Host: evil.test\r\n"), (200,)),
    "a trace that is none": (get(fields=b"Host: test\r\ntraceparent: 00-x\r\n"), (200,)),
    "an address that the client made up": (get(fields=b"Host: test\r\nX-Forwarded-For: ${jndi}<script>\r\n"), (200,)),
    "an expectation": (get(fields=b"Host: test\r\nExpect: 100-continue\r\n"), (200,)),
    "an expectation nobody knows": (get(fields=b"Host: test\r\nExpect: 200-maybe\r\n"), (417,)),
    "two expectations": (get(fields=b"Host: test\r\nExpect: 100-continue\r\nExpect: x\r\n"), (417,)),
}

PROBES = {**FRAMING, **FIELDS, **LINES}


@pytest.fixture(scope="module")
def port(compressing):
    return urlsplit(compressing).port


@pytest.fixture
def exchange(port):
    """``exchange(*pieces)`` sends them and returns all that comes until the server closes; not later than in 8 s."""

    def run(*pieces: bytes) -> bytes:
        received = bytearray()
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    received += piece
        return bytes(received)

    return run


def statuses(received: bytes) -> list[int]:
    """Return the statuses of all answers in a stream, read by their lengths: nothing may stand between or behind them."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received[:300]
        line = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert line, received[:300]
        found.append(int(line[1]))
        size = re.search(rb"(?im)^content-length: *(\d+)", head)
        assert size or found[-1] in (100, 204, 304), head
        if found[-1] == 100:
            found.pop()
        received = rest[int(size[1]) if size and found[-1] != 304 else 0 :]
    return found


def judge(name: str, received: bytes) -> None:
    """Fail if a probe got another answer than it may, or a part of it one of its own."""
    raw, allowed = PROBES[name]
    if not received and len(raw) > 100_000:  # closed while it was still being sent: the answer is lost with the rest
        return
    first, *rest = statuses(received)
    assert first in allowed, received[:300]
    assert rest in ([], [200]), f"{name}: more answers than requests: {[first, *rest]}"
    assert b"set-cookie" not in received.lower().partition(b"\r\n\r\n")[0].replace(b"%0d%0aset-cookie", b"")
    assert b"root:" not in received
    assert b"SECRET" not in received


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_refused_or_answered_once(exchange, name):
    judge(name, exchange(PROBES[name][0] + LAST))


@pytest.mark.parametrize("name", [name for name in PROBES if len(PROBES[name][0]) < 1000])
def test_in_pieces_it_is_no_other(exchange, name):
    """As one segment with the last request, and as many with it: a refusal may come in the middle."""
    raw = PROBES[name][0] + LAST
    for cut in (1, 4, raw.find(b"\r\n") + 1, raw.find(b"\r\n") + 2, len(raw) - len(LAST)):
        judge(name, exchange(raw[:cut], raw[cut:]))


@pytest.mark.parametrize("name", [name for name in PROBES if len(PROBES[name][0]) < 1000])
def test_behind_hot_requests_it_is_no_other(exchange, name):
    """The same connection has been served from the hot path before."""
    hot = b"GET /file.txt HTTP/1.1\r\nHost: test\r\n\r\n"
    received = exchange(hot, PROBES[name][0] + LAST)
    found = statuses(received)
    assert all(status < 500 or status in (501, 505) for status in found)
    assert len(found) <= 3
    assert found.count(404) <= (404 in PROBES[name][1])


def test_a_location_leads_to_no_other_host(exchange):
    for target in (b"//evil.test/file.txt", b"///evil.test", b"/\\evil.test/", b"//evil.test/..", b"/%2f/evil.test/", b"/d//"):
        received = exchange(get(target) + LAST)
        place = re.search(rb"(?im)^location: *([^\r\n]*)", received)
        assert place is None or re.match(rb"/(?![/\\])", place[1]), received[:300]


@pytest.mark.parametrize("line", [b"Upgrade: h2c", b"UPGRADE: h2c", b"Upgrade: websocket\r\nUpgrade: h2c", b"Upgrade: TLS/1.3"])
@pytest.mark.parametrize("cut", [None, 30, -2])
def test_a_body_behind_an_upgrade_is_no_request(exchange, line, cut):
    head = post(b"Connection: Upgrade\r\n%b\r\nContent-Length: %d\r\n" % (line, len(SMUGGLED)))
    pieces = [head] if cut is None else [head[:cut], head[cut:]]
    found = statuses(exchange(*pieces, SMUGGLED + LAST))
    assert 404 not in found
    assert found[0] in (400, 405, 501)


def test_what_breaks_off_an_answer_leaves_no_trace_in_the_log(exchange):
    """A traceback for every such request would fill the disk; the fixture fails on one."""
    for _ in range(3):
        exchange(get(b"/big.bin") + b"\0")
        exchange(get(b"/big.bin") + get() + b"\0")

"""Bytes on a socket: the acceptance table end to end, and what no well-behaved client sends.

Whatever comes, the server answers within five seconds, never with a 5xx, and goes on serving.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import h11
import pytest

LIMIT_S = 60.0
OLD = "Mon, 01 Jan 2001 00:00:00 GMT"
FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"
GET = "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n"


class Reply:
    """A parsed response."""

    def __init__(self, head: h11.Response, content: bytes) -> None:
        self.status = head.status_code
        self.fields = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        self.content = content

    def __getitem__(self, name: str) -> str | None:
        return self.fields.get(name)

    def __repr__(self) -> str:
        return f"{self.status} {self.fields} {self.content[:200]!r}"


@pytest.fixture(scope="module")
def port(compressing):
    return urlsplit(compressing).port


@pytest.fixture
def ask(port):
    """``ask(target, method="GET", **fields)`` sends a request and returns the reply."""

    def run(target="/file.txt", method="GET", **fields):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        [reply] = parse(exchange(port, GET.format(target=target, fields=lines).replace("GET", method, 1).encode()), [method])
        return reply

    return run


@pytest.fixture(autouse=True)
def server_is_alive_afterwards(port):
    yield
    [reply] = parse(exchange(port, GET.format(target="/file.txt", fields="").encode()), ["GET"])
    assert (reply.status, reply.content) == (200, b"hello world")


def exchange(port: int, request: bytes, *, no_more: bool = False) -> bytes:
    """Send bytes and return all that comes back until the server closes; ``no_more``: tell it that nothing will follow."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        received = bytearray()
        try:
            connection.sendall(request)
            if no_more:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                received += piece
        except TimeoutError:
            raise
        except OSError:
            pass  # closed before all was sent: an answer may have come first
        return bytes(received)


def parse(received: bytes, methods: list[str]) -> list[Reply]:
    """Return the responses to ``methods``, read as strictly as h11 reads; nothing may follow them."""
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(received)
    connection.receive_data(b"")
    replies = []
    for index, method in enumerate(methods):
        if index:
            connection.start_next_cycle()
        connection.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
        connection.send(h11.EndOfMessage())
        head = connection.next_event()
        assert isinstance(head, h11.Response), (head, received[:500])
        content = bytearray()
        while isinstance(event := connection.next_event(), h11.Data):
            content += event.data
        assert isinstance(event, h11.EndOfMessage), (event, received[:500])
        replies.append(Reply(head, bytes(content)))
    assert connection.trailing_data[0] == b""
    return replies


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-", 0, 10),
        ("bytes=0-0", 0, 0),
        ("bytes=-5", 6, 10),
        ("bytes=-100", 0, 10),
        ("bytes=0-18446744073709551616", 0, 10),
        ("bytes=0-0,100-", 0, 0),
        ("bytes=0-1, ,", 0, 1),
        ("BYTES=0-1", 0, 1),
        ("bytes=10-10", 10, 10),
    ],
)
def test_satisfiable_range_is_one_part(ask, value, first, last):
    reply = ask(Range=value)
    assert reply.status == 206
    assert reply["content-range"] == f"bytes {first}-{last}/11"
    assert reply.content == b"hello world"[first : last + 1]
    assert reply["etag"]
    assert reply["cache-control"]


@pytest.mark.parametrize("value", ["bytes=-0", "bytes=11-", "bytes=100-,200-", "bytes=18446744073709551616-"])
def test_unsatisfiable_range_is_416(ask, value):
    reply = ask(Range=value)
    assert (reply.status, reply["content-range"]) == (416, "bytes */11")


@pytest.mark.parametrize(
    "value",
    [
        "bytes=5-2",
        "bytes=abc",
        "bytes=",
        "bytes",
        "",
        "=",
        "bytes=-",
        "bytes=+1-3",
        "bytes=1_0-",
        "bytes=0-0,x",
        "items=0-1",
        "bytes=0-,1-,2-",
        "bytes 0-1",
        "bytes=0-1;q=1",
        "bytes=0x0-0x1",
        "bytes=1.5-2",
        "bytes=--1",
        "bytes=0-1-2",
        "bytes=" + "9" * 5000 + "-" + "x",
        "bytes=\xb2-\xb3",
        "bytes=" + ",".join(["0-0"] * 1000),
        "bytes=" + ",".join(f"{number}-" for number in range(1000)),
        "bytes=" + "," * 5000,
    ],
)
def test_invalid_or_wasteful_range_is_ignored(ask, value):
    reply = ask(Range=value)
    if value.endswith(",0-0"):  # a thousand times the same byte may be joined to one
        assert reply.status in (200, 206)
    else:
        assert (reply.status, reply.content) == (200, b"hello world")


def test_several_ranges_come_in_the_order_asked_for(ask):
    reply = ask("/big.bin", Range="bytes=1000-1003,0-3")
    assert reply.status == 206
    assert reply["content-type"].startswith("multipart/byteranges; boundary=")
    assert "content-range" not in reply.fields
    first, second = reply.content.index(b"bytes 1000-1003/"), reply.content.index(b"bytes 0-3/")
    assert first < second


def test_thousand_ranges_of_a_large_file_are_answered(ask):
    reply = ask("/big.bin", Range="bytes=" + ",".join(f"{2 * number}-{2 * number}" for number in range(1000)))
    assert reply.status in (200, 206)


def test_head_ignores_range(ask):
    reply = ask(method="HEAD", Range="bytes=0-1")
    assert (reply.status, reply["content-length"], reply["accept-ranges"], reply.content) == (200, "11", "bytes", b"")


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=5-"])
def test_empty_file_is_sent_whatever_the_range(ask, value):
    reply = ask("/empty.txt", Range=value)
    assert (reply.status, reply["content-length"]) == (200, "0")


def test_if_range_takes_only_the_exact_strong_validator(ask):
    whole = ask()
    tag, date = whole["etag"], whole["last-modified"]
    wanted = {tag: 206, f"W/{tag}": 200, '"other"': 200, date: 206, OLD: 200, FUTURE: 200, "garbage": 200, "": 200}
    assert {value: ask(Range="bytes=0-4", If_Range=value).status for value in wanted} == wanted


def test_if_none_match_that_holds_the_tag_is_304(ask):
    tag = ask()["etag"]
    for value in (tag, f"W/{tag}", f'"a,b", {tag}', f'"other" ,\t{tag},', "*"):
        for extra in ({}, {"If_Modified_Since": OLD}, {"Range": "bytes=0-1"}):
            reply = ask(If_None_Match=value, **extra)
            assert (reply.status, reply["etag"], reply.content) == (304, tag, b""), value
            assert reply["cache-control"]
            assert reply["date"]


def test_304_carries_vary_where_the_200_does(ask):
    whole = ask("/style.css", Accept_Encoding="br")
    reply = ask("/style.css", Accept_Encoding="br", If_None_Match=whole["etag"])
    assert (reply.status, reply["vary"].lower(), reply["etag"]) == (304, "accept-encoding", whole["etag"])
    assert not {"content-type", "content-encoding", "content-length", "content-range"} & reply.fields.keys()


def test_if_none_match_that_misses_is_200_whatever_the_date(ask):
    for value in ('"other"', "garbage", '"unclosed', '"*"', "w/"):
        assert ask(If_None_Match=value, If_Modified_Since=FUTURE).status == 200


def test_dates_are_compared_without_tags(ask):
    assert ask(If_Modified_Since=ask()["last-modified"]).status == 304
    assert ask(If_Modified_Since=OLD).status == 200
    assert ask(If_Modified_Since="yesterday").status == 200


def test_failed_precondition_is_412(ask):
    tag = ask()["etag"]
    for fields in ({"If_Match": '"other"'}, {"If_Match": f"W/{tag}"}, {"If_Unmodified_Since": OLD}):
        assert ask(**fields).status == 412
    assert ask(If_Match=tag).status == 200
    assert ask(If_Match="*").status == 200
    assert ask("/missing.css", If_Match="*").status == 404


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzipx", None),
        ("x-br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0.1, gzip", "gzip"),
        ("br;q=0.1, gzip;q=0.2, zstd;q=0.9", "zstd"),
        ("identity;q=0, br", "br"),
    ],
)
def test_coding_is_the_one_that_was_asked_for(ask, decode, site, accept, coding):
    reply = ask("/style.css", **({} if accept is None else {"Accept_Encoding": accept}))
    assert reply["vary"].lower() == "accept-encoding"
    if accept == "x-gzip":  # an alias of gzip (RFC 9110 §8.4.1.3) that may be ignored
        assert reply["content-encoding"] in ("gzip", None)
    else:
        assert reply["content-encoding"] == coding
    assert decode(reply.content, reply["content-encoding"]) == (site / "style.css").read_bytes()


def test_coded_form_is_waited_for_although_the_file_was_just_sent_plain(ask, decode, site):
    """The first coded answer may be kept by a CDN for long: it must not be the plain one because that was at hand."""
    for coding in (None, "br", "gzip", "zstd"):
        reply = ask("/large.css", **({"Accept_Encoding": coding} if coding else {}))
        assert reply["content-encoding"] == coding
        assert decode(reply.content, coding) == (site / "large.css").read_bytes()


def test_any_coding_gets_the_best(ask, decode, site):
    reply = ask("/style.css", Accept_Encoding="*")
    assert reply["content-encoding"] in ("br", "zstd", "gzip")
    assert decode(reply.content, reply["content-encoding"]) == (site / "style.css").read_bytes()


def test_if_range_with_the_tag_of_a_coding_cuts_that_coding(ask):
    identity, coded = ask("/style.css"), ask("/style.css", Accept_Encoding="gzip")
    assert identity["etag"] != coded["etag"]
    part = ask("/style.css", Accept_Encoding="gzip", Range="bytes=10-99", If_Range=coded["etag"])
    assert (part.status, part["content-encoding"], part["etag"]) == (206, "gzip", coded["etag"])
    assert part.content == coded.content[10:100]
    other = ask("/style.css", Range="bytes=10-99", If_Range=coded["etag"])
    assert (other.status, other["content-encoding"], other.content) == (200, None, identity.content)


@pytest.mark.parametrize(
    "target",
    [
        "/file.txt/",
        "//file.txt",
        "///file.txt",
        "/d/../file.txt",
        "/d/%2e%2e/file.txt",
        "/d/..%2ffile.txt",
        "/./file.txt",
        "/%2e/file.txt",
        "/../file.txt",
        "/..%5cfile.txt",
        "/\\file.txt",
        "/f%69le.txt",
        "/file.txt%00",
        "/%00",
        "/file.txt%00.css",
        "/file.txt%20",
        "/file.txt.",
        "/FILE.TXT",
        "/.env",
        "/%2eenv",
        "/d/../.env",
        "/.git/config",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%c0%af..%c0%afetc/passwd",
        "/%ff%fe",
        "/%",
        "/%zz",
        "/file%",
        "/" + "a" * 5000,
        "/" + "a/" * 2500,
        "/" + "%41" * 1700,
        "/%F0%9F%92%A9",
        "/file.txt;a=b",
        "/file.txt#fragment",
        "/style.css.br",
    ],
)
def test_other_spelling_is_404_or_leads_to_the_canonical_one(ask, target):
    reply = ask(target)
    if target.endswith("#fragment"):  # not a target at all; parsers drop it or refuse it
        assert reply.status in (200, 308, 400, 404)
        return
    assert reply.status in (308, 400, 404)
    assert b"SECRET" not in reply.content
    if reply.status == 308:
        location = reply["location"]
        assert location.startswith("/")
        assert not location.startswith("//")
        assert ask(location).status in (200, 404)


def test_folder_redirects_by_path_with_its_query(ask):
    reply = ask("/d?x=1")
    assert (reply.status, reply["location"]) == (308, "/d/?x=1")
    assert ask("/d/?x=1").status == 200


def test_redirect_never_leaves_the_host(ask):
    for target in ("//example.com/", "//example.com/..", "/%2f/example.com", "/\\example.com/", "//d"):
        location = ask(target)["location"]
        assert location is None or (location.startswith("/") and not location.startswith(("//", "/\\")))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_405_with_allow(ask, method):
    reply = ask(method=method, Content_Length="0")
    assert reply.status == 405
    assert {part.strip() for part in reply["allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


def test_options_is_204_with_allow(ask):
    reply = ask(method="OPTIONS")
    assert reply.status == 204
    assert {part.strip() for part in reply["allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
    ],
)
def test_request_without_exactly_one_valid_host_is_400(port, fields):
    received = exchange(port, f"GET /file.txt HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode())
    [reply] = parse(received, ["GET"])
    assert reply.status == 400


@pytest.mark.parametrize("host", ["test", "TEST:80", "127.0.0.1:8000", "[::1]:8000", "example.com.", "a_b.example"])
def test_any_valid_host_is_served(port, host):
    [reply] = parse(exchange(port, f"GET /file.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()), ["GET"])
    assert reply.status == 200


@pytest.mark.parametrize("fields", ["", "Host: test\r\n"])
def test_http_1_0_needs_no_host(port, fields):
    received = exchange(port, f"GET /file.txt HTTP/1.0\r\n{fields}\r\n".encode())
    [reply] = parse(received, ["GET"])
    assert (reply.status, reply.content) == (200, b"hello world")


def test_absolute_target_is_served(port):
    """A server must accept the absolute form (RFC 9112 §3.2.2)."""
    received = exchange(port, b"GET http://test/file.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    [reply] = parse(received, ["GET"])
    assert (reply.status, reply.content) == (200, b"hello world")


def test_options_of_the_server_is_answered(port):
    [reply] = parse(exchange(port, b"OPTIONS * HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"), ["OPTIONS"])
    assert reply.status in (200, 204, 404)


HOSTILE_CODINGS = [
    "gzip;q=0.5, " * 900,
    ", ".join(f"x{number}" for number in range(1000)),
    ", ".join(f"x{number};q=0.{number:03}" for number in range(999)),
    "a" * 10_000,
    "," * 10_000,
    "gzip;q=" + "9" * 10_000,
    "gzip" + ";" * 5000,
    "gzip;q=1;q=0;q=nan",
    "br;q=-1, gzip;q=1e9, zstd;q=inf",
    '"gzip", "br"',
    "\xff\xfe, gzip",
    "\t gzip \t;\t q=1",
]


@pytest.mark.parametrize("accept", HOSTILE_CODINGS, ids=range(len(HOSTILE_CODINGS)))
def test_hostile_accept_encoding_gets_the_file(port, decode, site, accept):
    request = GET.format(target="/style.css", fields=f"Accept-Encoding: {accept}\r\n").encode("latin-1")
    [reply] = parse(exchange(port, request), ["GET"])
    assert reply.status == 200
    assert decode(reply.content, reply["content-encoding"]) == (site / "style.css").read_bytes()


GARBAGE = {
    "nothing but a line end": b"\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /file.txt\r\n\r\n",
    "unknown version": b"GET /file.txt HTTP/9.9\r\nHost: test\r\n\r\n",
    "space before colon": b"GET /file.txt HTTP/1.1\r\nHost : test\r\n\r\n",
    "folded field": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
    "NUL in a field": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nX: a\0b\r\nConnection: close\r\n\r\n",
    "NUL in the target": b"GET /file\0.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "bytes above ASCII in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "two lengths": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n"
    b"Connection: close\r\n\r\nab",
    "length and chunks": b"POST /file.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /file.txt HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
    "bad chunk size": b"POST /file.txt HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\nxyz\r\n\r\n",
    "content on GET": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
    "content on POST": b"POST /file.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"
    + b"x" * 1_000_000,
    "a very long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "a very long field": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 200_000 + b"\r\nConnection: close\r\n\r\n",
    "very many fields": b"GET /file.txt HTTP/1.1\r\nHost: test\r\n" + b"X: a\r\n" * 5000 + b"Connection: close\r\n\r\n",
    "a websocket": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "an expectation": b"GET /file.txt HTTP/1.1\r\nHost: test\r\nExpect: 200-maybe\r\nConnection: close\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    "TRACE": b"TRACE /file.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "an unknown method": b"BREW /file.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "a lower-case method": b"get /file.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_or_answered(port, name):
    received = exchange(port, GARBAGE[name], no_more=True)
    if received:
        head = received.split(b"\r\n", 1)[0].split(b" ")
        assert head[0] in (b"HTTP/1.1", b"HTTP/1.0")
        assert int(head[1]) < 500, received[:300]


def test_pipelined_requests_are_answered_in_order(port):
    plain = "GET {} HTTP/1.1\r\nHost: test\r\n{}\r\n"
    requests = [
        plain.format("/file.txt", ""),
        plain.format("/style.css", "Accept-Encoding: br\r\n"),
        plain.format("/missing.css", ""),
        plain.format("/file.txt", "").replace("GET", "HEAD", 1),
        plain.format("/big.bin", "Range: bytes=0-3\r\n"),
        plain.format("/file.txt", "If-None-Match: *\r\n"),
        GET.format(target="/empty.txt", fields=""),
    ]
    replies = parse(exchange(port, "".join(requests).encode()), ["GET", "GET", "GET", "HEAD", "GET", "GET", "GET"])
    assert [reply.status for reply in replies] == [200, 200, 404, 200, 206, 304, 200]
    assert replies[0].content == b"hello world"
    assert replies[1]["content-encoding"] == "br"
    assert replies[4].content == b"\0\0\0\0"


def test_hundred_pipelined_requests_are_answered(port):
    many = b"GET /file.txt HTTP/1.1\r\nHost: test\r\n\r\n" * 99
    replies = parse(exchange(port, many + GET.format(target="/file.txt", fields="").encode()), ["GET"] * 100)
    assert {(reply.status, reply.content) for reply in replies} == {(200, b"hello world")}


def test_client_that_leaves_early_costs_nothing(port):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
            connection.sendall(GET.format(target="/big.bin", fields="").encode())
            assert connection.recv(1)

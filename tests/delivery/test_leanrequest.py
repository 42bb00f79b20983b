"""The quick reading takes exactly plain requests, says what stands in them, and keeps nothing of the one before."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetserver.delivery import leanrequest
from assetserver.delivery.hotcache import Variant
from assetserver.delivery.leanrequest import LeanRequest
from assetserver.delivery.requests import DECIDING

PLAIN = Variant(None, None)


def get(*lines: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", *lines, b"", b""])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (get(b"Host: a"), (b"a", b"/", PLAIN)),
        (get(b"host:a"), (b"a", b"/", PLAIN)),
        (get(b"HOST: a.example:80"), (b"a.example:80", b"/", PLAIN)),
        (get(b"Host:"), (b"", b"/", PLAIN)),
        (get(b"Host: a", target=b"/a?b=c&d"), (b"a", b"/a?b=c&d", PLAIN)),
        (get(b"Host: a", target=b"/%00"), (b"a", b"/%00", PLAIN)),
        (get(b"Host: a", b"Accept-Encoding: br, gzip;q=0.5"), (b"a", b"/", Variant(b"br, gzip;q=0.5", None))),
        (get(b"accept-encoding:", b"host: a"), (b"a", b"/", Variant(b"", None))),
        (get(b"Host: a", b'If-None-Match: "x", W/"y"'), (b"a", b"/", Variant(None, b'"x", W/"y"'))),
        (get(b"Host: a", b"If-None-Match: *", b"If-Modified-Since: x"), (b"a", b"/", Variant(None, b"*"))),
        (get(b"Host: a", b"Connection: keep-alive"), (b"a", b"/", PLAIN)),
        (get(b"Host: a", b"Connection: Keep-Alive"), (b"a", b"/", PLAIN)),
        (get(b"Host: a", *(b"X-%d: %d" % (number, number) for number in range(100))), (b"a", b"/", PLAIN)),
        (get(b"Host: a", b"Cookie: a=1", b"User-Agent: x", b"X-Forwarded-For: 1.2.3.4"), (b"a", b"/", PLAIN)),
    ],
)
def test_a_plain_request_is_read(data, expected):
    lean = LeanRequest()
    assert [lean.read(data) for _ in range(3)] == [expected] * 3


LEFT = {
    "nothing": b"",
    "a line break": b"\r\n",
    "an end": b"\r\n\r\n",
    "no field": b"GET / HTTP/1.1\r\n\r\n",
    "no line break": b"GET / HTTP/1.1",
    "no Host": get(b"X: 1"),
    "two Hosts": get(b"Host: a", b"Host: a"),
    "two Hosts in two cases": get(b"Host: a", b"host: a"),
    "Host three times": get(b"Host: a", b"host: a", b"HOST: a"),
    "another repeated field": get(b"Host: a", b"X: 1", b"X: 2"),
    "a repeated Cookie in two cases": get(b"Host: a", b"Cookie: 1", b"cookie: 2"),
    "a repeated Accept-Encoding": get(b"Host: a", b"Accept-Encoding: br", b"accept-encoding: gzip"),
    "If-Modified-Since alone": get(b"Host: a", b"If-Modified-Since: x"),
    "obs-fold": get(b"Host: a", b"X: 1", b" 2"),
    "obs-fold of Host": get(b"Host: a", b" b"),
    "obs-fold with a tab": get(b"Host: a", b"X: 1", b"\t2"),
    "bare LF between fields": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR": get(b"Host: a\rX: b"),
    "LF in the target": get(b"Host: a", target=b"/a\nb"),
    "NUL in a value": get(b"Host: a", b"X: \0"),
    "NUL in a name": get(b"Host: a", b"X\0: 1"),
    "NUL in the target": get(b"Host: a", target=b"/\0"),
    "a space before the colon": get(b"Host : a"),
    "no colon": get(b"Host: a", b"X"),
    "no name": get(b"Host: a", b": x"),
    "a space in the target": get(b"Host: a", target=b"/a b"),
    "two spaces before the target": get(b"Host: a", target=b" /a"),
    "two spaces behind the target": get(b"Host: a", target=b"/a "),
    "an absolute target": get(b"Host: a", target=b"http://b/c"),
    "a fragment": get(b"Host: a", target=b"/a#b"),
    "a star": get(b"Host: a", target=b"*"),
    "a space in front": b" " + get(b"Host: a"),
    "a line break in front": b"\r\n" + get(b"Host: a"),
    "HTTP/1.0": get(b"Host: a").replace(b"1.1", b"1.0"),
    "HTTP/2.0": get(b"Host: a").replace(b"1.1", b"2.0"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "http/1.1": get(b"Host: a").replace(b"HTTP", b"http"),
    "HEAD": get(b"Host: a").replace(b"GET", b"HEAD"),
    "POST": get(b"Host: a").replace(b"GET", b"POST"),
    "a lower-case method": get(b"Host: a").replace(b"GET", b"get"),
    "a body": get(b"Host: a", b"Content-Length: 1") + b"a",
    "a body without a length": get(b"Host: a") + b"body",
    "a line break behind": get(b"Host: a") + b"\r\n",
    "two requests": get(b"Host: a") * 2,
    "Connection: close": get(b"Host: a", b"Connection: close"),
    "Connection: Close, keep-alive": get(b"Host: a", b"Connection: Close, keep-alive"),
    "Connection: upgrade": get(b"Host: a", b"Connection: upgrade"),
    "Connection twice": get(b"Host: a", b"Connection: keep-alive", b"Connection: close"),
    "no space after GET": b"GET/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab after GET": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", LEFT)
def test_anything_else_is_left(name):
    lean = LeanRequest()
    for _ in range(3):
        assert lean.read(LEFT[name]) is None
        assert lean.read(get(b"Host: b", b"X: 2")) in ((b"b", b"/", PLAIN), None)
    lean.read(get(b"Host: b", b"X: 2"))
    assert lean.read(get(b"Host: b", b"X: 2")) == (b"b", b"/", PLAIN)


@pytest.mark.parametrize("name", sorted(leanrequest._LEFT))
@pytest.mark.parametrize("spell", [bytes, bytes.upper, bytes.title])
def test_every_field_that_decides_elsewhere_is_left(name, spell):
    for lines in ([b"Host: a", spell(name) + b": 0"], [spell(name) + b":", b"Host: a", b"X: 1"]):
        lean = LeanRequest()
        assert [lean.read(get(*lines)) for _ in range(3)] == [None] * 3


def test_every_field_that_the_slow_path_decides_with_is_known():
    assert {b"accept-encoding", b"if-none-match", b"if-modified-since"} == DECIDING - leanrequest._LEFT


@pytest.mark.parametrize("name", sorted(leanrequest._FORWARDED))
def test_behind_a_proxy_the_fields_that_name_the_client_are_left(name):
    data = get(b"Host: a", name.title() + b": 1")
    assert LeanRequest().read(data) == (b"a", b"/", PLAIN)
    assert LeanRequest(is_behind_proxy=True).read(data) is None


def test_a_request_cut_anywhere_is_left():
    data = get(b"Host: a", b"X: 1")
    for cut in range(len(data)):
        assert LeanRequest().read(data[:cut]) is None
        assert LeanRequest().read(data[cut:]) == (None if cut else (b"a", b"/", PLAIN))


def test_nothing_of_the_visitor_before_is_read():
    """Many visitors on one connection, each with other fields, some of them repeated."""
    lean = LeanRequest()
    first = get(b"Host: a", b'If-None-Match: "x"', b"Cookie: 1")
    assert lean.read(first) == (b"a", b"/", Variant(None, b'"x"'))
    assert lean.read(get(b"Host: a", b"Cookie: 2")) == (b"a", b"/", PLAIN)
    assert lean.read(first) == (b"a", b"/", Variant(None, b'"x"'))
    assert lean.read(get(b"Host: a", b"Cookie: 2", b"Cookie: 3")) is None  # as many lines, one name fewer
    assert lean.read(get(b"Host: a", b"Host: b", b"Cookie: 3")) is None
    assert lean.read(get(b"Cookie: 1", b"Cookie: 2", b'If-None-Match: "x"')) is None
    assert lean.read(first) == (b"a", b"/", Variant(None, b'"x"'))
    assert lean.read(get(b"Host: a", b"X: 1", b"Cookie: 3")) == (b"a", b"/", PLAIN)


def test_the_log_is_told_of_this_request_alone():
    lean = LeanRequest()
    lean.read(get(b"Host: a", b"Referer: r", b"User-Agent: u"))
    assert lean.describe(b"/x?y=1") == {
        "method": "GET",
        "http_version": "1.1",
        "path": "/x",
        "raw_path": b"/x",
        "query_string": b"y=1",
        "headers": [(b"host", b"a"), (b"referer", b"r"), (b"user-agent", b"u")],
    }
    lean.read(get(b"HOST: b", b"Cookie: secret"))
    assert lean.describe(b"/")["headers"] == [(b"host", b"b")]


class Oracle:
    """What a parser with ordinary callbacks sees."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = self.content = b""
        self.begun = self.done = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_message_complete(self) -> None:
        self.done += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, content: bytes) -> None:
        self.content += content

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def one(self, name: bytes) -> bytes | None:
        """Return the value of a field that may stand once."""
        values = [value for found, value in self.fields if found == name]
        assert len(values) <= 1, self.fields
        return values[0] if values else None


def check(lean: LeanRequest, data: bytes) -> tuple[bytes, bytes, Variant] | None:
    """Read a request; if it is read, every word of it must be what an ordinary parser sees."""
    found = lean.read(data)
    if found is not None:
        oracle = Oracle(data)
        assert (oracle.begun, oracle.done, oracle.content) == (1, 1, b"")
        assert (oracle.parser.get_method(), oracle.parser.get_http_version()) == (b"GET", "1.1")
        assert oracle.parser.should_keep_alive()
        assert not oracle.parser.should_upgrade()
        host, target, variant = found
        assert target == oracle.url
        assert oracle.one(b"host") == host
        assert variant == Variant(oracle.one(b"accept-encoding"), oracle.one(b"if-none-match"))
        names = [name for name, _ in oracle.fields]
        assert len(set(names)) == len(names)
        assert leanrequest._LEFT.isdisjoint(names)
        logged = lean.describe(target)["headers"]
        assert sorted(logged) == sorted(field for field in oracle.fields if field[0] in leanrequest._LOGGED)
    return found


NAMES = [b"Host", b"host", b"HOST", b"Accept-Encoding", b"accept-encoding", b"If-None-Match", b"If-Modified-Since", b"Cookie"]
NAMES += [
    b"cookie",
    b"User-Agent",
    b"X",
    b"Connection",
    b"Range",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Upgrade",
    b"Expect",
    b"",
    b"X ",
]
VALUES = [
    b"a",
    b"b",
    b"",
    b"*",
    b"br",
    b"keep-alive",
    b"close",
    b"upgrade",
    b"0",
    b"5",
    b"chunked",
    b"h2c",
    b"\0",
    b"a\nHost: b",
    b"a\r\n b",
    b" a ",
]
fields = st.builds(lambda name, value: name + b": " + value, st.sampled_from(NAMES), st.sampled_from(VALUES))
lists = st.one_of(
    st.lists(fields, max_size=6),
    st.lists(fields, max_size=4).map(lambda lines: [b"Host: a", *lines]),
    st.permutations([b"Host: a", b"Accept-Encoding: br", b"Cookie: 1"]),
)
TARGETS = [b"/", b"/a?b", b"/GET /2", b" /", b"", b"http://b/", b"*", b"/\xc3\xa9", b"/#x"]
requests = st.builds(lambda lines, target: get(*lines, target=target), lists, st.sampled_from(TARGETS))
damaged = st.builds(
    lambda data, at, cut, new: data[: at % len(data)] + new + data[at % len(data) + cut :],
    requests,
    st.integers(0, 200),
    st.integers(0, 3),
    st.sampled_from([b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"GET ", b"\r\n\r\n"]),
)
plain = st.builds(
    lambda lines, target: get(*lines, target=target),
    st.sets(
        st.sampled_from(
            [
                b"Accept-Encoding: br",
                b"accept-language: de",
                b"Cookie: 1",
                b"X: 2",
                b'If-None-Match: "x"',
                b"Connection: keep-alive",
            ]
        )
    ).flatmap(lambda lines: st.permutations([b"Host: a", *sorted(lines)])),
    st.sampled_from([b"/", b"/a?b", b"/%20"]),
)
pieces = st.one_of(requests, requests, damaged)


@settings(max_examples=1500, deadline=None)
@given(pieces)
def test_what_is_read_is_what_any_parser_sees(data):
    check(LeanRequest(), data)


@settings(max_examples=1500, deadline=None)
@given(st.lists(pieces, min_size=2, max_size=8))
@example([get(b"Host: a", b"Content-Length: 5"), get(b"Host: a", b"Content-Length: 5", target=b"/GET /2")])
@example([get(b"Host: a", b"Content-Length: 5"), get(b"Host: a", b"X: 1", target=b"/GET /2")])
@example([get(b"Host: a", b"Connection: close"), get(b"Host: a", b"Connection: keep-alive")])
@example([get(b"Host: a", b"X: 1"), get(b"Host: a", b"Y: 1") + b"\0", get(b"Host: a", b"X: 2")])
@example([get(b"Host: a", b"X: 1"), get(b"Host: a", b"X: 1", b"Y: 1", b"Z\0: 1"), get(b"Host: a", b"X: 1", b"X: 2")])
def test_many_on_one_connection_are_read_as_each_alone(sequence):
    """It may leave one more than a fresh one, for its parser saw what it could not go on from; never read another value."""
    lean = LeanRequest()
    for data in sequence:
        found = check(lean, data)
        assert found is None or found == LeanRequest().read(data)


@settings(max_examples=500, deadline=None)
@given(st.lists(plain, max_size=8))
def test_plain_requests_on_one_connection_are_all_read(sequence):
    lean = LeanRequest()
    found = [lean.read(data) for data in sequence]
    assert None not in found
    assert found == [LeanRequest().read(data) for data in sequence]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_left(data):
    LeanRequest().read(data)
    check(LeanRequest(), b"GET " + data + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    check(LeanRequest(), get(b"Host: a", b"X: " + data))

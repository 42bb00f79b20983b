"""The quick reading takes exactly plain requests, says what stands in them, and keeps nothing of the one before."""

from __future__ import annotations

import itertools
from typing import Any

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetserver.delivery import leanrequest
from assetserver.delivery.leanrequest import OF_HOSTS, WITH_RANGE, Key, LeanReader, Shapes
from assetserver.delivery.requests import DECIDING
from assetserver.observe import ASKED


def get(*lines: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *lines, b"", b""])


def make_shapes(**options: Any) -> Shapes:
    """Return shapes whose clock goes on by a second whenever it is read: that they are made slowly is another test."""
    return Shapes(clock_s=itertools.count(1000.0).__next__, **options)


def taught(*requests: bytes, is_behind_proxy: bool = False) -> LeanReader:
    """Return a reader that has seen these requests twice, on another connection and on its own."""
    shapes = make_shapes(is_behind_proxy=is_behind_proxy)
    reader = LeanReader(shapes)
    for data in requests:
        LeanReader(shapes).read(data)
        reader.read(data)
    return reader


def read(data: bytes) -> Key | None:
    """Return what a reader reads of a request whose names are no news."""
    return taught(data).read(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (get(b"Host: a"), (b"GET /", b"a", None, None)),
        (get(b"Host: a", method=b"HEAD"), (b"HEAD /", b"a", None, None)),
        (get(b"HOST: a.example:80"), (b"GET /", b"a.example:80", None, None)),
        (get(b"Host: "), (b"GET /", b"", None, None)),
        (get(b"Host: a", target=b"/a?b=c&d"), (b"GET /a?b=c&d", b"a", None, None)),
        (get(b"Host: a", target=b"/%00"), (b"GET /%00", b"a", None, None)),
        (get(b"Host: a", b"Accept-Encoding: br, gzip;q=0.5"), (b"GET /", b"a", b"br, gzip;q=0.5", None)),
        (get(b"accept-encoding: ", b"host: a"), (b"GET /", b"a", b"", None)),
        (get(b"Host: a", b'If-None-Match: "x", W/"y"'), (b"GET /", b"a", None, b'"x", W/"y"')),
        (get(b"Host: a", b"If-None-Match: *", b"If-Modified-Since: x"), (b"GET /", b"a", None, b"*")),
        (get(b"Range: bytes=0-3", b"Host: a"), (b"GET /", b"a", None, None, b"bytes=0-3", None)),
        (get(b"Host: a", b"Range: bytes=0-3", b"Accept-Encoding: br"), (b"GET /", b"a", b"br", None, b"bytes=0-3", None)),
        (get(b"Host: a", b"Connection: keep-alive"), (b"GET /", b"a", None, None)),
        (get(b"Host: a", b"Connection: Keep-Alive"), (b"GET /", b"a", None, None)),
        (get(b"Host: a", *(b"X-%d: %d" % (number, number) for number in range(20))), (b"GET /", b"a", None, None)),
        (get(b"Host: a", b"Cookie: a=1", b"User-Agent: x\ty \xe9", b"X-Forwarded-For: 1.2.3.4"), (b"GET /", b"a", None, None)),
    ],
)
def test_a_plain_request_is_read(data, expected):
    reader = taught(data)
    assert [reader.read(data) for _ in range(3)] == [expected] * 3


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
    "a repeated Range": get(b"Host: a", b"Range: bytes=0-0", b"Range: bytes=1-1"),
    "If-Modified-Since alone": get(b"Host: a", b"If-Modified-Since: x"),
    "obs-fold": get(b"Host: a", b"X: 1", b" 2"),
    "obs-fold of Host": get(b"Host: a", b" b"),
    "obs-fold with a tab": get(b"Host: a", b"X: 1", b"\t2"),
    "bare LF between fields": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR": get(b"Host: a\rX: b"),
    "bare CR before a line break": get(b"Host: a\r"),
    "bare CR instead of a line break": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "CR and NUL for a line break": b"GET / HTTP/1.1\r\0Host: a\r\n\r\n",
    "CR and a control character for the last line break": b"GET / HTTP/1.1\r\nHost: a\r\n\r\x01",
    "CR and DEL for the last line break of a field": b"GET / HTTP/1.1\r\nHost: a\r\x7f\r\n",
    "LF in the target": get(b"Host: a", target=b"/a\nb"),
    "LF in front of the target": get(b"Host: a", target=b"\n/a"),
    "NUL in a value": get(b"Host: a", b"X: \0"),
    "NUL in a name": get(b"Host: a", b"X\0: 1"),
    "NUL in the target": get(b"Host: a", target=b"/\0"),
    "NUL at the end": get(b"Host: a") + b"\0",
    "DEL in the target": get(b"Host: a", target=b"/\x7f"),
    "a tab in the target": get(b"Host: a", target=b"/a\tb"),
    "a character that is not ASCII in the target": get(b"Host: a", target=b"/\xc3\xa9"),
    "a space before the colon": get(b"Host : a"),
    "a tab before the colon": get(b"Host\t: a"),
    "no colon": get(b"Host: a", b"X"),
    "no name": get(b"Host: a", b": x"),
    "a name with a space": get(b"Host: a", b"X Y: 1"),
    "a space in the target": get(b"Host: a", target=b"/a b"),
    "a request in the target": get(b"Host: a", target=b"/ HTTP/1.1\r\nHost: a\r\n\r\nGET /b"),
    "two spaces before the target": get(b"Host: a", target=b" /a"),
    "two spaces behind the target": get(b"Host: a", target=b"/a "),
    "no target": get(b"Host: a", target=b""),
    "an absolute target": get(b"Host: a", target=b"http://b/c"),
    "a fragment": get(b"Host: a", target=b"/a#b"),
    "a star": get(b"Host: a", target=b"*"),
    "an authority": get(b"Host: a", target=b"a:80"),
    "a space in front": b" " + get(b"Host: a"),
    "a line break in front": b"\r\n" + get(b"Host: a"),
    "HTTP/1.0": get(b"Host: a").replace(b"1.1", b"1.0"),
    "HTTP/2.0": get(b"Host: a").replace(b"1.1", b"2.0"),
    "HTTP/1x1": get(b"Host: a").replace(b"1.1", b"1x1"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "http/1.1": get(b"Host: a").replace(b"HTTP", b"http"),
    "POST": get(b"Host: a", method=b"POST"),
    "OPTIONS": get(b"Host: a", method=b"OPTIONS"),
    "GETX": get(b"Host: a", method=b"GETX"),
    "a lower-case method": get(b"Host: a", method=b"get"),
    "a body": get(b"Host: a", b"Content-Length: 1") + b"a",
    "a body without a length": get(b"Host: a") + b"body",
    "a line break behind": get(b"Host: a") + b"\r\n",
    "two requests": get(b"Host: a") * 2,
    "one request and a half": get(b"Host: a") + get(b"Host: a")[:-2],
    "Connection: close": get(b"Host: a", b"Connection: close"),
    "Connection: Close, keep-alive": get(b"Host: a", b"Connection: Close, keep-alive"),
    "Connection: keep-alive, close": get(b"Host: a", b"Connection: keep-alive, close"),
    "Connection: upgrade": get(b"Host: a", b"Connection: upgrade"),
    "Connection twice": get(b"Host: a", b"Connection: keep-alive", b"Connection: close"),
    "no space after GET": b"GET/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab after GET": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a hundred fields": get(b"Host: a", *(b"X-%d: %d" % (number, number) for number in range(100))),
}

NEAR = [
    get(b"Host: a"),
    get(b"Host: a", b"X: 1"),
    get(b"Host: a", b"Connection: keep-alive"),
    get(b"Host: a", b"Cookie: 1"),
    get(b"X: 1", b"Host: a"),
    get(b"Host: a", b"Range: bytes=0-0"),
    get(b"Host: a", b"X: 1", b"Y: 2"),
    get(b"Host: a", b"X: 1", b"Host2: 3", b"Y: 2"),
]
"""Requests with shapes that are near to what is left: a reader that knows them must leave it all the more."""


@pytest.mark.parametrize("name", LEFT)
def test_anything_else_is_left(name):
    assert read(LEFT[name]) is None
    for near in NEAR:
        reader = taught(near)
        assert [reader.read(LEFT[name]) for _ in range(3)] == [None] * 3
        assert reader.read(near) is not None


@pytest.mark.parametrize("name", sorted(leanrequest._LEFT))
@pytest.mark.parametrize("spell", [bytes, bytes.upper, bytes.title])
def test_every_field_that_decides_elsewhere_is_left(name, spell):
    for lines in ([b"Host: a", spell(name) + b": 0"], [spell(name) + b": ", b"Host: a", b"X: 1"]):
        reader = LeanReader(make_shapes())
        assert [reader.read(get(*lines)) for _ in range(4)] == [None] * 4


def test_every_field_that_the_slow_path_decides_with_is_known():
    known = {b"accept-encoding", b"if-none-match", b"if-modified-since", b"range", b"if-range", b"available-dictionary"}
    assert known == DECIDING - leanrequest._LEFT


@pytest.mark.parametrize("name", [b"Forwarded", b"X-Forwarded-For", b"X-Request-ID"])
def test_what_names_the_client_is_looked_at_behind_a_proxy_alone(name):
    data = get(b"Host: a", name + b": 1234-abcd")
    assert read(data) == (b"GET /", b"a", None, None)
    for is_behind_proxy in (False, True):
        reader = taught(data, is_behind_proxy=is_behind_proxy)
        assert reader.read(data) == (b"GET /", b"a", None, None)
        assert reader.value(name.lower()) == (b"1234-abcd" if is_behind_proxy else None)
        assert (b"1234-abcd" in reader.shape.describe(reader.match)) == is_behind_proxy


def test_an_identifier_that_may_not_be_passed_on_is_left():
    reader = taught(get(b"Host: a", b"X-Request-ID: 1234-abcd"), is_behind_proxy=True)
    assert reader.read(get(b"Host: a", b"X-Request-ID: 1234")) is None
    assert reader.read(get(b"Host: a", b'X-Request-ID: 1234-"abcd')) is None
    assert reader.read(get(b"Host: a", b"X-Request-ID: 1234-abce")) is not None


@pytest.mark.parametrize("name", [b"Forwarded", b"X-Forwarded-Host"])
def test_what_names_the_host_is_left_where_it_decides(name):
    data = get(b"Host: a", name + b": 1")
    reader = LeanReader(make_shapes(is_behind_proxy=True, left=OF_HOSTS))
    assert [reader.read(data) for _ in range(3)] == [None] * 3


def test_a_request_cut_anywhere_is_left():
    data = get(b"Host: a", b"X: 1")
    for cut in range(len(data)):
        for near in (data, *NEAR):
            assert taught(near).read(data[:cut]) is None, data[:cut]
            assert cut == 0 or taught(near).read(data[cut:]) is None, data[cut:]


def test_a_control_character_anywhere_is_left():
    """Put in, or put in the place of another; a tab may stand in a value, and nowhere else."""
    data = get(b"Host: a", b"X: 12", b"Accept-Encoding: br", target=b"/ab")
    reader = taught(data)
    for at, byte, width in itertools.product(range(len(data) + 1), [*range(32), 127], (0, 1)):
        changed = data[:at] + bytes([byte]) + data[at + width :]
        if changed != data:
            found = check(reader, changed)
            assert found is None or byte == ord("\t"), changed


def test_two_control_characters_are_no_line_break():
    """All pairs of them, in the place of every line break."""
    data = get(b"Host: a", b"X: 1")
    reader = taught(data)
    places = [at for at in range(len(data)) if data.startswith(b"\r\n", at)]
    for one, two in itertools.product([*range(32), 127], repeat=2):
        if (one, two) not in ((13, 10), (9, 9)):
            for at in places:
                assert reader.read(data[:at] + bytes([one, two]) + data[at + 2 :]) is None


# Shapes


def test_a_shape_is_made_for_names_that_come_a_second_time():
    shapes = make_shapes()
    for connection in range(3):
        found = LeanReader(shapes).read(get(b"Host: a", b"X: %d" % connection))
        assert (found is None, len(shapes)) == ((connection == 0), min(connection, 1))
    LeanReader(shapes).read(get(b"host: a", b"X: 1"))
    LeanReader(shapes).read(get(b"X: 1", b"Host: a"))
    assert len(shapes) == 1


def test_names_that_are_left_get_no_shape():
    shapes = make_shapes()
    for name, data in LEFT.items():
        for _ in range(3):
            LeanReader(shapes).read(data)
        assert LeanReader(shapes).read(data) is None, name
    assert len(shapes) <= 4, "of those whose names are harmless, and only a value or the target is not"


def test_shapes_are_bounded(monkeypatch):
    monkeypatch.setattr(leanrequest, "_LIMIT_SHAPES", 10)
    shapes = make_shapes()
    readers = [LeanReader(shapes) for _ in range(2)]
    for number in range(50):
        data = get(b"Host: a", b"X-%d: 1" % number)
        assert [reader.read(data) is None for reader in readers] == [True, False]
        assert len(shapes) <= 10
    assert readers[1].read(get(b"Host: b", b"X-49: 2")) == (b"GET /", b"b", None, None)
    assert (b"Host", b"X-0") not in shapes._shapes, "made long ago"


def test_shapes_are_made_a_few_at_once_and_then_slowly():
    """Making one takes milliseconds of the loop, and anybody can make up names."""
    now_s = 1000.0
    shapes = Shapes(clock_s=lambda: now_s)
    known = get(b"Host: a")
    assert [LeanReader(shapes).read(known) is None for _ in range(2)] == [True, False]

    def make_up(count: int) -> int:
        before = len(shapes)
        for number in range(count):
            for _ in range(2):
                LeanReader(shapes).read(get(b"Host: a", b"X-%d-%d: 1" % (now_s, number)))
        return len(shapes) - before

    assert len(shapes) + make_up(100) <= 20
    for _ in range(5):
        now_s += 1
        assert 1 <= make_up(100) <= 11
    now_s += 3600
    assert make_up(100) <= 20, "however long nobody made one"
    assert LeanReader(shapes).read(known) is not None
    again = get(b"Host: a", b"X-again: 1")
    now_s += 1
    assert [LeanReader(shapes).read(again) is None for _ in range(2)] == [True, False]


def test_names_that_came_once_are_bounded(monkeypatch):
    monkeypatch.setattr(leanrequest, "_LIMIT_SEEN", 10)
    shapes = make_shapes()
    for number in range(100):
        LeanReader(shapes).read(get(b"Host: a", b"X-%d: 1" % number))
        assert len(shapes._seen) <= 10
    assert len(shapes) == 0


def test_a_connection_reads_many_shapes_in_turn():
    requests = [get(b"Host: a", *(b"X-%d: 1" % number for number in range(count))) for count in range(12)]
    requests += [get(b"X-%d: 1" % number, b"Host: a") for number in range(12)]
    reader = taught(*requests)
    for _ in range(3):
        assert [reader.read(data) for data in requests] == [(b"GET /", b"a", None, None)] * len(requests)


# One after the other


def test_nothing_of_the_visitor_before_is_read():
    """Many visitors on one connection, each with other fields, some of them repeated."""
    first = get(b"Host: a", b'If-None-Match: "x"', b"Cookie: 1")
    second = get(b"Host: b", b"Cookie: 2")
    third = get(b"Host: c", b"X: 1", b"Cookie: 3")
    reader = taught(first, second, third)
    for _ in range(2):
        assert reader.read(first) == (b"GET /", b"a", None, b'"x"')
        assert reader.read(second) == (b"GET /", b"b", None, None)
        assert reader.read(first) == (b"GET /", b"a", None, b'"x"')
        assert reader.read(get(b"Host: a", b"Cookie: 2", b"Cookie: 3")) is None  # as many lines, one name fewer
        assert reader.read(get(b"Host: a", b"Host: b", b"Cookie: 3")) is None
        assert reader.read(get(b"Cookie: 1", b"Cookie: 2", b'If-None-Match: "x"')) is None
        assert reader.read(third) == (b"GET /", b"c", None, None)
        assert reader.value(b"accept") is None


def test_accept_is_of_this_request_alone():
    first, second = get(b"Host: a", b"Accept: text/html"), get(b"Host: a", b"X: 1")
    reader = taught(first, second)
    for _ in range(2):
        assert reader.read(first)
        assert reader.value(b"accept") == b"text/html"
        assert reader.read(second)
        assert reader.value(b"accept") is None
    assert reader.read(get(b"Host: a", b"Accept: "))
    assert reader.value(b"accept") == b""


def test_the_log_is_told_of_this_request_alone():
    first = get(b"Host: a", b"Referer: r", b"User-Agent: u", target=b"/x?y=1")
    second = get(b"HOST: b", b"Cookie: secret", method=b"HEAD")
    reader = taught(first, second)
    reader.read(first)
    shape, match = reader.shape, reader.match
    reader.read(second)
    assert shape.describe(match)[:4] == (b"GET /x?y=1", b"a", b"r", b"u"), "also when the log is written later"
    assert reader.shape.describe(reader.match)[:4] == (b"HEAD /", b"b", None, None)


# What parsers see


class Seen:
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
        self.fields.append((name.lower(), value.strip(b" \t")))


def ask_httptools(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return method and target, and the fields, of what is one request without content to this parser."""
    seen = Seen(data)
    assert (seen.begun, seen.done, seen.content, seen.parser.get_http_version()) == (1, 1, b"", "1.1")
    assert seen.parser.should_keep_alive()
    assert not seen.parser.should_upgrade()
    parts = httptools.parse_url(seen.url)
    assert seen.url == parts.path + (b"?" + parts.query if parts.query else seen.url[len(parts.path) :])
    return seen.parser.get_method() + b" " + seen.url, seen.fields


def ask_h11(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request, end = connection.next_event(), connection.next_event()
    assert isinstance(request, h11.Request)
    assert isinstance(end, h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)
    assert request.http_version == b"1.1"
    return request.method + b" " + request.target, [(name.lower(), value) for name, value in request.headers]


def one(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the value of a field that may stand once."""
    values = [value for found, value in fields if found == name]
    assert len(values) <= 1, fields
    return values[0] if values else None


def bare(value: bytes | None) -> bytes | None:
    return None if value is None else value.strip(b" \t")


def check(reader: LeanReader, data: bytes) -> Key | None:
    """Read a request; if it is read, every word of it must be what ordinary parsers see."""
    found = reader.read(data)
    if found is not None:
        for line, fields in (ask_httptools(data), ask_h11(data)):
            names = [name for name, _ in fields]
            assert len(set(names)) == len(names)
            assert leanrequest._LEFT.isdisjoint(names)
            decides = [one(fields, name) for name in (b"host", b"accept-encoding", b"if-none-match", b"range", b"if-range")]
            assert decides[0] is not None
            assert (found[0], *map(bare, found[1:])) == (line, *decides[: len(found) - 1])
            assert len(found) == WITH_RANGE or decides[3] is decides[4] is None
            asked = reader.shape.describe(reader.match)
            assert (asked[0], *map(bare, asked[1:])) == (line, *(one(fields, name) for name in ASKED))
            assert bare(reader.value(b"accept")) == one(fields, b"accept")
    return found


NAMES = [b"Host", b"host", b"HOST", b"Accept-Encoding", b"accept-encoding", b"If-None-Match", b"If-Modified-Since", b"Cookie"]
NAMES += [b"cookie", b"User-Agent", b"Referer", b"Accept", b"X", b"Connection", b"Range", b"If-Range", b"Content-Length"]
NAMES += [b"Transfer-Encoding", b"Upgrade", b"Expect", b"", b"X ", b"X\0"]
VALUES = [b"a", b"b", b"", b"*", b"br", b"keep-alive", b"close", b"upgrade", b"0", b"5", b"chunked", b"h2c", b"bytes=0-1"]
VALUES += [b"\0", b"a\nHost: b", b"a\r\n b", b" a ", b"\ta\t", b"a\r", b"\x7f", b"\xff"]
fields = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from(NAMES),
    st.sampled_from([b": ", b": ", b": ", b":", b" : ", b":\t"]),
    st.sampled_from(VALUES),
)
lists = st.one_of(
    st.lists(fields, max_size=6),
    st.lists(fields, max_size=4).map(lambda lines: [b"Host: a", *lines]),
    st.permutations([b"Host: a", b"Accept-Encoding: br", b"Cookie: 1"]),
)
TARGETS = [b"/", b"/a?b", b"/GET /2", b" /", b"", b"http://b/", b"*", b"/\xc3\xa9", b"/#x", b"/a\nb", b"/\x0c", b"/?", b"//a"]
requests = st.builds(
    lambda lines, target, method: get(*lines, target=target, method=method),
    lists,
    st.sampled_from(TARGETS),
    st.sampled_from([b"GET", b"GET", b"HEAD"]),
)
damaged = st.builds(
    lambda data, at, cut, new: data[: at % len(data)] + new + data[at % len(data) + cut :],
    requests,
    st.integers(0, 200),
    st.integers(0, 3),
    st.sampled_from([b"", b"\r\n", b"\n", b"\r", b"\0", b"\r\0", b"\r\x01", b" ", b"\t", b":", b"GET ", b"\r\n\r\n"]),
)
PLAIN = [b"Accept-Encoding: br", b"accept-language: de", b"Cookie: 1", b"X: 2", b'If-None-Match: "x"', b"Range: bytes=0-1"]
PLAIN += [b"Connection: keep-alive", b"Accept: text/html", b"User-Agent: x"]
plain = st.builds(
    lambda lines, target: get(*lines, target=target),
    st.sets(st.sampled_from(PLAIN)).flatmap(lambda lines: st.permutations([b"Host: a", *sorted(lines)])),
    st.sampled_from([b"/", b"/a?b", b"/%20"]),
)
pieces = st.one_of(requests, requests, damaged)


@settings(max_examples=600, deadline=None)
@given(pieces)
@example(get(b"Host: a", target=b""))
def test_what_is_read_is_what_any_parser_sees(data):
    check(taught(data), data)


@settings(max_examples=600, deadline=None)
@given(plain, st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3))
@example(get(b"Host: a"), 14, 2, b"\r\x01")
@example(get(b"Host: a"), 5, 0, b"\0")
def test_what_is_read_with_a_known_shape_is_what_any_parser_sees(data, at, cut, new):
    at %= len(data)
    check(taught(data), data[:at] + new + data[at + cut :])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(pieces, plain), min_size=2, max_size=8))
@example([get(b"Host: a", b"Content-Length: 5"), get(b"Host: a", b"Content-Length: 5", target=b"/GET /2")])
@example([get(b"Host: a", b"Content-Length: 5"), get(b"Host: a", b"X: 1", target=b"/GET /2")])
@example([get(b"Host: a", b"Connection: close"), get(b"Host: a", b"Connection: keep-alive")])
@example([get(b"Host: a", b"X: 1"), get(b"Host: a", b"Y: 1") + b"\0", get(b"Host: a", b"X: 2")])
@example([get(b"Host: a", b"X: 1"), get(b"Host: a", b"X: 1", b"Y: 1", b"Z\0: 1"), get(b"Host: a", b"X: 1", b"X: 2")])
def test_many_on_one_connection_are_read_as_each_alone(sequence):
    reader = taught(*sequence)
    for data in [*sequence, *reversed(sequence)]:
        assert check(reader, data) == read(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(plain, max_size=8))
def test_plain_requests_on_one_connection_are_all_read(sequence):
    reader = taught(*sequence)
    found = [reader.read(data) for data in sequence]
    assert None not in found
    assert found == [read(data) for data in sequence]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_left(data):
    check(taught(data), data)
    check(taught(get(b"Host: a")), b"GET " + data + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    check(taught(get(b"Host: a", b"X: 1")), get(b"Host: a", b"X: " + data))

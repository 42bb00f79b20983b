"""Rendered answers: repeated only while their claim holds, bounded, and gone when they are gone."""

from __future__ import annotations

import io
import json
import sys

import pytest

from assetserver.delivery import hotcache
from assetserver.delivery.hotcache import Answer, Claim, HotCache, Variant, is_repeatable
from assetserver.errors import OverloadedError
from assetserver.observe import LogWriter, RequestIds

PLAIN = Variant(None, None)
DATE = b"Mon, 01 Jan 2001 00:00:00 GMT"
COMMON = [(b"date", DATE)]
FIELDS = [(b"etag", b'"x"'), (b"content-length", b"4")]


class Folder:
    """What is served now, by path."""

    def __init__(self) -> None:
        self.entries: dict[str, object] = {"file.txt": object()}
        self.now_s = 1000.0
        self.error: Exception | None = None

    def clock_s(self) -> float:
        return self.now_s

    def get(self, path: str) -> object:
        if self.error:
            raise self.error
        return self.entries.get(path)

    def claim(self, path: str = "file.txt", deadline_s: float = 2000.0) -> Claim:
        return Claim(self.get, path, self.entries[path], self.clock_s, deadline_s)

    def answer(self, body: bytes = b"body", **options) -> Answer:
        return Answer(self.claim(**options), 200, b"HTTP/1.1 200 OK\r\n", FIELDS, body)


@pytest.fixture
def folder() -> Folder:
    return Folder()


def change(folder):
    folder.entries["file.txt"] = object()


def remove(folder):
    del folder.entries["file.txt"]


def pass_time(folder):
    folder.now_s = 2000.0


def fail(folder):
    folder.error = OverloadedError("no descriptors")


@pytest.mark.parametrize("happen", [change, remove, pass_time, fail])
def test_an_answer_whose_claim_failed_is_not_repeated(folder, happen):
    hot = HotCache()
    hot.admit(b"a", b"/", PLAIN, answer := folder.answer())
    for _ in range(2):
        hot.admit_request(b"request", answer, {})
    assert hot.find(b"a", b"/", PLAIN) is answer
    assert hot.find_request(b"request").answer is answer
    happen(folder)
    assert hot.find_request(b"request") is None
    assert hot.find(b"a", b"/", PLAIN) is None
    assert len(hot) == 0
    folder.error, folder.now_s = None, 1000.0  # and not again when it would hold
    assert hot.find_request(b"request") is None
    assert hot.find(b"a", b"/", PLAIN) is None


def test_host_target_and_variant_are_told_apart(folder):
    hot = HotCache()
    keys = [
        (b"a", b"/", PLAIN),
        (b"A", b"/", PLAIN),
        (b"a", b"/?", PLAIN),
        (b"a", b"/", Variant(b"", None)),
        (b"a", b"/", Variant(None, b"")),
        (b"a", b"/", Variant(b"br", None)),
        (b"a", b"/", Variant(None, b"br")),
    ]
    answers = [folder.answer() for _ in keys]
    for key, answer in zip(keys, answers, strict=True):
        hot.admit(*key, answer)
    assert [hot.find(*key) for key in keys] == answers


def test_bytes_are_bounded(folder):
    hot = HotCache(limit_bytes=100_000)
    for number in range(10_000):
        hot.admit(b"a", b"/%d" % number, PLAIN, folder.answer(b"x" * 1000))
        assert hot._bytes <= 100_000
    assert hot._bytes == sum(answer.size for answer in hot._answers.values())
    assert 20 < len(hot) <= 100


def test_numbers_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 100)
    monkeypatch.setattr(hotcache, "LIMIT_REQUESTS", 50)
    hot = HotCache()
    answer = folder.answer()
    for number in range(1000):
        hot.admit(b"a", b"/%d" % number, PLAIN, folder.answer())
        for _ in range(2):
            hot.admit_request(b"%d" % number, answer, {})
    assert (len(hot), len(hot._requests)) == (100, 50)
    assert len(hot._seen) <= 50


@pytest.mark.parametrize("limit_bytes", [0, 1, 1100])
def test_what_is_larger_than_the_bound_is_not_kept(folder, limit_bytes):
    hot = HotCache(limit_bytes=limit_bytes)
    hot.admit(b"a", b"/", PLAIN, folder.answer(b"x" * 1000))
    assert (len(hot), hot._bytes) == (0, 0)


def test_what_is_used_stays_longer(folder, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 10)
    hot = HotCache()
    hot.admit(b"a", b"/used", PLAIN, folder.answer())
    hot.admit(b"a", b"/unused", PLAIN, folder.answer())
    for number in range(200):
        assert hot.find(b"a", b"/used", PLAIN) is not None, number
        hot.admit(b"a", b"/%d" % number, PLAIN, folder.answer())
    assert hot.find(b"a", b"/unused", PLAIN) is None


def test_what_was_used_once_leaves_in_the_end(folder, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 10)
    hot = HotCache()
    for number in range(10):
        hot.admit(b"a", b"/%d" % number, PLAIN, folder.answer())
        hot.find(b"a", b"/%d" % number, PLAIN)
    for number in range(10, 40):
        hot.admit(b"a", b"/%d" % number, PLAIN, folder.answer())
    assert not [number for number in range(10) if hot.find(b"a", b"/%d" % number, PLAIN)]


def test_a_newer_answer_takes_the_place_of_an_older_one(folder):
    hot = HotCache()
    old, new = folder.answer(b"old"), folder.answer(b"newer")
    hot.admit(b"a", b"/", PLAIN, old)
    for _ in range(2):
        hot.admit_request(b"request", old, {})
    hot.admit(b"a", b"/", PLAIN, new)
    assert hot.find(b"a", b"/", PLAIN) is new
    assert hot.find_request(b"request") is None
    assert hot._bytes == new.size


def test_a_dropped_answer_holds_no_body_and_is_not_repeated(folder):
    hot = HotCache(limit_bytes=3000)
    first = folder.answer(b"x" * 1000)
    hot.admit(b"a", b"/1", PLAIN, first)
    hot.render(first, COMMON)
    for _ in range(2):
        hot.admit_request(b"request", first, {})
    hot.admit(b"a", b"/2", PLAIN, folder.answer(b"x" * 1000))
    assert (first.body, first.stamped, first.claim) == (b"", b"", None)
    assert hot.find_request(b"request") is None


def test_a_request_is_kept_when_it_comes_a_second_time(folder):
    hot = HotCache()
    hot.admit_request(b"request", folder.answer(), {})
    assert hot.find_request(b"request") is None
    hot.admit_request(b"request", answer := folder.answer(), {"path": "/"})
    assert hot.find_request(b"request") == (answer, {"path": "/"})
    assert hot.find_request(b"request ") is None


def test_a_long_request_is_not_kept(folder):
    hot = HotCache()
    for data in (b"x" * 1024, b"y" * 1025):
        for _ in range(3):
            hot.admit_request(data, folder.answer(), {})
    assert hot.find_request(b"x" * 1024) is not None
    assert hot.find_request(b"y" * 1025) is None


def test_ten_thousand_requests_take_bounded_memory(folder):
    hot = HotCache()
    answer = folder.answer()
    for number in range(10_000):
        data = b"%1000d" % number
        for _ in range(3):
            hot.admit_request(data, answer, {"path": "/"})
    held = sum(sys.getsizeof(data) for data in hot._requests) + sys.getsizeof(hot._requests) + sys.getsizeof(hot._seen)
    assert held < 12 << 20


def test_the_answer_says_the_date_of_now_and_an_id_of_its_own(folder):
    hot = HotCache(RequestIds())
    answer = folder.answer()
    first, second = hot.render(answer, COMMON), hot.render(answer, COMMON)
    assert first != second
    for one in (first, second):
        head, _, body = one.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[:4] == [b"HTTP/1.1 200 OK", b"date: " + DATE, b'etag: "x"', b"content-length: 4"]
        assert lines[4].startswith(b"x-request-id: ")
        assert (len(lines), body) == (5, b"body")
    later = hot.render(answer, [(b"date", b"Tue, 02 Jan 2001 00:00:00 GMT")])
    assert b"\r\ndate: Tue, 02 Jan 2001 00:00:00 GMT\r\n" in later
    assert DATE not in later


def test_without_ids_there_is_none(folder):
    assert HotCache().render(folder.answer(), COMMON) == (
        b'HTTP/1.1 200 OK\r\ndate: %b\r\netag: "x"\r\ncontent-length: 4\r\n\r\nbody' % DATE
    )


def test_ids_are_unique(folder):
    hot = HotCache(RequestIds())
    answer = folder.answer()
    assert len({hot.render(answer, COMMON) for _ in range(10_000)}) == 10_000


def test_the_log_has_the_id_that_was_sent(folder):
    stream = io.StringIO()
    writer = LogWriter("json", stream)
    hot = HotCache(RequestIds(), writer)
    scope = {"method": "GET", "http_version": "1.1", "path": "/", "raw_path": b"/", "query_string": b"a=1", "headers": []}
    sent = hot.render(answer := folder.answer(), COMMON)
    hot.note(answer, scope, ("127.0.0.1", 5))
    writer.flush()
    writer.close()
    row = json.loads(stream.getvalue())
    assert f"x-request-id: {row['request_id']}\r\n".encode() in sent
    assert (row["status"], row["bytes_sent"], row["client_ip"], row["query"]) == (200, 4, "127.0.0.1", "a=1")


@pytest.mark.parametrize(
    ("status", "fields", "body", "expected"),
    [
        (200, [(b"content-length", b"4")], b"body", True),
        (200, [(b"content-length", b"0")], b"", True),
        (304, [(b"etag", b'"x"')], b"", True),
        (304, [(b"set-cookie", b"a=1")], b"", False),
        (200, [(b"content-length", b"4"), (b"set-cookie", b"a=1")], b"body", False),
        (200, [(b"content-length", b"4"), (b"connection", b"close")], b"body", False),
        (200, [(b"transfer-encoding", b"chunked")], b"body", False),
        (200, [], b"body", False),
        (206, [(b"content-length", b"4")], b"body", False),
        (404, [(b"content-length", b"4")], b"body", False),
        (308, [(b"location", b"/a/"), (b"content-length", b"0")], b"", True),
        (503, [(b"content-length", b"0")], b"", False),
        (200, [(b"content-length", str((1 << 20) + 1).encode())], b"x" * ((1 << 20) + 1), False),
        (200, [(b"content-length", b"3145728")], b"", False),  # sent in pieces, or by the kernel: this is the last one
        (200, [(b"content-length", b"5")], b"tail", False),
    ],
)
def test_only_a_whole_answer_for_everybody_may_be_kept(status, fields, body, expected):
    assert is_repeatable(status, fields, body) is expected

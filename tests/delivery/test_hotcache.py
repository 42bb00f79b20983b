"""Rendered answers: repeated only while their claim holds, bounded, and gone when they are gone."""

from __future__ import annotations

import re
import sys
from copy import copy

import pytest

from assetserver.delivery import hotcache
from assetserver.delivery.claims import TRUST_S, Claim
from assetserver.delivery.hotcache import SHORT_BYTES, Answer, FileBody, HotCache
from assetserver.delivery.leanrequest import Key, LeanReader
from assetserver.delivery.repeatable import is_repeatable
from assetserver.errors import OverloadedError
from assetserver.metrics.board import Board
from assetserver.metrics.families import family
from assetserver.metrics.requests import RequestCounts, Tally
from assetserver.observe import RequestIds

_REQUESTS, _BYTES = family("http_requests_total"), family("http_response_bytes_total")

DATE = b"Mon, 01 Jan 2001 00:00:00 GMT"
COMMON = [(b"date", DATE)]
FIELDS = [(b"etag", b'"x"'), (b"content-length", b"4")]
KEY: Key = (b"GET /", b"a", None, None)
MISS: Key = (b"GET /none", b"a", None, None)


def key_of(number: int, *, host: bytes = b"a") -> Key:
    return (b"GET /%d" % number, host, None, None)


class Folder:
    """What is served now, by path, and a clock that stands still until it is told."""

    def __init__(self) -> None:
        self.entries: dict[str, object] = {"file.txt": object()}
        self.now_s = 1000.0
        self.error: Exception | None = None
        self.asked = 0

    def clock_s(self) -> float:
        return self.now_s

    def get(self, path: str) -> object:
        self.asked += 1
        if self.error:
            raise self.error
        return self.entries.get(path)

    def claim(self, path: str = "file.txt", deadline_s: float = 2000.0) -> Claim:
        return Claim(self.get, path, self.entries[path], self.clock_s, deadline_s)

    def answer(self, body: bytes = b"body", status: int = 200, **options) -> Answer:
        return Answer(self.claim(**options), status, b"HTTP/1.1 %d X\r\n" % status, FIELDS, body)


@pytest.fixture
def folder() -> Folder:
    return Folder()


def reader_of(hot: HotCache, accept: bytes | None = None, line: bytes = b"GET /none") -> LeanReader:
    """Return a reader that has just read a request with this ``Accept``."""
    data = line + b" HTTP/1.1\r\nHost: a\r\n" + (b"" if accept is None else b"Accept: " + accept + b"\r\n") + b"\r\n"
    reader = LeanReader(hot.shapes)
    assert reader.read(data) or reader.read(data)
    return reader


@pytest.fixture
def find():
    """Look for a key, as for a request with this ``Accept``."""
    return lambda hot, key=KEY, accept=None: hot.find(key, reader_of(hot, accept))


def held_bytes(hot: HotCache) -> int:
    """Return how many bytes it takes itself to hold, which must be those of what it has."""
    shelves = (hot._files, hot._others)
    for shelf in shelves:
        assert shelf.size_bytes == sum(answer.cost_bytes for answer in shelf.answers.values())
    return sum(shelf.size_bytes for shelf in shelves)


def admit_miss(hot: HotCache, answer: Answer, key: Key = MISS, accept: bytes | None = None, *, varies: bool = True) -> None:
    """Admit what is no file's as often as is needed; each request makes an answer of its own."""
    hot.admit(key, copy(answer), accept, varies=varies)
    hot.admit(key, answer, accept, varies=varies)


def change(folder):
    folder.entries["file.txt"] = object()


def remove(folder):
    del folder.entries["file.txt"]


def pass_time(folder):
    folder.now_s = 2000.0


def fail(folder):
    folder.error = OverloadedError("no descriptors")


@pytest.mark.parametrize("happen", [change, remove, pass_time, fail])
@pytest.mark.parametrize("status", [200, 206, 304, 404, 308])
def test_an_answer_whose_claim_failed_is_not_repeated(folder, find, happen, status):
    hot = HotCache()
    answer = folder.answer(status=status)
    admit_miss(hot, answer, KEY, varies=status == 404)
    reader = reader_of(hot)
    for _ in range(2):
        hot.admit_request(b"request", answer, reader)
    assert find(hot) is answer
    known = hot.find_request(b"request")
    assert known is not None
    assert (known.answer, known.asked.match) == (answer, reader.match)
    happen(folder)
    folder.now_s += TRUST_S
    assert hot.find_request(b"request") is None
    assert find(hot) is None
    assert len(hot) == 0
    folder.error, folder.now_s = None, 1000.0  # and not again when it would hold
    assert hot.find_request(b"request") is None
    assert find(hot) is None
    assert held_bytes(hot) == 0


def test_a_claim_is_asked_again_after_a_tenth_of_a_second(folder, find):
    hot = HotCache()
    hot.admit(KEY, answer := folder.answer())
    reader = reader_of(hot)
    for _ in range(2):
        hot.admit_request(b"request", answer, reader)
    for _ in range(3):
        before = folder.asked
        for passed_s in (0.0, TRUST_S * 0.4, TRUST_S * 0.4):
            folder.now_s += passed_s
            assert find(hot) is answer
            assert hot.find_request(b"request")
        assert folder.asked == before + 1
        folder.now_s += TRUST_S * 0.3
    assert TRUST_S == 0.1


def test_a_claim_is_trusted_for_no_longer_than_its_deadline(folder, find):
    hot = HotCache()
    hot.admit(KEY, answer := folder.answer(deadline_s=1000.05))
    assert find(hot) is answer
    folder.now_s = 1000.049
    assert find(hot) is answer
    folder.now_s = 1000.05
    assert find(hot) is None


def test_what_changed_is_noticed_by_whoever_asks_first(folder, find):
    hot = HotCache()
    hot.admit(KEY, answer := folder.answer())
    hot.admit((*KEY, b"bytes=0-0"), part := folder.answer(status=206))
    assert find(hot) is answer
    change(folder)
    assert find(hot) is answer, "trusted for a moment"
    assert find(hot, (*KEY, b"bytes=0-0")) is None, "not asked before, so asked now"
    assert part.claim is None
    folder.now_s += TRUST_S
    assert find(hot) is None


def test_all_that_decides_is_told_apart(folder, find):
    hot = HotCache()
    keys: list[Key] = [
        (b"GET /", b"a", None, None),
        (b"HEAD /", b"a", None, None),
        (b"GET /", b"A", None, None),
        (b"GET /?", b"a", None, None),
        (b"GET /", b"a", b"", None),
        (b"GET /", b"a", None, b""),
        (b"GET /", b"a", b"br", None),
        (b"GET /", b"a", None, b"br"),
        (b"GET /", b"a", None, None, b"bytes=0-0"),
        (b"GET /", b"a", None, None, b"bytes=0-1"),
        (b"GET /", b"a", None, None, b""),
    ]
    answers = [folder.answer() for _ in keys]
    for key, answer in zip(keys, answers, strict=True):
        hot.admit(key, answer)
    assert [find(hot, key) for key in keys] == answers


# Bounds


def test_bytes_are_bounded(folder):
    hot = HotCache(limit_bytes=100_000)
    for number in range(10_000):
        hot.admit(key_of(number), folder.answer(b"x" * 1000))
        assert held_bytes(hot) <= 100_000
    assert held_bytes(hot) == sum(answer.cost_bytes for answer in hot._files.answers.values())
    assert 20 < len(hot) <= 100


def test_what_a_key_takes_counts(folder):
    hot = HotCache(limit_bytes=100_000)
    for number in range(1000):
        hot.admit((b"GET /", b"a", b"%2000d" % number, None), folder.answer())
    assert len(hot) <= 100_000 // 3000


def test_numbers_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 100)
    monkeypatch.setattr(hotcache, "LIMIT_REQUESTS", 50)
    hot = HotCache()
    answer, reader = folder.answer(), reader_of(hot)
    for number in range(1000):
        hot.admit(key_of(number), folder.answer())
        for _ in range(2):
            hot.admit_request(b"%d" % number, answer, reader)
    assert (len(hot), len(hot._requests)) == (100, 50)
    assert len(hot._seen) <= 50


@pytest.mark.parametrize("limit_bytes", [0, 1, 1100])
@pytest.mark.parametrize("status", [200, 404, 308])
def test_what_is_larger_than_the_bound_is_not_kept(folder, limit_bytes, status):
    hot = HotCache(limit_bytes=limit_bytes)
    admit_miss(hot, folder.answer(b"x" * 1000, status), KEY)
    assert (len(hot), held_bytes(hot)) == (0, 0)


def test_what_is_used_stays_longer(folder, monkeypatch, find):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 10)
    hot = HotCache()
    hot.admit((b"GET /used", b"a", None, None), folder.answer())
    hot.admit((b"GET /unused", b"a", None, None), folder.answer())
    for number in range(200):
        folder.now_s += TRUST_S  # it is asked now and then, not within one moment
        assert find(hot, (b"GET /used", b"a", None, None)) is not None, number
        hot.admit(key_of(number), folder.answer())
    assert find(hot, (b"GET /unused", b"a", None, None)) is None


def test_what_was_used_once_leaves_in_the_end(folder, monkeypatch, find):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 10)
    hot = HotCache()
    for number in range(10):
        hot.admit(key_of(number), folder.answer())
        find(hot, key_of(number))
    for number in range(10, 40):
        hot.admit(key_of(number), folder.answer())
    assert not [number for number in range(10) if find(hot, key_of(number))]


def test_a_newer_answer_takes_the_place_of_an_older_one(folder, find):
    hot = HotCache()
    old, new, reader = folder.answer(b"old"), folder.answer(b"newer"), reader_of(hot)
    hot.admit(KEY, old)
    for _ in range(2):
        hot.admit_request(b"request", old, reader)
    hot.admit(KEY, new)
    assert find(hot) is new
    assert hot.find_request(b"request") is None
    assert held_bytes(hot) == new.cost_bytes


def test_a_dropped_answer_holds_no_body_and_is_not_repeated(folder):
    hot = HotCache(limit_bytes=3000)
    first, reader = folder.answer(b"x" * 1000), reader_of(hot)
    hot.admit(key_of(1), first)
    hot.render(first, COMMON)
    for _ in range(2):
        hot.admit_request(b"request", first, reader)
    assert hot.find_request(b"request")
    for number in (2, 3):
        hot.admit(key_of(number), folder.answer(b"x" * 1000))
    assert (first.body, first.stamped, first.claim) == (b"", b"", None)
    assert hot.find_request(b"request") is None, "also not within the moment that its claim is trusted for"


# What is no file's


@pytest.mark.parametrize("status", [404, 301, 302, 303, 307, 308])
def test_what_is_no_file_is_kept_when_it_comes_a_second_time(folder, find, status):
    hot = HotCache()
    hot.admit(KEY, folder.answer(status=status))
    assert find(hot) is None
    hot.admit(KEY, answer := folder.answer(status=status))
    assert find(hot) is answer
    assert find(hot, accept=b"text/html") is answer, "it does not vary"


def test_a_miss_is_another_one_for_every_accept(folder, find):
    hot = HotCache()
    forms = [None, b"", b"text/html", b"application/json", b"*/*"]
    answers = {accept: folder.answer(accept or b"", 404) for accept in forms}
    for accept, answer in answers.items():
        assert find(hot, MISS, accept) is None
        admit_miss(hot, answer, MISS, accept)
    assert {accept: find(hot, MISS, accept) for accept in forms} == answers
    assert find(hot, MISS, b"text/plain") is None


def test_a_file_that_varies_is_another_one_for_every_accept(folder, find):
    hot = HotCache()
    webp, jpeg = folder.answer(b"webp"), folder.answer(b"jpeg")
    hot.admit(KEY, webp, b"image/webp", varies=True)
    assert find(hot, KEY, b"image/*") is None
    hot.admit(KEY, jpeg, b"image/*", varies=True)
    hot.admit(KEY, missing := folder.answer(status=304), None, varies=True)
    for _ in range(2):
        assert find(hot, KEY, b"image/webp") is webp
        assert find(hot, KEY, b"image/*") is jpeg
        assert find(hot, KEY) is missing
        assert find(hot, KEY, b"image/avif") is None
    folder.entries.clear()
    folder.now_s += TRUST_S
    assert find(hot, KEY, b"image/webp") is None


def test_the_accepts_of_a_miss_are_bounded(folder, find, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_OTHERS", 16)
    hot = HotCache()
    for number in range(100):
        accept = b"text/%d" % number
        admit_miss(hot, folder.answer(status=404), MISS, accept)
        assert len(hot) <= 16
        assert len(hot._varying) <= 16
    assert [number for number in range(100) if find(hot, MISS, b"text/%d" % number)] == [*range(84, 100)]
    change(folder)
    folder.now_s += TRUST_S
    assert not [number for number in range(100) if find(hot, MISS, b"text/%d" % number)]
    assert (len(hot), held_bytes(hot)) == (0, 0)


def test_an_answer_that_two_connections_admit_is_counted_once(folder, find):
    """Both asked when it was not there, or not any more."""
    hot = HotCache()
    for accept in (b"text/html", b"*/*", b"*/*", b"text/html", b"*/*"):
        admit_miss(hot, newest := folder.answer(status=404), MISS, accept)
    assert find(hot, MISS, b"*/*") is newest
    change(folder)
    folder.now_s += TRUST_S
    assert [find(hot, MISS, accept) for accept in (b"*/*", b"text/html")] == [None, None]
    assert held_bytes(hot) == 0


@pytest.mark.parametrize("varies", [False, True])
def test_a_file_is_given_where_there_was_a_miss_and_a_miss_where_there_was_a_file(folder, find, varies):
    hot = HotCache()
    admit_miss(hot, folder.answer(status=404), KEY, varies=varies)
    change(folder)
    hot.admit(KEY, answer := folder.answer())
    assert find(hot) is answer
    change(folder)
    folder.now_s += TRUST_S
    admit_miss(hot, miss := folder.answer(status=404), KEY, varies=varies)
    assert find(hot) in (miss, None), "whoever asks first finds out that the file is gone"
    assert find(hot) is miss
    assert held_bytes(hot) == miss.cost_bytes


def test_a_miss_that_varies_no_more_is_one_for_all(folder, find):
    """And the other way round: the site got a page of its own for misses, or lost it."""
    hot = HotCache()
    admit_miss(hot, old := folder.answer(status=404), MISS, b"*/*")
    assert find(hot, MISS, b"*/*") is old
    change(folder)
    folder.now_s += TRUST_S
    admit_miss(hot, page := folder.answer(status=404), MISS, b"*/*", varies=False)
    assert [find(hot, MISS, accept) for accept in (b"*/*", b"text/html", None)] == [page] * 3
    change(folder)
    folder.now_s += TRUST_S
    admit_miss(hot, new := folder.answer(status=404), MISS, b"*/*")
    assert [find(hot, MISS, accept) for accept in (b"*/*", b"text/html", None)] == [new, None, None]


def test_made_up_addresses_push_out_no_file(folder, find, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_OTHERS", 100)
    hot = HotCache(limit_bytes=200_000)
    files = [key_of(number) for number in range(20)]
    for key in files:
        hot.admit(key, folder.answer(b"x" * 1000))
    for number in range(2000):
        for accept in (None, b"text/html"):
            admit_miss(hot, folder.answer(b"x" * 1000, 404), (b"GET /none/%d" % number, b"a", None, None), accept)
    assert None not in [find(hot, key) for key in files]
    hot.admit(KEY, answer := folder.answer(b"x" * 1000))
    assert find(hot) is answer
    assert None not in [find(hot, key) for key in files]


def test_what_is_no_file_is_bounded_in_bytes_and_numbers(folder, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_OTHERS", 50)
    hot = HotCache(limit_bytes=100_000)
    for number in range(1000):
        for accept in (None, b"text/html", b"*/*"):
            admit_miss(hot, folder.answer(b"x" * 1000, 404), key_of(number), accept)
            assert len(hot) <= 50
            assert held_bytes(hot) <= 100_000


def test_a_file_is_kept_whatever_was_missed_before(folder, find):
    """Many misses with a large page of their own."""
    hot = HotCache(limit_bytes=100_000)
    for number in range(300):
        admit_miss(hot, folder.answer(b"x" * 1000, 404), key_of(number))
    hot.admit(KEY, answer := folder.answer())
    assert find(hot) is answer


# Requests by their bytes


def test_a_request_is_kept_when_it_comes_a_second_time(folder):
    hot = HotCache()
    reader = reader_of(hot)
    hot.admit_request(b"request", folder.answer(), reader)
    assert hot.find_request(b"request") is None
    hot.admit_request(b"request", answer := folder.answer(), reader)
    known = hot.find_request(b"request")
    assert known is not None
    assert (known.answer, known.asked.match) == (answer, reader.match)
    assert hot.find_request(b"request ") is None


def test_a_kept_request_is_told_to_the_log_as_it_was_read(folder):
    hot = HotCache()
    reader = reader_of(hot, b"text/html", b"GET /a?b")
    for _ in range(2):
        hot.admit_request(b"request", folder.answer(), reader)
    other = b"GET /c HTTP/1.1\r\nHost: d\r\n\r\n"
    assert reader.read(other) or reader.read(other)
    known = hot.find_request(b"request")
    assert known is not None
    assert known.asked.describe()[:4] == (b"GET /a?b", b"a", None, None)


def test_a_long_request_is_not_kept(folder):
    hot = HotCache()
    reader = reader_of(hot)
    for data in (b"x" * 1024, b"y" * 1025):
        for _ in range(3):
            hot.admit_request(data, folder.answer(), reader)
    assert hot.find_request(b"x" * 1024) is not None
    assert hot.find_request(b"y" * 1025) is None


def test_ten_thousand_requests_take_bounded_memory(folder):
    hot = HotCache()
    answer, reader = folder.answer(), reader_of(hot)
    for number in range(10_000):
        data = b"%1000d" % number
        for _ in range(3):
            hot.admit_request(data, answer, reader)
    held = sum(sys.getsizeof(data) for data in hot._requests) + sys.getsizeof(hot._requests) + sys.getsizeof(hot._seen)
    assert held < 12 << 20


# What is sent, and what is logged


def test_the_answer_says_the_date_of_now_and_an_id_of_its_own(folder):
    hot = HotCache(RequestIds())
    answer = folder.answer()
    first, second = hot.render(answer, COMMON), hot.render(answer, COMMON)
    assert first != second
    for one in (first, second):
        head, _, body = one.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[:4] == [b"HTTP/1.1 200 X", b"date: " + DATE, b'etag: "x"', b"content-length: 4"]
        assert lines[4].startswith(b"x-request-id: ")
        assert (len(lines), body) == (5, b"body")
    later = hot.render(answer, [(b"date", b"Tue, 02 Jan 2001 00:00:00 GMT")])
    assert b"\r\ndate: Tue, 02 Jan 2001 00:00:00 GMT\r\n" in later
    assert DATE not in later


def test_without_ids_there_is_none(folder):
    assert HotCache().render(folder.answer(), COMMON) == (
        b'HTTP/1.1 200 X\r\ndate: %b\r\netag: "x"\r\ncontent-length: 4\r\n\r\nbody' % DATE
    )


def test_a_long_body_is_written_beside_its_head(folder):
    """And not copied behind it."""
    short, long = (folder.answer(b"x" * size) for size in (SHORT_BYTES, SHORT_BYTES + 1))
    assert HotCache().render(short, COMMON).endswith(b"\r\n\r\n" + short.body)
    assert HotCache().render(long, COMMON).endswith(b"content-length: 4\r\n\r\n")
    assert (short.short_body, long.short_body) == (short.body, b"")


def test_ids_are_unique(folder):
    hot = HotCache(RequestIds())
    answer = folder.answer()
    assert len({hot.render(answer, COMMON) for _ in range(10_000)}) == 10_000


def test_every_repetition_is_counted_once_whenever_the_date_changes(folder):
    """And what nobody repeats any more is not looked at, nor is anything looked at twice."""
    block = Board().claim()
    hot = HotCache(RequestIds(), counts=RequestCounts(block))
    tally = Tally(_REQUESTS.slot("GET", "200", "site"), _BYTES.slot("site"), -1, -1, -1, "", is_missing=False)
    answers = [Answer(folder.claim(), 200, b"HTTP/1.1 200 X\r\n", FIELDS, b"body", None, tally) for _ in range(3)]
    repeated = 0
    for second in range(20):
        for common in ([(b"date", b"%d" % second)], [(b"date", b"%d+" % second)]):
            for answer in answers[: 1 + second % 3]:
                for _ in range(second):
                    hot.render(answer, common)
                    repeated += 1
        hot.count_repeats()
        assert (block.slots[tally.request], block.slots[tally.sent]) == (repeated, 4 * repeated)
        assert len(hot._repeated) == (1 + second % 3 if second else 0)
    hot.count_repeats()
    assert not hot._repeated
    hot.render(answers[0], common)
    hot.count_repeats()
    assert block.slots[tally.request] == repeated + 1


def test_ids_of_several_answers_and_of_requests_that_go_the_slow_way_are_unique(folder):
    hot = HotCache(RequestIds())
    answers = [folder.answer() for _ in range(3)]
    heads = []
    for second in range(50):
        common = [(b"date", b"%d" % second)]
        heads += [hot.render(answer, common) for _ in range(5) for answer in answers]
        heads.append(b"x-request-id: " + hot.ids.take() + b"\r\n")
    found = [re.search(rb"x-request-id: (\S+)\r\n", head)[1] for head in heads]
    assert len(set(found)) == len(heads) == 50 * 16


def test_an_answer_whose_body_is_a_file_is_rendered_without_it(folder):
    fields = [(b"content-length", b"5")]
    answer = Answer(folder.claim(), 200, b"HTTP/1.1 200 OK\r\n", fields, b"", FileBody(lambda: None, 3, 5))
    assert HotCache().render(answer, []) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert (answer.told.status, answer.told.sent) == (200, 5)


@pytest.mark.parametrize(
    ("status", "fields", "length", "expected"),
    [
        (200, [(b"content-length", b"4")], 4, True),
        (200, [(b"content-length", b"0")], 0, True),
        (206, [(b"content-length", b"4"), (b"content-range", b"bytes 0-3/9")], 4, True),
        (304, [(b"etag", b'"x"')], 0, True),
        (304, [(b"set-cookie", b"a=1")], 0, False),
        (200, [(b"content-length", b"4"), (b"set-cookie", b"a=1")], 4, False),
        (200, [(b"content-length", b"4"), (b"connection", b"close")], 4, False),
        (200, [(b"transfer-encoding", b"chunked")], 4, False),
        (200, [], 4, False),
        (404, [(b"content-length", b"4")], 4, True),
        (404, [(b"content-length", b"4"), (b"set-cookie", b"a=1")], 4, False),
        (308, [(b"location", b"/a/"), (b"content-length", b"0")], 0, True),
        (400, [(b"content-length", b"0")], 0, False),
        (405, [(b"content-length", b"0")], 0, False),
        (410, [(b"content-length", b"0")], 0, False),
        (416, [(b"content-length", b"0")], 0, False),
        (503, [(b"content-length", b"0")], 0, False),
        (200, [(b"content-length", b"3145728")], 0, False),  # sent in pieces: this is the last one
        (200, [(b"content-length", b"5")], 4, False),
    ],
)
def test_only_a_whole_answer_for_everybody_may_be_kept(status, fields, length, expected):
    assert is_repeatable(status, fields, length) is expected


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (200, [(b"content-length", b"4")], True),
        (200, [(b"content-length", b"4"), (b"set-cookie", b"a=1")], False),
        (404, [(b"content-length", b"4")], True),
        (405, [(b"content-length", b"4")], False),
    ],
)
def test_an_answer_to_head_is_whole_without_its_body(status, fields, expected):
    assert is_repeatable(status, fields, 0, head=True) is expected

"""The client: what it repeats and what not, and what it says of servers that are none, refuse, or go away."""

import ssl
from collections.abc import Callable

import httpx
import msgspec
import pytest

from assetserver.errors import ConflictError, LockedError, PublishError, ReleaseMissingError, RemoteError
from assetserver.remote import client as client_module
from assetserver.remote.client import Remote, SiteInfo, is_in_the_clear
from assetserver.remote.finishing import Missing, Work
from assetserver.remote.retrying import ATTEMPTS
from assetserver.remote.submission import Submission, WantedFile

SITE = {"site": "default", "active": None, "locked": "", "url": "", "options": {}, "more": 1}
SUBMISSION = Submission({"a": WantedFile("ab" * 32, 1)})
PUBLISHED = {
    "id": "ab" * 32,
    "site": "default",
    "existed": False,
    "files": 1,
    "bytes": 1,
    "compressed": 0,
    "saved": {},
    "fingerprints": {},
    "findings": [{"level": "warning", "code": "x", "path": "a", "line": 0, "message": "look", "count": 1}],
    "has_rooted_references": False,
    "active": None,
    "url": "",
    "message": "",
    "aliases": [],
    "previews": [""],
}


@pytest.fixture
def waits(monkeypatch):
    """What was waited for between attempts: (attempt, Retry-After)."""
    found: list[tuple[int, str | None]] = []

    def no_delay(attempt: int, retry_after: str | None, *_: float) -> float:
        found.append((attempt, retry_after))
        return 0.0

    monkeypatch.setattr(client_module, "delay_s", no_delay)
    return found


def remote(handler: Callable[[httpx.Request], httpx.Response], url: str = "https://example.com") -> Remote:
    return Remote(url, "token", httpx.MockTransport(handler))


def problem(status: int, detail: str = "why", **members) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "detail": detail, **members})


def sequence(*answers: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    """Return a handler that gives one after the other."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    return answer


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again_as_the_server_says(waits, status):
    busy = httpx.Response(status, headers={"Retry-After": "3"}, text="<h1>busy</h1>")
    found = remote(sequence(busy, busy, httpx.Response(200, json=SITE))).describe_site("")
    assert isinstance(found, SiteInfo)
    assert waits == [(1, "3"), (2, "3")]


def test_a_server_that_goes_on_refusing_is_told_in_its_words(waits):
    with pytest.raises(RemoteError, match=r"https://example\.com answers 503: gc is running"):
        remote(lambda _: problem(503, "gc is running")).describe_site("")
    assert len(waits) == ATTEMPTS - 1
    with pytest.raises(RemoteError, match=r"answers 502: Bad Gateway"):
        remote(lambda _: httpx.Response(502, text="<h1>nginx</h1>")).describe_site("")


def test_a_server_that_was_never_reached_is_tried_a_few_times(waits):
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    with pytest.raises(RemoteError, match=r"https://example\.com cannot be reached: connection refused; tried 3 times"):
        remote(refuse).describe_site("")
    assert len(waits) == 2


def test_a_server_that_was_reached_is_waited_for(waits):
    answers = [httpx.Response(200, json=SITE), *[httpx.ReadError("reset")] * 6, httpx.Response(200, json=SITE)]
    with remote(sequence(*answers)) as found:
        found.describe_site("")
        found.describe_site("")
    assert len(waits) == 6


def test_a_certificate_that_is_not_trusted_is_not_tried_again(waits):
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("self-signed certificate") from ssl.SSLCertVerificationError()

    with pytest.raises(RemoteError, match="self-signed certificate"):
        remote(refuse).describe_site("")
    assert waits == []


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, RemoteError, "does not accept the token: why"),
        (403, RemoteError, "does not let this token publish: why"),
        (404, ReleaseMissingError, "^why$"),
        (409, ConflictError, "^why$"),
        (413, RemoteError, "answers 413: why"),
        (422, PublishError, "^why$"),
        (423, LockedError, "^why$"),
        (507, RemoteError, "answers 507: why"),
    ],
)
def test_what_cannot_pass_is_told_at_once(waits, status, error, text):
    with pytest.raises(error, match=text):
        remote(lambda _: problem(status)).activate("ab" * 32, "")
    assert waits == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<!doctype html><title>Welcome to nginx!</title>"),
        httpx.Response(200, json={"some": "api"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(404, text="not here"),
        httpx.Response(404, json={"error": "not here"}),
        httpx.Response(405),
        httpx.Response(418, json="detail"),
    ],
)
def test_what_is_no_assetserver_is_told(waits, answer):
    with pytest.raises(RemoteError, match="answers, but not as an assetserver that takes releases"):
        remote(lambda _: answer).describe_site("")


def test_a_redirect_is_not_followed_with_the_token(waits):
    moved = httpx.Response(301, headers={"Location": "https://www.example.com/-/api/releases"})
    with pytest.raises(RemoteError, match=r"redirects to https://www\.example\.com/"):
        remote(sequence(moved)).describe_site("")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://x:99999",
        "https://u:p@x",
        "https://x/?a",
        "https://x/#a",
        "https://[",
    ],
)
def test_what_is_no_url_is_told(url):
    with pytest.raises(PublishError, match="--url"):
        Remote(url, "token")


@pytest.mark.parametrize("token", ["", "two words", "tökén", "line\n"])
def test_what_is_no_token_is_told(token):
    with pytest.raises(PublishError, match="the token is none"):
        Remote("https://example.com", token)


def test_a_path_before_the_api_is_kept_and_the_token_goes_along():
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://example.com/below/-/api/releases?site=main"
        assert request.headers["authorization"] == "Bearer token"
        return httpx.Response(200, json=SITE)

    remote(answer, "https://example.com/below/").describe_site("main")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", True),
        ("http://10.0.0.1:8000", True),
        ("https://example.com", False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_a_token_in_the_clear_is_noticed(url, expected):
    assert is_in_the_clear(url) is expected


class TestSubmitting:
    def test_what_is_missing_is_a_value(self):
        assert remote(lambda _: problem(409, missing=["ab" * 32])).submit(SUBMISSION, "", print) == Missing(("ab" * 32,))

    def test_a_release_may_be_ready_at_once(self):
        found = remote(lambda _: httpx.Response(201, json=PUBLISHED)).submit(SUBMISSION, "", print)
        assert found.id == PUBLISHED["id"]
        assert found.findings[0].message == "look"

    def lines(self, *lines: object) -> httpx.Response:
        content = b"".join(msgspec.json.encode(one) + b"\n" for one in lines)
        return httpx.Response(200, content=content, headers={"Content-Type": "application/x-ndjson"})

    def test_progress_is_told_until_the_answer_comes(self):
        told: list[Work] = []
        work = Work("compressing", 1, 2, 3, 4)
        answer = self.lines({"progress": work}, {"progress": work}, {"status": 201, "answer": PUBLISHED})
        assert remote(lambda _: answer).submit(SUBMISSION, "", told.append).id == PUBLISHED["id"]
        assert told == [work, work]

    def test_an_error_at_the_end_is_one(self):
        answer = self.lines({"progress": Work("waiting")}, {"status": 422, "answer": {"status": 422, "detail": "a secret"}})
        with pytest.raises(PublishError, match=r"^a secret$"):
            remote(lambda _: answer).submit(SUBMISSION, "", lambda _: None)

    def test_blobs_may_be_found_missing_at_the_end(self):
        answer = self.lines({"status": 409, "answer": {"status": 409, "detail": "", "missing": ["cd" * 32]}})
        assert remote(lambda _: answer).submit(SUBMISSION, "", print) == Missing(("cd" * 32,))

    def test_an_answer_that_is_cut_is_asked_for_again(self, waits):
        answers = sequence(self.lines({"progress": Work("waiting")}), self.lines(), httpx.Response(200, json=PUBLISHED))
        assert remote(answers).submit(SUBMISSION, "", lambda _: None).id == PUBLISHED["id"]
        assert len(waits) == 2

    def test_a_child_that_was_killed_is_tried_again(self, waits):
        killed = self.lines({"status": 503, "answer": {"status": 503, "detail": "killed"}})
        assert remote(sequence(killed, httpx.Response(200, json=PUBLISHED))).submit(SUBMISSION, "", print).id


def test_bodies_are_made_anew_for_each_attempt(waits):
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.read())
        assert request.headers["content-length"] == "6"
        return problem(503) if len(seen) < 3 else httpx.Response(201, json={})

    remote(answer).send_blob("ab" * 32, 6, lambda: iter([b"abc", b"def"]), {"Content-Length": "6"})
    assert seen == [b"abcdef"] * 3


def test_closing_ends_what_waits_to_be_repeated(monkeypatch):
    monkeypatch.setattr(client_module, "delay_s", lambda *_: 3600.0)

    def answer(_: httpx.Request) -> httpx.Response:
        found.closing.set()
        return problem(503)

    found = remote(answer)
    with pytest.raises(RemoteError, match="stopped"):
        found.describe_site("")

"""What caches are asked, over real connections, held against what their documentation says."""

from __future__ import annotations

import json

import msgspec
import pytest

from assetserver.errors import JobFailedError
from assetserver.jobs.attempt import Attempt, Outcome
from assetserver.jobs.job import Job, Lease
from assetserver.purgejobs import purge_jobs
from assetserver.purging.orders import KIND, PurgeOrder
from assetserver.settings import load_settings
from assetserver.webhooks.signing import parse_secret, sign_fields

SECRET = "whsec_" + "A" * 32
BASE = {"name": "edge", "origins": ["https://www.example.com"]}
URLS = ("https://www.example.com/", "https://www.example.com/s%C3%BC.css")


@pytest.fixture
def purge(api):
    """``purge(entry, **order)`` does a job with the settings ``[[purge]]`` has in ``entry``, and returns what came of it."""

    def run(entry, **order):
        settings = load_settings(overrides={"purge": [{**BASE, "url": api.url, **entry}]})
        payload = msgspec.json.encode(PurgeOrder(connector="edge", id="msg_1", **order)).decode()
        job = Job(
            id=1, kind=KIND, key="", payload=payload, state="running", priority=0, attempts=1, max_attempts=3, run_at=0,
            created=0, finished=None, lease_until=None, worker="w", progress=0, reason="", signal=0,
        )  # fmt: skip
        return purge_jobs(settings).handle(Attempt(Lease(job, "token"), 0.0))

    return run


def test_cloudflare_is_asked_as_its_manual_says(api, purge):
    entry = {"service": "cloudflare", "zone": "0123abc", "token": "secret"}
    roots = ("https://www.example.com/", "https://www.example.com/docs/")
    assert purge(entry, urls=URLS, tags=("pages",), roots=roots) is Outcome.DONE
    assert {(method, target) for method, target, _, _ in api.got} == {("POST", "/zones/0123abc/purge_cache")}
    assert [json.loads(body) for _, _, _, body in api.got] == [
        {"files": list(URLS)},
        {"tags": ["pages"]},
        {"hosts": ["www.example.com"]},
        {"prefixes": ["www.example.com/docs/"]},
    ]
    fields = api.got[0][2]
    assert (fields["authorization"], fields["content-type"]) == ("Bearer secret", "application/json")


@pytest.mark.parametrize("soft", [False, True])
def test_fastly_is_asked_as_its_manual_says(api, purge, soft):
    entry = {"service": "fastly", "zone": "SU1Z0isxPaozGVKXdv0eY", "token": "secret", "soft": soft}
    assert purge(entry, urls=URLS, tags=("a", "b"), roots=("https://www.example.com/",)) is Outcome.DONE
    service = "/service/SU1Z0isxPaozGVKXdv0eY"
    assert [(method, target) for method, target, _, _ in api.got] == [
        ("POST", service + "/purge"),
        ("POST", "/purge/www.example.com/"),
        ("POST", "/purge/www.example.com/s%C3%BC.css"),
        ("POST", service + "/purge_all"),
    ]
    assert json.loads(api.got[0][3]) == {"surrogate_keys": ["a", "b"]}
    assert {fields["fastly-key"] for _, _, fields, _ in api.got} == {"secret"}
    assert [fields.get("fastly-soft-purge") for _, _, fields, _ in api.got] == ["1" if soft else None] * 3 + [None]


def test_varnish_is_asked_as_its_visitors_ask_it(api, purge):
    assert purge({"service": "varnish", "token": "x"}, urls=URLS, tags=("a", "b"), roots=("https://www.example.com/docs/",))
    seen = [
        (method, target, fields["host"], fields.get("xkey-purge"), fields["x-purge-token"])
        for method, target, fields, _ in api.got
    ]
    own = api.url.removeprefix("http://")
    assert seen == [
        ("PURGE", "/", own, "a b", "x"),
        ("PURGE", "/", "www.example.com", None, "x"),
        ("PURGE", "/s%C3%BC.css", "www.example.com", None, "x"),
        ("BAN", "/docs/", "www.example.com", None, "x"),
    ]


def test_a_webhook_is_signed_and_the_same_for_each_attempt(api, purge):
    for _ in range(2):
        assert purge({"service": "webhook", "secrets": [SECRET]}, urls=URLS, tags=("a",)) is Outcome.DONE
    (_, _, fields, body), (_, _, _, again) = api.got
    assert body == again
    assert json.loads(body) == {"type": "cache.purge", "data": {"urls": list(URLS), "tags": ["a"], "roots": []}}
    signed = sign_fields([parse_secret(SECRET)], "msg_1", int(fields["webhook-timestamp"]), body)
    assert fields["webhook-signature"] == signed["webhook-signature"]


CLOUDFLARE = {"service": "cloudflare", "zone": "z", "token": "secret"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((429, {"Retry-After": "7"}, b""), "the cache answered 429"),
        (
            (403, {}, b'{"success": false, "errors": [{"code": 10000, "message": "Authentication error"}]}'),
            "the cache answered 403: Authentication error; look at its token",
        ),
        ((200, {}, b'{"success": false, "errors": [{"message": "no"}]}'), "the cache answered 200: no"),
        ((400, {}, b'{"msg": "Bad", "status": "error"}'), "the cache answered 400: Bad"),
        ((302, {"Location": "/"}, b"x" * 200_000), "the cache answered 302"),
        ((500, {}, b'{"success": false, "errors": "?"}'), "the cache answered 500: no success"),
    ],
)
def test_what_is_no_success_is_told_and_tried_again(api, purge, answer, reason):
    api.answers[:] = [answer]
    with pytest.raises(JobFailedError) as caught:
        purge(CLOUDFLARE, urls=URLS)
    assert str(caught.value) == reason
    assert caught.value.retryable
    assert caught.value.retry_after_s == (7.0 if answer[0] == 429 else 0.0)


def test_a_cache_that_is_away_is_told(purge, closed_port):
    with pytest.raises(JobFailedError, match="cannot be reached"):
        purge(CLOUDFLARE | {"url": f"http://127.0.0.1:{closed_port}"}, urls=URLS)


def test_a_token_comes_from_a_file_or_a_credential(api, purge, tmp_path, monkeypatch):
    entry = {"service": "cloudflare", "zone": "z"}
    with pytest.raises(JobFailedError, match="has no API token: put it into"):
        purge(entry, urls=URLS)
    (tmp_path / "purge-edge").write_text("from-credential\n")
    (tmp_path / "file").write_text("from-file\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    purge(entry, urls=URLS)
    purge(entry | {"token_file": str(tmp_path / "file")}, urls=URLS)
    assert [fields["authorization"] for _, _, fields, _ in api.got] == ["Bearer from-credential", "Bearer from-file"]
    (tmp_path / "file").write_text("two words")
    with pytest.raises(JobFailedError, match="holds no API token"):
        purge(entry | {"token_file": str(tmp_path / "file")}, urls=URLS)
    with pytest.raises(JobFailedError, match="cannot be read from"):
        purge(entry | {"token_file": str(tmp_path / "gone")}, urls=URLS)


def test_a_cache_that_the_settings_name_no_more_is_told(purge):
    with pytest.raises(JobFailedError, match="names no 'edge' any more; it names other"):
        purge(CLOUDFLARE | {"name": "other"}, urls=URLS)

"""Events on their way to a real receiver: signed, told apart by what is answered, and never anywhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket

import msgspec
import pytest

from assetserver.errors import JobFailedError, JobRefusedError
from assetserver.jobs.attempt import Attempt, Outcome
from assetserver.jobs.job import Job, Lease, NewJob
from assetserver.webhooks.events import KIND, RETRY, tell_event
from assetserver.webhooks.sending import webhook_kind

from .receiver import receiving

KEYS = [b"k" * 24, b"l" * 32]
NOW = 1_800_000_000.25


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


def send(url: str, new: NewJob, timeout_s: float = 10.0) -> Outcome:
    values = msgspec.structs.asdict(new)
    del values["delay_s"]
    job = Job(
        id=1, state="running", attempts=1, run_at=0, created=0, finished=None, lease_until=1, worker="w", progress=0, reason="",
        signal=0, **values,
    )  # fmt: skip
    return webhook_kind(url, KEYS, timeout_s, lambda: NOW).handle(Attempt(Lease(job, "t"), 0.0))


def event(**data: object) -> NewJob:
    return tell_event("upload.completed", data, NOW)


def test_an_event_is_sent_as_it_was_recorded_and_signed_with_every_secret(receiver):
    new = event(name="Łódź 🎈.png", size=3)
    assert send(receiver.url, new) is Outcome.DONE
    ((path, fields, body),) = receiver.got
    assert path == "/hook?a=b"
    assert fields["content-type"] == "application/json"
    assert json.loads(body) == {
        "type": "upload.completed",
        "timestamp": "2027-01-15T08:00:00.250Z",
        "data": {"name": "Łódź 🎈.png", "size": 3},
    }
    signed = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + body
    assert fields["webhook-timestamp"] == "1800000000"
    assert fields["webhook-signature"].split(" ") == [
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in KEYS
    ]


def test_sent_again_it_has_the_same_id_and_the_same_bytes(receiver):
    new = event(a=1)
    send(receiver.url, new)
    send(receiver.url, new)
    first, second = ((fields["webhook-id"], body) for _, fields, body in receiver.got)
    assert first == second
    assert event(a=1).key != new.key


@pytest.mark.parametrize(
    ("status", "fields", "kind", "says", "pause_s"),
    [
        (500, {}, JobFailedError, "the receiver answered 500", 0.0),
        (404, {}, JobFailedError, "the receiver answered 404", 0.0),
        (410, {}, JobRefusedError, "the receiver answered 410: it wants no events any more", 0.0),
        (429, {"Retry-After": "120"}, JobFailedError, "the receiver answered 429", 120.0),
        (503, {"Retry-After": "999999999"}, JobFailedError, "the receiver answered 503", 86_400.0),
        (503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, JobFailedError, "the receiver answered 503", 0.0),
    ],
)
def test_what_is_answered_says_whether_it_is_sent_again(receiver, status, fields, kind, says, pause_s):
    receiver.status, receiver.fields = status, fields
    with pytest.raises(JobFailedError, match=f"^{says}$") as caught:
        send(receiver.url, event())
    assert type(caught.value) is kind
    assert caught.value.retry_after_s == pause_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_led_elsewhere(receiver, status):
    with receiving() as elsewhere:
        receiver.status, receiver.fields = status, {"Location": elsewhere.url}
        with pytest.raises(JobFailedError, match=r"redirects are not followed; set webhooks\.url"):
            send(receiver.url, event())
        assert elsewhere.got == []


def test_who_answers_byte_by_byte_is_not_waited_for(receiver):
    receiver.pause_s = 0.05
    with pytest.raises(JobFailedError, match=r"did not answer within 0\.3 s"):
        send(receiver.url, event(), timeout_s=0.3)


def test_who_accepts_and_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(JobFailedError, match="did not answer within"):
        send(f"http://127.0.0.1:{silent.getsockname()[1]}/", event(), timeout_s=0.3)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/secret", "http://nobody.invalid/secret", "https://127.0.0.1:{port}/"])
def test_who_cannot_be_reached_is_told_of_without_the_address(url, closed_port):
    with pytest.raises(JobFailedError, match="the receiver cannot be reached: ") as caught:
        send(url.format(port=closed_port), event())
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_an_answer_without_end_is_not_read(receiver):
    receiver.fields = {"Content-Length": str(1 << 40)}
    receiver.status = 200
    assert send(receiver.url, event()) is Outcome.DONE


def test_an_event_is_tried_over_two_days(receiver):
    assert (event().kind, event().max_attempts) == (KIND, RETRY.attempts)
    assert 1.5 < sum(RETRY.delay_s(number, 0.5) for number in range(1, RETRY.attempts)) / 86_400 < 3

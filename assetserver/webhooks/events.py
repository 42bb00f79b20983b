"""Events as jobs: what is told, with an id that stays the same however often it is sent."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from assetserver.jobs.job import NewJob
from assetserver.jobs.retry import RetryPolicy

KIND = "webhook"
RETRY = RetryPolicy(attempts=16, first_s=5.0, factor=4.0, longest_s=6 * 3600.0)
"""For two days, as a receiver may be away over a night."""


class Event(msgspec.Struct, frozen=True):
    """The payload of a job: the event's id, and the body as it is sent, each time the same."""

    id: str
    body: str


def tell_event(name: str, data: Mapping[str, object], now: float) -> NewJob:
    """Return the job that tells of an event that happened ``now``; ``name`` is such as ``upload.completed``."""
    event_id = "msg_" + secrets.token_urlsafe(18)
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"type": name, "timestamp": when, "data": data}, ensure_ascii=False, separators=(",", ":"))
    payload = msgspec.json.encode(Event(event_id, body)).decode()
    return NewJob(kind=KIND, payload=payload, key=f"{KIND}:{event_id}", max_attempts=RETRY.attempts)

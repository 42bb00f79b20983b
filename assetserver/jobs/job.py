"""What a job is: its states, what is known of it, and the right to run it.

    queued ──claim──▶ running ──complete──▶ done
      ▲ ▲               │ │
      │ └─fail, release─┘ └──fail for good──▶ dead
      └──────────── retry, by people ◀────── dead, cancelled

Laws:
- An attempt is counted when it begins: a job that kills its worker runs out of attempts like any other.
- Who completes, fails or releases a job shows the token of its lease. A lease that ended has another token, or none: a late
  worker changes nothing (a fencing token, Kleppmann 2016).
- Every job may run twice, and the second run changes nothing. That is the handler's to keep.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import msgspec

from assetserver.traces import current_trace

State = Literal["queued", "running", "done", "dead", "cancelled"]
STATES: tuple[State, ...] = get_args(State)

URGENT, NORMAL, LATER = 10, 0, -10
"""Priorities: somebody waits for it; the usual; when there is nothing else to do. Any whole number between is one, too."""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """Work to be done. ``payload`` is JSON that the kind's handler understands.

    ``key``: as long as a job with the same key is queued or running, this one is that one, "" for none; see ``content_key``.
    ``delay_s``: how long it waits at least. ``max_attempts``: how often it is begun at most. ``trace``: the ``traceparent`` of
    what caused it, "" for none.
    """

    kind: str
    payload: str
    key: str = ""
    priority: int = NORMAL
    max_attempts: int = 5
    delay_s: float = 0.0
    trace: str = msgspec.field(default_factory=current_trace)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one moment. Times in seconds since 1970.

    ``attempts`` counts those that were begun. ``progress`` is from 0 to 1. ``reason`` is what went wrong last, and ``signal``
    the number of the one that ended its process, or 0. ``worker`` is who runs it, or ran it last.
    """

    id: int
    kind: str
    key: str
    payload: str
    state: State
    priority: int
    attempts: int
    max_attempts: int
    run_at: float
    created: float
    finished: float | None
    lease_until: float | None
    worker: str
    progress: float
    reason: str
    signal: int
    trace: str = ""


class Lease(msgspec.Struct, frozen=True):
    """The right to run ``job``, as long as it is prolonged and nobody cancels it; ``token`` proves it."""

    job: Job
    token: str


class Failure(msgspec.Struct, frozen=True):
    """Why an attempt failed; ``is_permanent`` if every other one would, too. ``signal``: the one that ended its process."""

    reason: str
    is_permanent: bool = False
    signal: int = 0


def content_key(kind: str, *parts: str) -> str:
    """Return the key of work that is decided by its content, such as the digest of a source and a transform in canonical form.

    Equal parts give equal keys, and no others do: each is told apart by its length.
    """
    told = "".join(f"{len(part)}:{part}" for part in (kind, *parts))
    return hashlib.sha256(told.encode()).hexdigest()

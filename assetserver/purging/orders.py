"""What is to be purged, in batches that a connector can take, as durable jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from assetserver.jobs.job import NewJob, content_key
from assetserver.jobs.retry import RetryPolicy

KIND = "purge"
RETRY = RetryPolicy(attempts=24, first_s=2.0, factor=2.0, longest_s=3600.0)
"""For most of a day: as long as a token is wrong or a CDN's API is away, old answers stay."""


class PurgeOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a job: what one connector is to purge. No secret is in it.

    ``urls`` are absolute, ``tags`` as in ``[[cache]]``, ``roots`` the URLs of whole sites. ``id`` is the same for each attempt.
    """

    connector: str
    id: str
    urls: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()


def order_purge(
    connector: str,
    cause: str,
    *,
    urls: Sequence[str] = (),
    tags: Sequence[str] = (),
    roots: Sequence[str] = (),
    batch: int = 100,
    delay_s: float = 0.0,
) -> Iterator[NewJob]:
    """Yield the jobs that purge these, ``batch`` in each.

    ``cause`` says why: a second order for the same cause is the same work, as long as the first waits or runs.
    """
    pieces = [{kind: one} for kind, found in (("roots", roots), ("tags", tags), ("urls", urls)) for one in _cut(found, batch)]
    for piece in pieces:
        key = content_key(KIND, connector, cause, *(text for kind, found in piece.items() for text in (kind, *found)))
        order = PurgeOrder(connector=connector, id=f"msg_{key[:24]}", **piece)
        payload = msgspec.json.encode(order).decode()
        yield NewJob(kind=KIND, payload=payload, key=key, max_attempts=RETRY.attempts, delay_s=delay_s)


def _cut(found: Sequence[str], batch: int) -> Iterator[tuple[str, ...]]:
    unique = sorted(set(found))
    for start in range(0, len(unique), batch):
        yield tuple(unique[start : start + batch])

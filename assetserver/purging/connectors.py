"""What a connector is: it turns an order into the requests that a cache's API documents. Pure; ``sending`` sends them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from .orders import PurgeOrder


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """A request to a cache. ``url`` is absolute; a ``Host`` in ``fields`` is sent instead of the URL's own."""

    method: str
    url: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""


class Connector(Protocol):
    """Speaks to one kind of cache. Every request may be repeated."""

    batch: int
    """How many URLs, tags or sites one order may name."""

    def make_requests(self, order: PurgeOrder) -> Iterable[PurgeRequest]:
        """Return the requests that carry an order out, in their order. Raises ``JobFailedError`` where the token is missing."""
        ...


def post_json(url: str, content: object, fields: Mapping[str, str]) -> PurgeRequest:
    """Return a POST of ``content``."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return PurgeRequest("POST", url, {"Content-Type": "application/json", **fields}, body)


def split_url(url: str) -> tuple[str, str]:
    """Return host and path of an absolute URL, the path with its query."""
    parts = urlsplit(url)
    return parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def as_prefixes(roots: Iterable[str]) -> Iterator[str]:
    """Yield host and path of sites, as in ``www.example.com/docs/``."""
    yield from ("".join(split_url(root)) for root in roots)

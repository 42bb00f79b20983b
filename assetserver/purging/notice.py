"""A webhook for every other cache: what is to be purged, told to an address of the operator's, signed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from .connectors import Connector, PurgeRequest
from .orders import PurgeOrder

EVENT = "cache.purge"

SignFields = Callable[[str, int, bytes], dict[str, str]]
"""Returns the fields that sign a body: of an id, a time in seconds since 1970, and the bytes."""


class Notice(Connector):
    """Tells ``url`` what to purge: ``{"type": "cache.purge", "data": {"urls": […], "tags": […], "roots": […]}}``."""

    batch = 1000

    def __init__(self, url: str, sign: SignFields, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._sign = sign
        self._clock = clock

    def make_requests(self, order: PurgeOrder) -> Iterator[PurgeRequest]:
        """Return the one request; its body is the same for each attempt."""
        data = {"urls": order.urls, "tags": order.tags, "roots": order.roots}
        body = json.dumps({"type": EVENT, "data": data}, ensure_ascii=False, separators=(",", ":")).encode()
        signed = self._sign(order.id, int(self._clock()), body)
        yield PurgeRequest("POST", self._url, {"Content-Type": "application/json", **signed}, body)

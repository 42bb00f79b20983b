"""Connections that were ended because of how their clients spoke, or how slowly; counted."""

from __future__ import annotations

from .board import Block
from .families import family

CONNECTIONS = "assetserver.connections"
"""Under this name the lifespan state of an application holds its ``ConnectionCounts``."""

_ERRORS, _TIMEOUTS = family("http_protocol_errors_total"), family("http_timeouts_total")
_PREAMBLES = family("proxy_headers_refused_total")
_LATE = 408
_REASONS = {400: "malformed", 414: "target-too-long", 431: "fields-too-large"}


class ConnectionCounts:
    """Counts into ``block``, on the thread of one event loop; without a block, nothing."""

    def __init__(self, block: Block | None = None) -> None:
        self._slots = None if block is None else block.slots

    def refuse(self, status: int, *, is_in_body: bool) -> None:
        """Count a request that was no HTTP, was beyond a limit, or did not come in time."""
        if self._slots is None:
            return
        if status == _LATE:
            self._slots[_TIMEOUTS.slot("body" if is_in_body else "head")] += 1
        elif status in _REASONS:
            self._slots[_ERRORS.slot(_REASONS[status])] += 1

    def refuse_proxy_header(self, reason: str) -> None:
        """Count a connection without the header that is demanded of it: ``untrusted``, ``malformed`` or ``late``."""
        if self._slots is not None:
            self._slots[_PREAMBLES.slot(reason)] += 1

    def cut_off(self) -> None:
        """Count a client that did not take its answer in time."""
        if self._slots is not None:
            self._slots[_TIMEOUTS.slot("send")] += 1

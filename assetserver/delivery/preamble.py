"""``PreambleProtocol``: an ``AssetProtocol`` that demands the header of the PROXY protocol, and then speaks HTTP as ever.

Without a whole, exact header from a trusted proxy a connection is closed without a word: who could do without one could say
who they are themselves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from assetserver.semantics.forwarding import Address, TrustedProxies
from assetserver.semantics.proxyprotocol import Found, Incomplete, Version, parse_proxy_header

from .protocol import AssetProtocol

logger = logging.getLogger(__name__)

PREAMBLE = "assetserver.preamble"
"""Under this name the lifespan state of an application holds its ``Preambles``."""

PREAMBLE_S = 5.0
"""How long a proxy may take for a header."""


TELL_EVERY_S = 60.0

_REASONS = {
    "untrusted": "it is not of a trusted proxy",
    "malformed": "it does not begin with the header that server.proxy_protocol demands",
    "late": f"its header did not come within {PREAMBLE_S:g} s",
}


class Preambles:
    """Which ``version`` is demanded, from whom, and how many connections were closed for want of it, by reason."""

    def __init__(self, version: Version, trusted: TrustedProxies) -> None:
        self.version = version
        self.trusted = trusted
        self.refused = dict.fromkeys(_REASONS, 0)
        self._told_s = float("-inf")

    def note_refused(self, reason: str, peer: Address | None, now_s: float) -> None:
        """Count a connection that is closed, and say so now and then."""
        self.refused[reason] += 1
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            who = peer[0] if peer else "a Unix socket"
            logger.warning("a connection of %s is closed: %s (%d so far)", who, _REASONS[reason], sum(self.refused.values()))


class PreambleProtocol(AssetProtocol):
    """One connection that begins with a header."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._preambles: Preambles = self.app_state[PREAMBLE]
        self._head: bytes | None = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if it is a trusted proxy that connected."""
        super().connection_made(transport)
        if not self._preambles.trusted.trusts(self.client):
            self._close("untrusted")

    def data_received(self, data: bytes) -> None:
        """Take the header, and hand on what stands behind it."""
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        found = parse_proxy_header(self._head, self._preambles.version)
        if found is Incomplete.WRONG:
            self._close("malformed")
        elif isinstance(found, Found):
            rest, self._head = self._head[found.length :], None
            self._begin(found.source)
            if rest:
                super().data_received(rest)

    def _begin(self, source: Address | None) -> None:
        """Go on as the connection of whoever the proxy told of."""
        self._active_s = self.loop.time()
        if source is not None and self._hot is not None:
            self.client = source
            self._hot.open(self.transport, source)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether to stay."""
        return self._head is None and super().eof_received()

    def check_deadline(self, now_s: float) -> None:
        """End the connection if the header does not come."""
        if self._head is None:
            super().check_deadline(now_s)
        elif now_s - self._begun_s > PREAMBLE_S and not self.transport.is_closing():
            self._close("late")

    def _close(self, reason: str) -> None:
        self._counts.refuse_proxy_header(reason)
        self._preambles.note_refused(reason, self.client, self.loop.time())
        self._is_over, self._head = True, None
        self.transport.abort()

"""``LiveSocket``: Uvicorn's WebSocket protocol within the limits that ``AssetProtocol`` sets. As that, it knows its insides.

A connection becomes one when its client asks for it at a URL that is a WebSocket (see ``upgrades``). Uvicorn pings it every
twenty seconds, and ends it where no pong comes; here it counts for the gate until it ends, and nothing that a client sends
piles up: not what comes before it is let in, not answers to pings that it does not take (RFC 6455 §5.5.3 wants only the last).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import Ping

from . import limits
from .gate import GATE, Gate


class LiveSocket(WSProtocol):
    """One connection, from its upgrade on."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._gate: Gate | None = self.app_state.get(GATE)
        self._taken_s = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with the client of the connection that this one was."""
        super().connection_made(transport)
        self.client = getattr(transport.get_protocol(), "client", self.client)

    def data_received(self, data: bytes) -> None:
        """Take what comes; after the request nothing until it is answered, for it would all be kept."""
        super().data_received(data)
        if not self.handshake_complete and not self.transport.is_closing():
            self.transport.pause_reading()

    def start_keepalive(self) -> None:
        """Go on, once the client was let in."""
        super().start_keepalive()
        self.transport.resume_reading()

    def handle_ping(self, event: Ping) -> None:
        """Answer a ping, if the client takes answers."""
        if self.writable.is_set():
            super().handle_ping(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and count one less inside."""
        super().connection_lost(exc)
        if self._gate is not None:
            self._gate.leaves(self.client)

    def check_deadline(self, now_s: float) -> None:
        """End the connection if its client takes nothing; called by the sweep."""
        if not self.transport.get_write_buffer_size():
            self._taken_s = now_s
        elif now_s - self._taken_s > limits.SEND_IDLE_S:
            self.transport.abort()

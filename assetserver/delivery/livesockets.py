"""``LiveSocket``: Uvicorn's WebSocket protocol within the limits that ``AssetProtocol`` sets. As that, it knows its insides.

A connection becomes one when its client asks for it at a URL that is a WebSocket (see ``upgrades``). Uvicorn pings it every
twenty seconds, and ends it where no pong comes; here it counts for the gate until it ends.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from . import limits
from .gate import GATE, Gate


class LiveSocket(WSProtocol):
    """One connection, from its upgrade on."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._gate: Gate | None = self.app_state.get(GATE)
        self._taken_s = self.loop.time()

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

"""HTTP/2, as an experiment: Uvicorn's own protocol for connections that begin so, ``AssetProtocol`` for all others.

Over TLS the client chooses by ALPN; in clear it begins with the preface of HTTP/2 ("prior knowledge"). Such connections know
neither the hot path nor files that the kernel sends. Of our deadlines two hold: for who asks for nothing, whatever frames it
sends, and for who takes nothing from the socket. Who lets a stream's window stand at zero is not ended; limits are Uvicorn's.

Source: RFC 9113 §3.3, §3.4.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import zttp
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

from . import limits
from .protocol import AssetProtocol
from .sweep import watch


class Http2Protocol(ZttpH2Protocol):
    """A connection of HTTP/2. A client that takes back what it asked for (RFC 9113 §6.4) is no error of the application's."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._own_app = self.app
        self.app = self._serve
        self._active_s = self._taken_s = self.loop.time()
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and be looked at by the sweep."""
        super().connection_made(transport)
        watch(self.server_state, self.loop)

    def handle_request(self, event: zttp.Request) -> None:
        """Begin to answer a stream."""
        self._active_s = self.loop.time()
        super().handle_request(event)

    def check_deadline(self, now_s: float) -> None:
        """End the connection if its client takes nothing, or has asked for nothing in a while; called by the sweep.

        Uvicorn's own timer begins anew with every frame, and not at all before the first.
        """
        waiting = self.transport.get_write_buffer_size()
        if not waiting or waiting != self._unsent:
            self._unsent, self._taken_s = waiting, now_s
        elif now_s - self._taken_s > limits.SEND_IDLE_S:
            self.transport.abort()
        if self.cycles:
            self._active_s = now_s
        elif now_s - self._active_s > self.timeout_keep_alive:
            self._close_connection()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__")  # noqa: B009 - a Send is a function to mypy

        async def send_if_wanted(message: Message) -> None:
            try:
                await send(message)
            except zttp.LocalProtocolError:
                with suppress(zttp.LocalProtocolError):
                    cycle.abort_stream()
                cycle.disconnected = True

        await self._own_app(scope, receive, send_if_wanted)


class EitherProtocol(AutoZttpProtocol):
    """A connection of which it is not known yet what it will speak."""

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        make = Http2Protocol if http2 else AssetProtocol
        protocol = make(config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)

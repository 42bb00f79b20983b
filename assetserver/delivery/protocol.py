"""``AssetProtocol``: Uvicorn's httptools protocol with a hot path, deadlines and limits. No other file knows its insides.

Laws:
- The hot path only repeats what the slow path sent (``hotcache``). In doubt the same bytes, untouched, go to Uvicorn.
- It is taken only between requests: nothing unfinished before it, and what came is exactly one request without a body.
- Who is slow is told so once (408, 431, 414), and the connection ends; one sweep a second looks at all connections.

Source: RFC 9112 §9.3 (persistence), §9.6 (tear-down); RFC 9110 §7.8 (a server may ignore ``Upgrade``), §6.5 (trailers are not
header fields), §15.5.9, §15.5.15; RFC 6585 §5.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from assetserver.errors import FileChangedError
from assetserver.metrics.connections import CONNECTIONS, ConnectionCounts
from assetserver.semantics.framing import find_refusal

from . import limits
from .arriving import give_piece, offer_body
from .claims import OFFER, Claim
from .gate import GATE
from .hotcache import HOT, FileBody, HotCache
from .hotpath import HotConnection
from .interim import offer_interim
from .lastbytes import receive_rest
from .pace import Pace
from .sendfile import FILE, PATH, FilePart, FileSender, can_sendfile, open_path, stream_part
from .sweep import watch
from .upgrades import UPGRADES, without_upgrade


class AssetProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        cache: HotCache | None = self.app_state.get(HOT)
        self._hot = HotConnection(cache, self.loop, self.server_state, self) if cache is not None else None
        self._slow_app = self.app
        self.app = self._serve
        self._data: bytes | None = None
        self._is_receiving = False
        self._is_in_body = False
        self._is_over = False
        self._refused = 400
        self._fields = self._header_bytes = self._unread_bytes = 0
        self._begun_s = self._active_s = self.loop.time()
        self._unsent = -1
        self._ended_s = float("inf")
        self._sender: FileSender | None = None
        self._gate, self._pace = self.app_state.get(GATE), Pace()
        self._counts: ConnectionCounts = self.app_state.get(CONNECTIONS) or ConnectionCounts()
        self._websockets: re.Pattern[bytes] | None = self.app_state.get(UPGRADES) if self.ws_protocol_class else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch a connection."""
        super().connection_made(transport)
        if self._gate is not None and not self._gate.admits(transport, self.client, len(self.connections), self.loop):
            self.connections.discard(self)
            return
        if self._hot is not None:
            self._hot.open(transport, self.client)
        watch(self.server_state, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is going on."""
        super().connection_lost(exc)
        if self._gate is not None:
            self._gate.leaves(self.client)
        if self._sender is not None:
            self._sender.stop()
        if self._hot is not None:
            self._hot.end()

    def eof_received(self) -> bool:  # type: ignore[override]  # Uvicorn returns nothing: it closes
        """Return whether to stay: a client that sends no more may still wait for what it asked for."""
        if self._is_receiving or self._is_over or self.is_free():
            return False
        if self._hot is not None and self._hot.sender is not None:
            self._hot.close()
        else:
            newest = self.pipeline[0][0] if self.pipeline else self.cycle
            newest.keep_alive, self._ended_s = False, self.loop.time()
        return True

    def data_received(self, data: bytes) -> None:
        """Answer at once what is hot; pass all else on, as it came."""
        if self._is_over:
            return
        if self._hot is not None and self.is_free():
            if self._hot.answer(data):
                return
            if data.count(b"\r\n\r\n") > 1 and not (data := self._hot.answer_several(data)):
                return
        self._feed(data)

    def is_free(self) -> bool:
        """Tell whether nothing is unfinished: no request, no answer, and nothing that the client has yet to take."""
        if self._is_receiving or self.flow.write_paused or (self._hot is not None and self._hot.sender is not None):
            return False
        return self.cycle is None or self.cycle.response_complete

    def _feed(self, data: bytes) -> None:
        """Pass bytes on to Uvicorn."""
        self._unread_bytes += len(data)
        if self._is_receiving:
            self._active_s = self.loop.time()
        else:
            self._data = data = without_upgrade(data, self._websockets)
        super().data_received(data)
        self._data = None
        if self._is_receiving and self._unread_bytes > limits.LIMIT_UNREAD_BYTES and not self._is_over:
            self._refuse(431)  # a name, a value or a trailer that does not end: the parser would only hand over all of it

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or is beyond a limit."""
        del msg
        self._refuse(self._refused)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and keep what it sends if it says that this may be repeated."""
        receive = receive_rest(receive, getattr(send, "__self__"))  # noqa: B009 - a Send is a function to mypy
        data = scope.pop("assetserver.data", None)
        claims: list[Claim] = []
        if self._hot is not None and scope["method"] in ("GET", "HEAD"):
            scope[OFFER] = claims.append
        if self.scheme == "http" and can_sendfile():
            scope["extensions"] = {**scope.get("extensions", {}), PATH: {}, FILE: {"receive": receive}}
        offer_interim(scope, getattr(send, "__self__"), self.transport)  # noqa: B009 - a Send is a function to mypy
        offer_body(scope, getattr(send, "__self__"))  # noqa: B009 - as above
        start: Message = {}
        file: FileBody | None = None

        async def send_keeping(message: Message) -> None:
            nonlocal start, file
            if message["type"] in _FILES:
                is_first, file = file is None, FileBody.of(message)
                if not await self._send_file(message, send) or not is_first:  # streamed, or not all
                    start = {}
                return
            if message["type"] == "http.response.start":
                start = message
            elif message.get("more_body", False):  # what comes in pieces is not kept: the last one is not all
                start = {}
            elif claims and start and data is not None and self._hot is not None:
                self._hot.keep(claims[-1], data, start, message.get("body", b""), file, STATUS_LINE[start["status"]])
            if self.transport.is_closing():  # Uvicorn would write to it
                getattr(send, "__self__").disconnected = True  # noqa: B009 - a Send is a function to mypy
                return
            await send(message)

        await self._slow_app(scope, receive, send_keeping)
        getattr(send, "__self__").scope = {"method": scope["method"]}  # noqa: B009 - else what the scope holds would hold it

    # Files

    async def _send_file(self, message: Message, send: Send) -> bool:
        """Send what a message of a file says, after all that was sent before it; return whether the kernel did."""
        cycle: Any = getattr(send, "__self__")  # noqa: B009 - a Send is a function to mypy
        if cycle.disconnected:
            message["sent"] = 0
            return False
        if not cycle.response_started or cycle.response_complete:
            return False  # whoever holds back the start of the answer does not know this message
        message["sent"] = 0
        if message["type"] == FILE:
            opened = message.get("opened")
            part = FilePart(message["file"], message["offset"], message["count"], message["check"], opened)
            return await self._send_part(part, message, send)
        part = await open_path(message["path"])
        try:
            is_sent = await self._send_part(part, message, send)
        finally:
            os.close(part.descriptor)
        await send({"type": "http.response.body"})
        return is_sent

    async def _send_part(self, part: FilePart, message: Message, send: Send) -> bool:
        cycle: Any = getattr(send, "__self__")  # noqa: B009
        if cycle.scope["method"] == "HEAD" or cycle.disconnected or not part.length:
            return True
        if not cycle.chunked_encoding and part.length > cycle.expected_content_length:
            raise FileChangedError(
                f"a file of {part.length} bytes is longer than the answer promises; the connection is closed"
            )
        if not cycle.chunked_encoding and await self._send_by_kernel(cycle, part, message):
            return True
        rest = part._replace(offset=part.offset + message["sent"], length=part.length - message["sent"])
        await stream_part(rest, send)
        message["sent"] = part.length
        return False

    async def _send_by_kernel(self, cycle: Any, part: FilePart, message: Message) -> bool:
        """Send a part of a file by the kernel; return whether that was possible. ``message`` says how much was sent."""
        await self._wait_sent()
        if self.transport.is_closing():
            self._leave(cycle)
            return True
        try:
            sender = FileSender(self.loop, self.transport.get_extra_info("socket").fileno(), part)
        except OSError:  # no descriptor left
            return False
        self._sender = sender
        try:
            is_possible = await sender.run()
        finally:
            message["sent"], self._sender = sender.sent, None
        cycle.expected_content_length -= sender.sent
        self._active_s = self.loop.time()
        if is_possible and sender.sent < part.length:
            self._leave(cycle)
        return is_possible

    def shutdown(self) -> None:
        """End the connection after what is going on; called by Uvicorn when the server stops."""
        if self._hot is not None and self._hot.sender is not None:
            self._hot.close()
        else:
            super().shutdown()

    async def _wait_sent(self) -> None:
        """Wait until the transport has nothing left to write, or the client is gone."""
        self.transport.set_write_buffer_limits(high=0)  # so that it tells when it is empty
        try:
            while self.transport.get_write_buffer_size() and not self.transport.is_closing():
                await self.flow.drain()
        finally:
            self.transport.set_write_buffer_limits()

    def _leave(self, cycle: Any) -> None:
        """Treat the client as gone: a write to it failed, which the transport does not know."""
        cycle.disconnected = True
        cycle.message_event.set()
        self.transport.abort()

    # What Uvicorn's parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_receiving, self._is_in_body = True, False
        self._begun_s = self._active_s = self.loop.time()
        self._fields = self._header_bytes = self._unread_bytes = 0
        self.scope["assetserver.data"] = self._data  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        super().on_url(url)
        if len(self.url) > limits.LIMIT_URL_BYTES:
            raise self._limit(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those after the body are trailers, and none of the header's (RFC 9110 §6.5)."""
        if self._is_in_body:
            return
        self._fields += 1
        self._header_bytes += len(name) + len(value)
        if self._fields > limits.LIMIT_FIELDS or self._header_bytes > limits.LIMIT_HEADER_BYTES:
            raise self._limit(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if status := find_refusal(self.parser.get_http_version(), self.url, self.headers):
            raise self._limit(status)
        is_ignored = self.parser.should_upgrade() and not self._should_upgrade()
        if is_ignored and self._has_body():
            raise self._limit(400)
        super().on_headers_complete()
        self._is_in_body = True
        if is_ignored:  # here the parser stops: what follows would be lost, and is asked for on another connection
            self._is_over, self.cycle.keep_alive = True, False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unread_bytes = 0
        super().on_body(give_piece(self.cycle, body))

    def _should_upgrade(self) -> bool:
        """Tell whether a request opens a WebSocket: where there is one, and all before it is answered."""
        is_there = self._websockets is not None and self._websockets.fullmatch(self.url) and not self._has_body()
        return bool(is_there) and (self.cycle is None or self.cycle.response_complete) and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to a ``LiveSocket``."""
        if self._hot is not None:
            self._hot.end()
        super().handle_websocket_upgrade()

    def _has_body(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def on_message_complete(self) -> None:
        """End a request."""
        self._is_receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request. The sweep closes idle connections: no timer for each."""
        is_last = not self.pipeline
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._active_s = self.loop.time()
        if self._is_over and is_last and not self.transport.is_closing():
            self._end(is_free=True)

    # Deadlines

    def check_deadline(self, now_s: float) -> None:
        """End the connection if its client takes too long; called by the sweep, which knows only those that were made."""
        if self._gate is not None and self._pace.is_too_slow(now_s, self._count_left(), self.transport, self._gate.pace):
            self._cut_off()
        sender, active_s = self._sender, self._active_s
        if self._hot is not None:
            sender, active_s = sender or self._hot.sender, max(active_s, self._hot.active_s)
        idle_s = now_s - active_s
        if self._is_sending(now_s, idle_s) or self.transport.is_closing():
            return
        if sender is not None:
            if sender.idle_s(now_s) > limits.SEND_IDLE_S:
                self._cut_off()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._check_waiting(now_s, idle_s)
        elif self._is_receiving:
            self._check_receiving(now_s, idle_s)
        elif idle_s > (self._gate.idle_limit_s(now_s, self.timeout_keep_alive) if self._gate else self.timeout_keep_alive):
            self.transport.close()

    def _check_waiting(self, now_s: float, idle_s: float) -> None:
        if self._is_receiving and not self.flow.read_paused and idle_s > limits.BODY_IDLE_S:
            self._refuse(408)
        elif now_s - self._ended_s > limits.BODY_IDLE_S:  # who sends no more may also be gone, which only writing tells
            self._leave(self.cycle)

    def _check_receiving(self, now_s: float, idle_s: float) -> None:
        if not self._is_in_body:
            if now_s - self._begun_s > limits.HEADER_S:
                self._refuse(408)
        elif idle_s > limits.BODY_IDLE_S or now_s - self._begun_s > limits.LEFTOVER_S:  # answered already: the rest is nobody's
            self.transport.close()

    def _count_left(self) -> int:
        """Return how many bytes of the answer the kernel has yet to be given; 0 if it has all, or the length is not known."""
        if self._hot is not None and self._hot.sender is not None:
            return self._hot.sender.left
        cycle, sender, waiting = self.cycle, self._sender, self.transport.get_write_buffer_size()
        if not (waiting or sender) or cycle is None or cycle.response_complete:
            return waiting
        return 0 if cycle.chunked_encoding else waiting + cycle.expected_content_length - (sender.sent if sender else 0)

    def _is_sending(self, now_s: float, idle_s: float) -> bool:
        """Tell whether the client has yet to take what was written; end the connection if it takes nothing."""
        waiting = self.transport.get_write_buffer_size()
        if waiting != self._unsent:
            self._unsent = waiting
            self._active_s = now_s if waiting else self._active_s
        elif waiting and idle_s > limits.SEND_IDLE_S:
            self._cut_off()
        return waiting > 0

    def _cut_off(self) -> None:
        """End the connection of a client that does not take its answer."""
        self._counts.cut_off()
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        """End the connection once what was asked before is answered; say why, unless that would be a second answer."""
        cycle, is_in_body = self.cycle, self._is_receiving and self._is_in_body
        self._counts.refuse(status, is_in_body=is_in_body)
        self._is_over, self._refused, self._is_receiving = True, status, False
        if is_in_body and self.pipeline:  # the newest is the one that is refused
            self.pipeline.popleft()
        elif is_in_body:
            cycle.disconnected = True
            cycle.message_event.set()
            self._end(is_free=not cycle.response_started)
        elif cycle is None or cycle.response_complete:
            self._end(is_free=True)

    def _end(self, *, is_free: bool) -> None:
        if is_free:
            self.transport.write(STATUS_LINE[self._refused] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def _limit(self, status: int) -> ValueError:
        """Note how to refuse the request, and return what stops the parser."""
        self._refused = status
        return ValueError(STATUS_LINE[status])


_FILES = frozenset({FILE, PATH})

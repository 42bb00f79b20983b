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
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from assetserver.errors import FileChangedError

from .hotcache import HOT, OFFER, Answer, Claim, HotCache, is_repeatable
from .interim import offer_interim
from .lastbytes import receive_rest
from .leanrequest import LeanRequest
from .sendfile import FILE, PATH, FilePart, FileSender, can_sendfile, open_path, stream_part
from .upgrades import without_upgrade

LIMIT_URL_BYTES = 16 << 10
LIMIT_FIELDS = 128
LIMIT_HEADER_BYTES = 64 << 10
LIMIT_UNREAD_BYTES = LIMIT_URL_BYTES + LIMIT_HEADER_BYTES + 4 * LIMIT_FIELDS

HEADER_S = 10.0
"""How long a client may take for the header of a request."""

BODY_IDLE_S = 30.0
"""How long a client may send nothing of a body that is waited for."""

SEND_IDLE_S = 60.0
"""How long a client may take nothing of an answer."""

SWEEP_S = 1.0


class AssetProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._hot: HotCache | None = self.app_state.get(HOT)
        self._slow_app = self.app
        self.app = self._serve
        self._lean = LeanRequest(is_behind_proxy=self.config.proxy_headers)
        self._data: bytes | None = None
        self._is_receiving = False
        self._is_in_body = False
        self._is_over = False
        self._refused = 400
        self._fields = self._header_bytes = self._unread_bytes = 0
        self._begun_s = self._active_s = self.loop.time()
        self._unsent = -1
        self._sender: FileSender | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch a connection."""
        super().connection_made(transport)
        _watch(self.server_state, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is going on."""
        super().connection_lost(exc)
        if self._sender is not None:
            self._sender.stop()

    def data_received(self, data: bytes) -> None:
        """Answer at once what is hot; pass all else on, as it came."""
        if self._is_over:
            return
        if self._hot is not None and self._is_free():
            known = self._hot.find_request(data)
            if known is not None:
                self._repeat(known.answer, known.scope)
                return
            if self._answer_hot(data):
                return
        self._feed(data)

    def _is_free(self) -> bool:
        """Tell whether nothing is unfinished: no request, no answer, and nothing that the client has yet to take."""
        return not (self._is_receiving or self.flow.write_paused) and (self.cycle is None or self.cycle.response_complete)

    def _answer_hot(self, data: bytes) -> bool:
        """Answer a request whose target and deciding fields are known; return whether it was."""
        assert self._hot is not None  # noqa: S101 - asked by the caller
        request = self._lean.read(data)
        if request is None:
            return False
        host, target, variant = request
        answer = self._hot.find(host, target, variant)
        if answer is None:
            return False
        scope = self._lean.describe(target) if self._hot.is_logging else {}
        self._hot.admit_request(data, answer, scope)
        self._repeat(answer, scope)
        return True

    def _repeat(self, answer: Answer, scope: dict[str, Any]) -> None:
        assert self._hot is not None  # noqa: S101 - asked by the caller
        self.transport.write(self._hot.render(answer, self.server_state.default_headers))
        self._active_s = self.loop.time()
        self.server_state.total_requests += 1
        if self._hot.is_logging:
            self._hot.note(answer, scope, self.client)

    def _feed(self, data: bytes) -> None:
        """Pass bytes on to Uvicorn."""
        self._unread_bytes += len(data)
        if self._is_receiving:
            self._active_s = self.loop.time()
        else:
            self._data = data = without_upgrade(data)
        super().data_received(data)
        self._data = None
        if self._is_receiving and self._unread_bytes > LIMIT_UNREAD_BYTES and not self._is_over:
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
        if self._hot is not None and scope["method"] == "GET":
            scope[OFFER] = claims.append
        if self._has_sendfile:
            scope["extensions"] = {**scope.get("extensions", {}), PATH: {}, FILE: {"receive": receive}}
        offer_interim(scope, getattr(send, "__self__"), self.transport)  # noqa: B009 - a Send is a function to mypy
        start: Message = {}

        async def send_keeping(message: Message) -> None:
            nonlocal start
            if message["type"] in _FILES:
                start = {}
                await self._send_file(message, send)
                return
            if message["type"] == "http.response.start":
                start = message
            elif message.get("more_body", False):  # what comes in pieces is not kept: the last one is not all
                start = {}
            elif claims and start:
                self._keep(claims[-1], data, start, message.get("body", b""))
            if self.transport.is_closing():  # Uvicorn would write to it
                getattr(send, "__self__").disconnected = True  # noqa: B009 - a Send is a function to mypy
                return
            await send(message)

        await self._slow_app(scope, receive, send_keeping)

    def _keep(self, claim: Claim, data: bytes | None, start: Message, body: bytes) -> None:
        """Let an answer be repeated, if the request is one that the hot path could have read."""
        if data is None or self._hot is None or not is_repeatable(start["status"], start["headers"], body):
            return
        request = self._lean.read(data)
        if request is None:
            return
        host, target, variant = request
        fields = [
            _HIT if name == b"cache-status" else (name, value) for name, value in start["headers"] if name != b"x-request-id"
        ]
        self._hot.admit(
            host, target, variant, Answer(claim, start["status"], STATUS_LINE[start["status"]], fields, bytes(body))
        )

    # Files

    @property
    def _has_sendfile(self) -> bool:
        return self.scheme == "http" and can_sendfile()

    async def _send_file(self, message: Message, send: Send) -> None:
        """Send what a message of a file says, after all that was sent before it."""
        cycle: Any = getattr(send, "__self__")  # noqa: B009 - a Send is a function to mypy
        if not cycle.response_started or cycle.response_complete:
            return  # whoever holds back the start of the answer does not know this message
        message["sent"] = 0
        if message["type"] == FILE:
            part = FilePart(message["file"], message["offset"], message["count"], message["check"])
            await self._send_part(part, message, send)
            return
        part = await open_path(message["path"])
        try:
            await self._send_part(part, message, send)
        finally:
            os.close(part.descriptor)
        await send({"type": "http.response.body"})

    async def _send_part(self, part: FilePart, message: Message, send: Send) -> None:
        cycle: Any = getattr(send, "__self__")  # noqa: B009
        if cycle.scope["method"] == "HEAD" or cycle.disconnected or not part.length:
            return
        if not cycle.chunked_encoding and part.length > cycle.expected_content_length:
            raise FileChangedError(
                f"a file of {part.length} bytes is longer than the answer promises; the connection is closed"
            )
        if not cycle.chunked_encoding and await self._send_by_kernel(cycle, part, message):
            return
        rest = part._replace(offset=part.offset + message["sent"], length=part.length - message["sent"])
        await stream_part(rest, send)
        message["sent"] = part.length

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
        if len(self.url) > LIMIT_URL_BYTES:
            raise self._limit(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those after the body are trailers, and none of the header's (RFC 9110 §6.5)."""
        if self._is_in_body:
            return
        self._fields += 1
        self._header_bytes += len(name) + len(value)
        if self._fields > LIMIT_FIELDS or self._header_bytes > LIMIT_HEADER_BYTES:
            raise self._limit(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise self._limit(400)  # 505 is right, and would count as a failure of ours
        if self.parser.should_upgrade() and not self._should_upgrade() and self._has_body():
            raise self._limit(400)
        super().on_headers_complete()
        self._is_in_body = True

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unread_bytes = 0
        super().on_body(body)

    def _has_body(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def on_message_complete(self) -> None:
        """End a request."""
        self._is_receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request. The sweep closes idle connections: no timer for each."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._active_s = self.loop.time()

    # Deadlines

    def check_deadline(self, now_s: float) -> None:
        """End the connection if its client takes too long; called by the sweep, which knows only those that were made."""
        idle_s = now_s - self._active_s
        if self._is_sending(now_s, idle_s) or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._check_transfer(now_s, idle_s)
        elif self._is_receiving and self._is_in_body:  # answered already: what is left of the body is nobody's
            if idle_s > BODY_IDLE_S:
                self.transport.close()
        elif self._is_receiving:
            if now_s - self._begun_s > HEADER_S:
                self._refuse(408)
        elif idle_s > self.timeout_keep_alive:
            self.transport.close()

    def _is_sending(self, now_s: float, idle_s: float) -> bool:
        """Tell whether the client has yet to take what was written; end the connection if it takes nothing."""
        waiting = self.transport.get_write_buffer_size()
        if waiting != self._unsent:
            self._unsent = waiting
            self._active_s = now_s if waiting else self._active_s
        elif waiting and idle_s > SEND_IDLE_S:
            self.transport.abort()
        return waiting > 0

    def _check_transfer(self, now_s: float, idle_s: float) -> None:
        if self._sender is not None:
            if self._sender.idle_s(now_s) > SEND_IDLE_S:
                self.transport.abort()
        elif self._is_receiving and not self.flow.read_paused and idle_s > BODY_IDLE_S:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """End the connection; say why, unless that would stand in another answer, or be a second one."""
        self._is_over = True
        cycle = self.cycle
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._is_receiving and self._is_in_body:  # of the newest request
            is_free = not cycle.response_started
        else:
            is_free = cycle is None or cycle.response_complete
        if is_free and not self.pipeline:
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def _limit(self, status: int) -> ValueError:
        """Note how to refuse the request, and return what stops the parser."""
        self._refused = status
        return ValueError(STATUS_LINE[status])


_HIT = b"cache-status", b"assetserver; hit"
"""What an answer says that comes from memory, whatever it said when it was made."""

_FILES = frozenset({FILE, PATH})

_EXPECTED = (
    *("connection_made", "connection_lost", "data_received", "send_400_response", "on_message_begin", "on_url", "on_header"),
    *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete", "_unset_keepalive_if_required"),
)


def what_is_missing() -> str:
    """Return which method of Uvicorn's protocol that this module builds on is not there, or ""."""
    return next((name for name in _EXPECTED if not callable(getattr(HttpToolsProtocol, name, None))), "")


def _watch(state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
    """Look at all connections of a server once a second, as long as there are any: no timer for each."""
    if getattr(state, _SWEEP, None) is None:
        setattr(state, _SWEEP, loop.call_later(SWEEP_S, _sweep, state, loop))


def _sweep(state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
    setattr(state, _SWEEP, None)
    now_s = loop.time()
    for connection in [one for one in state.connections if isinstance(one, AssetProtocol)]:
        connection.check_deadline(now_s)
    if state.connections:
        _watch(state, loop)


_SWEEP = "assetserver_sweep"

"""The body of a request as it comes: in pieces, from a client that may stop, trickle, or go.

Laws:
- Nothing is read before it is asked for: the first ``receive()`` is what answers ``Expect: 100-continue``.
- Only the time that the client lets us wait counts against it, never the time that our disk takes.
- Who is refused is told so: what they still send is taken for a while, since closing a connection with unread bytes resets it,
  and the reset may overtake the answer (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from .errors import RateError

DRAIN_BYTES = 8 << 20
DRAIN_S = 2.0
"""What of a refused body is taken and thrown away, and for how long."""

ARRIVING = "assetserver.arriving"
"""The extension of a scope that knows what has arrived: ``take(limit_bytes)`` gives the body if all of it is there, and no
longer, else None; ``wake()`` ends a ``receive()`` that waits, with no bytes."""

_KEY = "assetserver.body"


class Pace(NamedTuple):
    """How slow a client may be: silent for ``idle_s``, and in each ``window_s`` of waiting at least ``rate`` bytes a second."""

    idle_s: float = 30.0
    rate: int = 1024
    window_s: float = 60.0


DEFAULT_PACE = Pace()


class RequestBody:
    """The body of one request, to be read once."""

    def __init__(self, scope: Scope, receive: Receive, clock: Callable[[], float] = time.monotonic) -> None:
        self.length = _declared_length(scope)
        self.received = 0
        self.is_complete = self.length == 0
        self._receive = receive
        self._clock = clock
        arriving = scope.get("extensions", {}).get(ARRIVING, {})
        self._take = arriving.get("take")
        self._wake = arriving.get("wake")

    async def chunks(self, pace: Pace = DEFAULT_PACE) -> AsyncIterator[bytes]:
        """Yield the pieces as they come; none is empty.

        Raises ``ClientDisconnect`` if the client goes, and ``RateError`` if it is slower than ``pace`` allows.
        """
        waited_s, taken = 0.0, 0
        while not self.is_complete:
            begun_s = self._clock()
            piece = await self._next(min(pace.idle_s, pace.window_s))
            waited_s += self._clock() - begun_s
            taken += len(piece)
            if waited_s >= pace.window_s:
                if taken < pace.rate * waited_s:
                    raise RateError(f"the body came at less than {pace.rate} bytes a second")
                waited_s, taken = 0.0, 0
            if piece:
                yield piece
                del piece  # who waits for the next one need not hold this

    def take_whole(self, limit_bytes: int) -> bytes | None:
        """Return the body if it came whole with its header, of which nothing was read, and is no longer than that.

        Does not wait, and does not ask for the body: a client that waits for ``100 Continue`` has not sent it.
        """
        if self._take is None or self.is_complete or self.received:
            return None
        body: bytes | None = self._take(limit_bytes)
        if body is not None:
            self.received = len(body)
            self._end()
        return body

    async def drain(self) -> None:
        """Take what the client still sends, within bounds, and throw it away."""
        taken = 0
        with anyio.move_on_after(DRAIN_S):
            while not self.is_complete and taken < DRAIN_BYTES:
                message = await self._receive()
                if message["type"] != "http.request":
                    return
                taken += len(message.get("body", b""))
                self._note_end(message)

    async def _next(self, patience_s: float) -> bytes:
        message = await (self._wait(patience_s) if self._wake is None else self._wait_woken(patience_s, self._wake))
        if message is None:
            raise RateError(f"nothing of the body came for {patience_s:g} seconds")
        if message["type"] != "http.request":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        self._note_end(message)
        return piece

    def _note_end(self, message: Message) -> None:
        if not message.get("more_body", False):
            self._end()

    def _end(self) -> None:
        """Let go of whom we asked: the scope holds us, and they hold the scope."""
        self.is_complete = True
        self._receive, self._take, self._wake = _receive_nothing, None, None

    async def _wait(self, patience_s: float) -> Message | None:
        """Return the next message, or None if it does not come in time."""
        with anyio.move_on_after(patience_s):
            return await self._receive()
        return None

    async def _wait_woken(self, patience_s: float, wake: Callable[[], None]) -> Message | None:
        """As ``_wait``, by a timer that wakes who waits: only asyncio has servers that offer that."""
        has_come = True

        def give_up() -> None:
            nonlocal has_come
            has_come = False
            wake()

        timer = asyncio.get_running_loop().call_later(patience_s, give_up)
        try:
            message = await self._receive()
        finally:
            timer.cancel()
        is_empty = message["type"] == "http.request" and not message.get("body") and message.get("more_body", False)
        return None if is_empty and not has_come else message


def body_of(request: Request) -> RequestBody:
    """Return the body of ``request``: the same object whoever asks, so that who refuses it knows how far it was read."""
    body: RequestBody | None = request.scope.get(_KEY)
    if body is None:
        body = request.scope[_KEY] = RequestBody(request.scope, request.receive)
    return body


class LingeringResponse(Response):
    """An answer to a request whose body was not read to its end: sent whole at once, then what still comes is drained.

    The connection is closed afterwards. Where the body was read, or there is none, it is a plain answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, as ASGI."""
        body = scope.get(_KEY) or RequestBody(scope, receive)
        if body.is_complete:
            await super().__call__(scope, receive, send)
            return
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await body.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _receive_nothing() -> Message:
    return {"type": "http.request"}


def _declared_length(scope: Scope) -> int | None:
    """Return the length that the header declares, 0 where there is no body, or None where it shows only in the end."""
    fields = dict(scope["headers"])
    if b"transfer-encoding" in fields:
        return None
    text = fields.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0  # the parser refuses any other

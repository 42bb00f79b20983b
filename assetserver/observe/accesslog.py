"""The middleware that notes every request that an application answers."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assetserver.errors import FileChangedError
from assetserver.metrics.requests import QUIET
from assetserver.semantics.tracecontext import TraceParent, parse_traceparent
from assetserver.traces import enter_trace, leave_trace

from .identifiers import GIVEN, REQUEST_ID, RequestIds
from .records import LOGGED, Address, Record
from .writing import LogWriter

logger = logging.getLogger(__name__)

PEER = "assetserver.peer"
"""Under this name a scope holds who passed on a request, where that is not the client."""

TRACE = "assetserver.trace"
"""Under this name a scope holds the ``TraceParent`` of its request, or None."""

_TRACEPARENT = b"traceparent"
_FAILED = 500
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of these ``receive`` is handed on as it is: who serves files by the kernel knows by it that nobody stands in between."""

_OF_SCOPES = ("method", "http_version", "path", "raw_path", "query_string")


class AccessLog:
    """Pure ASGI middleware: one record per request, and ``X-Request-ID`` on every answer if there are ``ids``."""

    def __init__(self, app: ASGIApp, writer: LogWriter | None = None, ids: RequestIds | None = None) -> None:
        self.app = app
        self._writer = writer
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope[GIVEN] = (scope.get(GIVEN) or self._ids.take().decode()) if self._ids else ""
        trace = scope[TRACE] = scope.get(TRACE) or find_trace(scope)
        token = enter_trace(str(trace) if trace else "")
        exchange = _Exchange(scope, receive, send, request_id)
        try:
            await self.app(scope, receive if scope["method"] in _SAFE else exchange.receive, exchange.send)
        except FileChangedError as error:  # the answer stays incomplete, and the server closes the connection
            logger.warning("%s", error)
        except Exception:
            exchange.status = exchange.status or _FAILED
            raise
        finally:
            leave_trace(token)
            if self._writer is not None and QUIET not in scope:
                self._writer.append(exchange.describe())


def find_trace(scope: Scope) -> TraceParent | None:
    """Return the trace that a request belongs to; None if it names none, or several."""
    values = [value for name, value in scope["headers"] if name == _TRACEPARENT]
    return parse_traceparent(values[0]) if len(values) == 1 else None


class _Exchange:
    """A request and its answer, as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._started, self._begun = time.time(), time.perf_counter()
        self._scope, self._receive, self._send = scope, receive, send
        self._request_id = request_id
        self._is_head = scope["method"] == "HEAD"
        self._first = 0.0
        self._sent = self._received = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self.status = 0

    async def receive(self) -> Message:
        """Note what came of the body."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Note what is sent."""
        if message["type"] == "http.response.start":
            self._first = time.perf_counter()
            self.status = message["status"]
            self._fields = message["headers"] = list(message.get("headers", ()))
            if self._request_id:
                self._fields.append((REQUEST_ID, self._request_id.encode()))
        elif message["type"] == "http.response.body" and not self._is_head:
            self._sent += len(message.get("body", b""))
        try:
            await self._send(message)
        finally:  # of a file, the server notes what it sent
            self._sent += message.get("sent", 0)

    def describe(self) -> Record:
        """Return the exchange, which is over."""
        end = time.perf_counter()
        client: Address | None = self._scope.get("client")
        return Record(
            self._started,
            end - self._begun,
            _told_scope(self._scope),
            client,
            self.status,
            self._sent,
            self._fields,
            self._request_id,
            self._received,
            (self._first or end) - self._begun,
            self._scope[TRACE],
            self._scope.get(PEER, client),
        )


def _told_scope(scope: Scope) -> Scope:
    """Return of a scope what the log tells: the rest may be large, and a log that nobody reads keeps it."""
    told = {name: scope[name] for name in _OF_SCOPES if name in scope}
    told["headers"] = [field for field in scope["headers"] if field[0] in LOGGED]
    return told

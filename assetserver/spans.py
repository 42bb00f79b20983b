"""Requests as spans of OpenTelemetry, where ``assetserver[otel]`` is installed and ``OTEL_…`` says where they go.

One span for each request that the application answers, and none for those whose answers are repeated from memory: a span takes
70 µs (measured 2026-11-28), several times as long as such an answer. Their line in the log names the trace.

Source: OpenTelemetry semantic conventions 1.38 for HTTP server spans; its specification of environment variables.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .observe import PEER, TRACE, find_trace
from .observe.redacting import without_secrets
from .semantics.tracecontext import TraceParent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

SERVICE = "assetserver"
CLOSE_S = 3.0
"""How long a stop waits for what was not sent yet."""

_PLACES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"})
_FIRST_FAILURE = 500


def are_wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment says where spans go."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not is_off and any(environ.get(name) for name in _PLACES)


class Spans:
    """Makes spans once it is open. Before, and where nobody wants any, it makes none, which costs nothing."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self._provider: TracerProvider | None = None

    def open(self, environ: Mapping[str, str] = os.environ) -> None:
        """Begin, if ``environ`` says where spans go: in the process that serves, for what sends them has a thread."""
        if not are_wanted(environ):
            return
        try:
            provider = _make_provider(environ)
        except ImportError as error:
            logger.warning("no spans: %s is missing, pip install 'assetserver[otel]'", error.name)
        except ValueError as error:
            logger.warning("no spans: %s", error)
        else:
            self.use(provider)

    def use(self, provider: TracerProvider) -> None:
        """Make spans of ``provider``, which is shut down in the end."""
        self._provider = provider
        self.tracer = provider.get_tracer(SERVICE)

    async def close(self) -> None:
        """Send what is left, for ``CLOSE_S`` at most."""
        provider, self._provider, self.tracer = self._provider, None, None
        if provider is not None:
            with anyio.move_on_after(CLOSE_S):
                await anyio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def _make_provider(environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra, and 60 ms
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter  # noqa: PLC0415 - as above

    kind = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    exporter: SpanExporter
    if kind == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above

        exporter = OTLPSpanExporter()
    elif kind == "console":
        exporter = ConsoleSpanExporter()
    else:
        raise ValueError(f'OTEL_TRACES_EXPORTER is "{kind}"; it must be "otlp", "console" or "none"')
    resource = Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME") or SERVICE})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class Traced:
    """Pure ASGI middleware: a span for each request, which the log and what the request causes then belong to.

    A trusted proxy's ``traceparent`` is the parent. A stranger's is linked to: nobody else joins our traces, or has them kept.
    """

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self.app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI."""
        tracer = self._spans.tracer
        if tracer is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry.trace import use_span  # noqa: PLC0415 - it is there, and loaded

        span = _start(tracer, scope)

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
            await send(message)

        with use_span(span, end_on_exit=True):
            made = span.get_span_context()
            scope[TRACE] = TraceParent(f"{made.trace_id:032x}", f"{made.span_id:016x}", made.trace_flags.sampled)
            await self.app(scope, receive, send_noting)


def _start(tracer: Tracer, scope: Scope) -> Span:
    from opentelemetry import trace  # noqa: PLC0415 - as above

    caller = find_trace(scope)
    parent, links = None, []
    if caller is not None:
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if caller.is_sampled else trace.TraceFlags.DEFAULT)
        known = trace.SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), is_remote=True, trace_flags=flags)
        if PEER in scope:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(known))
        else:
            links.append(trace.Link(known))
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    name = method if method in _METHODS else "HTTP"
    return tracer.start_span(name, parent, trace.SpanKind.SERVER, _describe(scope, method), links)


def _describe(scope: Scope, method: str) -> dict[str, Any]:
    fields = dict(scope["headers"])
    client, peer = scope.get("client"), scope.get(PEER, scope.get("client"))
    told = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"],
        "url.query": without_secrets(scope["query_string"].decode("latin-1")),
        "network.protocol.version": scope["http_version"],
        "server.address": fields.get(b"host", b"").decode("latin-1"),
        "user_agent.original": fields.get(b"user-agent", b"").decode("latin-1"),
        "client.address": client[0] if client else "",
        "network.peer.address": peer[0] if peer else "",
    }
    return {name: value for name, value in told.items() if value}


def _note_status(span: Span, status: int) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - as above

    span.set_attribute("http.response.status_code", status)
    if status >= _FIRST_FAILURE:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))

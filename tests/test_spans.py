"""Requests as spans: with the real SDK, in memory, and from the real program to a collector on the loopback address."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from assetserver import spans as module
from assetserver.delivery.forwarding import Forwarding, Proxies
from assetserver.observe import AccessLog
from assetserver.semantics.forwarding import TrustedProxies
from assetserver.spans import Spans, Traced, are_wanted
from assetserver.traces import current_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, DROPPED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def ask(exporter):
    """``ask(target, trusted=..., **fields)`` asks a small application; returns the answer and the spans so far."""

    async def answer(_: Request) -> Response:
        return PlainTextResponse(current_trace())

    async def fail(_: Request) -> Response:
        return PlainTextResponse("no", 503)

    async def break_off(_: Request) -> Response:
        raise RuntimeError("broken")

    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans()
    spans.use(provider)

    def run(target: str = "/", method: str = "GET", *, trusted: bool = False, **fields: str):
        proxies = Proxies(TrustedProxies(["192.0.2.0/24"] if trusted else []))
        routes = [Route("/fail", fail), Route("/break", break_off), Route("/{rest:path}", answer)]
        app = Starlette(
            routes=routes, middleware=[Middleware(Forwarding, proxies), Middleware(Traced, spans), Middleware(AccessLog)]
        )
        client = TestClient(app, raise_server_exceptions=False, client=("192.0.2.9", 1))
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        return client.request(method, target, headers=sent), exporter.get_finished_spans()

    yield run
    provider.shutdown()


def test_a_request_is_one_span(ask):
    answer, (span,) = ask("/a%20b?x=1&signature=secret", user_agent="test/1")
    assert (span.name, span.kind.name, span.parent, span.links) == ("GET", "SERVER", None, ())
    told = dict(span.attributes)
    assert told["url.path"] == "/a b"
    assert told["url.query"] == "x=1&signature=-"
    assert (told["http.request.method"], told["http.response.status_code"]) == ("GET", 200)
    assert (told["client.address"], told["user_agent.original"], told["server.address"]) == (
        "192.0.2.9",
        "test/1",
        "testserver",
    )
    assert span.status.status_code is StatusCode.UNSET
    made = span.context
    assert answer.text == f"00-{made.trace_id:032x}-{made.span_id:016x}-01", "what it causes belongs to it"


def test_the_trace_of_a_trusted_proxy_goes_on(ask):
    _, (span,) = ask(trusted=True, traceparent=SAMPLED, x_forwarded_for="198.51.100.1")
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.attributes["client.address"] == "198.51.100.1"
    assert span.attributes["network.peer.address"] == "192.0.2.9"


def test_what_a_trusted_proxy_does_not_record_is_not(ask):
    answer, found = ask(trusted=True, traceparent=DROPPED)
    assert found == ()
    assert answer.text.startswith(f"00-{TRACE}-")
    assert answer.text.endswith("-00")


def test_the_trace_of_a_stranger_is_linked_to_and_does_not_decide(ask):
    _, (span,) = ask(traceparent=DROPPED)
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE]


@pytest.mark.parametrize(("target", "status"), [("/fail", 503), ("/break", 500)])
def test_a_failure_is_one(ask, target, status):
    answer, (span,) = ask(target)
    assert answer.status_code == status
    assert span.status.status_code is StatusCode.ERROR


def test_a_method_that_is_none_makes_no_new_name(ask):
    _, (span,) = ask("/", "BREW")
    assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "a"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
    ],
)
def test_spans_are_made_where_the_environment_says_where_they_go(environ, expected):
    assert are_wanted(environ) is expected


def test_an_exporter_that_nobody_knows_is_told_of_and_stops_nobody(caplog):
    spans = Spans()
    spans.open({"OTEL_TRACES_EXPORTER": "zipkin"})
    assert spans.tracer is None
    assert 'OTEL_TRACES_EXPORTER is "zipkin"; it must be "otlp", "console" or "none"' in caplog.text


def test_without_the_extra_its_absence_is_told_of(caplog, monkeypatch):
    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'opentelemetry.sdk'", name="opentelemetry.sdk")

    monkeypatch.setattr(module, "_make_provider", missing)
    Spans().open({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert "opentelemetry.sdk is missing, pip install 'assetserver[otel]'" in caplog.text


@contextmanager
def collecting() -> Iterator[tuple[str, list[Any]]]:
    """A collector that takes what is sent over OTLP, in protobuf."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = ExportTraceServiceRequest.FromString(body)
            got.extend(
                (self.path, {one.key: one.value.string_value for one in group.resource.attributes}, span)
                for group in request.resource_spans
                for scope in group.scope_spans
                for span in scope.spans
            )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_real_program_sends_them_when_it_ends_at_the_latest(start_program, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with collecting() as (url, got):
        command = [sys.executable, "-m", "assetserver", "serve", str(tmp_path), "--port", "0"]
        env = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "PYTHONUNBUFFERED": "1"}
        program = start_program("server", command, env=env, cwd=tmp_path)
        port = int(program.wait_log(r"http://127\.0\.0\.1:([1-9]\d*)")[1])
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("GET", "/a.txt", headers={"traceparent": SAMPLED})
        assert client.getresponse().read() == b"a"
        client.close()
        program.process.terminate()
        assert program.process.wait(60) == 0
    [(path, resource, span)] = got
    assert path == "/v1/traces"
    assert resource["service.name"] == "assetserver"
    assert span.name == "GET"
    assert [link.trace_id.hex() for link in span.links] == [TRACE]


def test_a_collector_that_is_not_there_delays_no_answer(start_program, tmp_path, closed_port):
    Path(tmp_path / "a.txt").write_text("a")
    command = [sys.executable, "-m", "assetserver", "serve", str(tmp_path), "--port", "0"]
    env = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port}", "PYTHONUNBUFFERED": "1"}
    program = start_program("server", command, env=env, cwd=tmp_path)
    port = int(program.wait_log(r"http://127\.0\.0\.1:([1-9]\d*)")[1])
    for _ in range(5):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("GET", "/a.txt")
        assert client.getresponse().status == 200
        client.close()
    program.process.terminate()
    assert program.process.wait(60) == 0

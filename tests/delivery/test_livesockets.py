"""WebSockets on the protocol's connections: where they are let through, and what they count for."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from assetserver.delivery import gate, limits, sweep
from assetserver.delivery.gate import GATE, Gate
from assetserver.delivery.livesockets import LiveSocket
from assetserver.delivery.protocol import AssetProtocol
from assetserver.delivery.upgrades import UPGRADES

LIMIT_S = 60.0
PATIENCE_S = 2.0
FIELDS = (
    "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def echo(websocket) -> None:
    await websocket.accept()
    with suppress(Exception):
        while True:
            text = await websocket.receive_text()
            for _ in range(int(websocket.query_params.get("times", 1))):
                await websocket.send_text(text)


async def hesitate(websocket) -> None:
    await anyio.sleep(3 * PATIENCE_S)
    await websocket.accept()
    await websocket.close()


async def plain(_) -> PlainTextResponse:
    return PlainTextResponse("plain")


@contextmanager
def serving(one: Gate | None = None, loop: str = "uvloop") -> Iterator[tuple[int, uvicorn.Server]]:
    @asynccontextmanager
    async def lifespan(_):
        yield {GATE: one or Gate(100), UPGRADES: re.compile(rb"/(?:live|later)(?:\?.*)?")}

    app = Starlette(
        routes=[
            WebSocketRoute("/live", echo),
            WebSocketRoute("/later", hesitate),
            Route("/{rest:path}", plain, methods=["GET", "POST"]),
        ],
        lifespan=lifespan,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    config = uvicorn.Config(
        app, http=AssetProtocol, ws=LiveSocket, loop=loop, log_level="critical", ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
    assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def converse(wire: socket.socket, text: str, target: str = "/live") -> str:
    """Open a WebSocket, say ``text``, and return what comes back."""
    client = WSConnection(ConnectionType.CLIENT)
    wire.sendall(client.send(Request(host="a", target=target)))
    while data := wire.recv(65536):
        client.receive_data(data)
        for event in client.events():
            if isinstance(event, AcceptConnection):
                wire.sendall(client.send(TextMessage(text)))
            elif isinstance(event, TextMessage):
                return event.data
            else:
                assert not isinstance(event, CloseConnection)
    return ""


def read_all(wire: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while piece := wire.recv(65536):
            received += piece
    return received


def wait_for(condition, what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.01)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_websocket_counts_for_its_address_until_it_ends(monkeypatch, loop):
    monkeypatch.setattr(gate, "find_address", lambda host: host.encode())
    with serving(Gate(100, 2), loop) as (port, server), ExitStack() as stack:
        for _ in range(2):
            assert converse(stack.enter_context(connect(port)), "hello") == "hello"
        with connect(port) as third:
            third.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert third.recv(100).startswith(b"HTTP/1.1 429 ")
        stack.close()
        wait_for(lambda: not server.server_state.connections, "the end of all")
        for _ in range(3):
            with connect(port) as late:
                assert converse(late, "again") == "again"
            wait_for(lambda: not server.server_state.connections, "the end of one")


@pytest.mark.parametrize("cut", [0, 20, 90])
def test_elsewhere_the_wish_is_ignored_and_the_connection_goes_on_or_ends(cut):
    with serving() as (port, _), connect(port) as wire:
        request = f"GET /page HTTP/1.1\r\n{FIELDS}\r\n".encode()
        wire.sendall(request[:cut])
        time.sleep(0.05 if cut else 0)
        wire.sendall(request[cut:])
        assert wire.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("cut", [0, 20, 90])
def test_a_header_that_comes_in_pieces_opens_one_as_well(cut):
    with serving() as (port, _), connect(port) as wire:
        request = f"GET /live HTTP/1.1\r\n{FIELDS}\r\n".encode()
        wire.sendall(request[:cut])
        time.sleep(0.05 if cut else 0)
        wire.sendall(request[cut:])
        assert wire.recv(65536).startswith(b"HTTP/1.1 101 ")


def test_a_wish_behind_requests_that_are_not_answered_yet_is_ignored():
    with serving() as (port, _), connect(port) as wire:
        wire.sendall(f"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /live HTTP/1.1\r\n{FIELDS}\r\n".encode())
        answers = read_all(wire)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert b"HTTP/1.1 101" not in answers


def test_after_requests_that_are_answered_it_is_granted():
    with serving() as (port, _), connect(port) as wire:
        wire.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        with wire.makefile("rb") as answer:  # header and body may come apart
            head = list(iter(answer.readline, b"\r\n"))
            assert head[0] == b"HTTP/1.1 200 OK\r\n"
            assert answer.read(5) == b"plain"
        assert converse(wire, "hello") == "hello"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_body_of_a_wish_is_neither_a_request_nor_a_message(method):
    with serving() as (port, _), connect(port) as wire:
        inner = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
        wire.sendall(f"{method} /live HTTP/1.1\r\n{FIELDS}Content-Length: {len(inner)}\r\n\r\n".encode() + inner)
        wire.shutdown(socket.SHUT_WR)
        answers = read_all(wire)
        assert answers.count(b"HTTP/1.1 ") == 1
        assert b" 101 " not in answers


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(limits, "SEND_IDLE_S", 0.3)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)
    with serving() as (port, server), connect(port) as wire:
        client = WSConnection(ConnectionType.CLIENT)
        wire.sendall(client.send(Request(host="a", target="/live?times=20000")))
        client.receive_data(wire.recv(65536))
        assert isinstance(next(client.events()), AcceptConnection)
        wire.sendall(client.send(TextMessage("x" * 4000)))
        wait_for(lambda: not server.server_state.connections, "the end of the connection")


def send_much(wire: socket.socket, piece: bytes, limit_bytes: int) -> int:
    """Send the same again and again; return how many bytes were taken until ``limit_bytes``, or for ``PATIENCE_S`` none."""
    wire.settimeout(PATIENCE_S)
    sent = 0
    with suppress(TimeoutError):
        while sent < limit_bytes:
            sent += wire.send(piece)
    return sent


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_comes_before_a_socket_is_let_in_is_not_piled_up(loop):
    with serving(loop=loop) as (port, _), connect(port) as wire:
        wire.sendall(f"GET /later HTTP/1.1\r\n{FIELDS}\r\n".encode())
        assert send_much(wire, bytes(1 << 16), 128 << 20) < 64 << 20


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_answers_to_pings_that_nobody_takes_are_not_piled_up(loop):
    pings = (b"\x89\xfd" + bytes(4) + bytes(125)) * 400
    with serving(loop=loop) as (port, server), connect(port) as wire:
        wire.sendall(f"GET /live HTTP/1.1\r\n{FIELDS}\r\n".encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 101 ")
        send_much(wire, pings, 32 << 20)
        (one,) = server.server_state.connections
        assert one.transport.get_write_buffer_size() < 1 << 20

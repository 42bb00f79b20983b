"""Deadlines of HTTP/2 on real sockets; what needs TLS is in test_certificates."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from assetserver.delivery import limits, sweep
from assetserver.delivery.http2 import EitherProtocol

LIMIT_S = 60.0
PIECE, PIECES = bytes(1 << 16), 1024
SMALL_WINDOW_BYTES = 1 << 14
IDLE_S = 2.0
ASKED = bytes([0x82, 0x84, 0x86, 0x41, 0x01]) + b"a"
"""GET / http a, in HPACK."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


MOST = (2**31 - 1).to_bytes(4, "big")
BEGIN = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(4, 0, 0, b"\0\4" + MOST)  # SETTINGS_INITIAL_WINDOW_SIZE
    + frame(8, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))  # WINDOW_UPDATE of the connection
    + frame(1, 5, 1, ASKED)
)


async def send_much(scope, _, send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": number < PIECES - 1})


@contextmanager
def asking() -> Iterator[tuple[socket.socket, uvicorn.Server]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(send_much, http=EitherProtocol, loop="uvloop", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW_BYTES)
            wire.settimeout(LIMIT_S)
            wire.connect(listener.getsockname())
            wire.sendall(BEGIN)
            yield wire, server
    finally:
        server.should_exit = server.force_exit = True
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def deadlines(monkeypatch) -> None:
    monkeypatch.setattr(limits, "SEND_IDLE_S", IDLE_S)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)


def count_until_end(wire: socket.socket) -> int:
    """Return how many bytes come until the connection ends, or for half of what it may be idle."""
    received = 0
    wire.settimeout(IDLE_S / 2)
    with suppress(ConnectionError, TimeoutError):
        while piece := wire.recv(1 << 16):
            received += len(piece)
    return received


def test_who_takes_nothing_is_cut_off():
    with asking() as (wire, server):
        wire.recv(1)
        deadline_s = time.monotonic() + LIMIT_S
        while server.server_state.connections:
            assert time.monotonic() < deadline_s, "the connection is still open"
            time.sleep(0.02)
        assert count_until_end(wire) < len(PIECE) * PIECES


def test_who_takes_it_slowly_gets_all_of_it():
    with asking() as (wire, _):
        received, until_s = 0, time.monotonic() + 3 * IDLE_S
        while time.monotonic() < until_s:
            received += len(wire.recv(SMALL_WINDOW_BYTES))
            time.sleep(0.005)
        assert received < len(PIECE) * PIECES / 2
        while received <= len(PIECE) * PIECES:  # with the heads of its frames it is more
            piece = wire.recv(1 << 16)
            assert piece, f"cut off after {received} bytes"
            received += len(piece)

"""Interim answers on real connections: before the answer, never in it, and never to a client of HTTP/1.0."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest
import uvicorn

from assetserver.delivery.interim import INTERIM
from assetserver.delivery.protocol import AssetProtocol

LIMIT_S = 60.0


async def application(scope, receive, send):
    """Write two interim answers if that is possible, then the answer, then one that comes too late."""
    write = scope["extensions"].get(INTERIM, {}).get("write", lambda *_: None)
    write(104, [(b"location", b"/uploads/a")])
    write(104, [])
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    write(104, [])
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    """The port of a server in a thread of this process."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        config = uvicorn.Config(application, http=AssetProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(LIMIT_S)


def ask(port, request):
    """Return all that the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_interim_answers_come_before_the_answer(port):
    found = ask(port, b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    interim, rest = found.split(b"HTTP/1.1 200 ")
    assert interim == (
        b"HTTP/1.1 104 Upload Resumption Supported\r\nlocation: /uploads/a\r\n\r\n"
        b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n"
    )
    assert rest.endswith(b"\r\n\r\nok")


def test_interim_answer_does_not_replace_100_continue(port):
    request = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as client:
        client.sendall(request)
        found = b""
        while b"100 Continue" not in found:
            found += client.recv(1 << 16)
        client.sendall(b"x")
        found += b"".join(iter(lambda: client.recv(1 << 16), b""))

    statuses = [line.split()[1] for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"104", b"104", b"100", b"200"]


def test_client_of_http_1_0_gets_none(port):
    assert ask(port, b"POST / HTTP/1.0\r\ncontent-length: 0\r\n\r\n").startswith(b"HTTP/1.1 200 ")

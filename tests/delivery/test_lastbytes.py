"""Bytes that arrived with the end of a connection are handed over before it is told of."""

import asyncio
import socket
import threading
from contextlib import closing, suppress

import pytest
import uvicorn

from assetserver.delivery import limits, sweep
from assetserver.delivery.protocol import AssetProtocol

LIMIT_S = 60.0


@pytest.fixture
def messages():
    return []


@pytest.fixture
def begin(messages):
    """``begin()`` lets the application look at its body; ``begin.done`` is set when it has seen all of it."""
    ready, done = threading.Event(), threading.Event()

    async def application(scope, receive, send):
        await asyncio.to_thread(ready.wait, LIMIT_S)
        while not messages or messages[-1]["type"] != "http.disconnect":
            messages.append(await receive())
        done.set()

    def let():
        ready.set()
        assert done.wait(LIMIT_S)

    let.application = application
    return let


@pytest.fixture
def port(begin):
    """The port of a server in a thread of this process."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(begin.application, http=AssetProtocol, lifespan="off", log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(LIMIT_S)


@pytest.mark.parametrize(("length", "more_body"), [(10, True), (7, False)], ids=["cut", "whole"])
def test_bytes_that_came_before_the_client_left_are_not_lost(monkeypatch, port, begin, messages, length, more_body):
    monkeypatch.setattr(limits, "BODY_IDLE_S", 0.2)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.1)
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\nabcdefg" % length)
        client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""  # the server has seen the end
    begin()

    assert messages == [
        {"type": "http.request", "body": b"abcdefg", "more_body": more_body},
        {"type": "http.disconnect"},
    ]

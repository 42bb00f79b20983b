"""Bodies that came whole with their header are given at once; all others as they come, while their clients are quick enough."""

import asyncio
import socket
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
import uvicorn

from assetserver.bodies import ARRIVING, Pace, RequestBody
from assetserver.delivery.arriving import give_piece
from assetserver.delivery.protocol import AssetProtocol
from assetserver.errors import RateError

LIMIT_S = 60.0
LIMIT_BYTES = 100


async def application(scope, receive, send):
    """Answer how the body came, and what it was."""
    body = RequestBody(scope, receive)
    whole = body.take_whole(LIMIT_BYTES)
    assert whole is None or (body.is_complete, body.take_whole(LIMIT_BYTES)) == (True, None)
    try:
        content = (
            whole
            if whole is not None
            else b"".join([chunk async for chunk in body.chunks(Pace(idle_s=LIMIT_S if scope["path"] == "/patient" else 0.3))])
        )
        answer = (b"whole:" if whole is not None else b"pieces:") + content
    except RateError as error:
        answer = f"{error} after {body.received}!".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def port():
    """The port of a server in a thread of this process."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(application, http=AssetProtocol, lifespan="off", log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(LIMIT_S)


@pytest.fixture
def client(port):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        yield connection


def request(content, *fields, path=b"/"):
    lines = [b"POST %s HTTP/1.1" % path, b"host: a", b"content-length: %d" % len(content), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def read_answers(client, number):
    """Return the bodies of so many answers."""
    found = b""
    while found.count(b"\r\n\r\n") < number or not found.endswith(b"!"):
        found += client.recv(1 << 16)
    return [part.partition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 200 ")[1:]]


def test_body_that_came_with_its_header_is_whole(client):
    client.sendall(request(b"hello!") + b"hello!")
    assert read_answers(client, 1) == [b"whole:hello!"]
    client.sendall(request(b"again!") + b"again!")
    assert read_answers(client, 1) == [b"whole:again!"]


def test_chunked_body_is_whole_once_its_last_chunk_is_there(client):
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    client.sendall(head + b"3\r\nabc\r\n2\r\nd!\r\n0\r\n\r\n")
    assert read_answers(client, 1) == [b"whole:abcd!"]


def test_bodies_of_requests_that_came_together_stay_apart(client):
    client.sendall(request(b"one!") + b"one!" + request(b"two!!") + b"two!!" + request(b"") + request(b"four!") + b"four!")
    assert read_answers(client, 4) == [b"whole:one!", b"whole:two!!", b"pieces:", b"whole:four!"]


def test_longer_body_comes_in_pieces(client):
    content = b"x" * LIMIT_BYTES + b"!"
    client.sendall(request(content) + content)
    assert read_answers(client, 1) == [b"pieces:" + content]


def test_body_of_a_client_that_waits_for_100_continue_is_asked_for(client):
    client.sendall(request(b"late!", b"expect: 100-continue"))
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue\r\n")
    client.sendall(b"late!")
    assert read_answers(client, 1) == [b"pieces:late!"]


def test_body_that_stops_is_given_up(client):
    client.sendall(request(b"hello!") + b"hel")
    assert read_answers(client, 1) == [b"nothing of the body came for 0.3 seconds after 3!"]


def test_body_that_pauses_for_a_moment_goes_on(client):
    client.sendall(request(b"hello!", path=b"/patient") + b"hel")
    for piece in (b"l", b"o", b"!"):
        time.sleep(0.05)
        client.sendall(piece)
    assert read_answers(client, 1) == [b"pieces:hello!"]


def test_pieces_that_come_together_are_not_copied_again_for_each_one():
    exchange = SimpleNamespace(body=bytearray(), response_complete=False)
    bodies = []
    for piece in (b"a", b"b", b"c"):
        rest = give_piece(exchange, piece)  # as Uvicorn does next:
        exchange.body += rest
        bodies.append(exchange.body)
    assert bodies[0] == b"a"
    assert isinstance(bodies[0], bytes)
    assert bodies[1] is bodies[2] == b"abc"


def test_other_servers_offer_nothing():
    async def receive():
        return {"type": "http.request", "body": b"abc", "more_body": False}

    for extensions in ({}, {"extensions": {}}, {"extensions": {ARRIVING: {"take": lambda _: None}}}):
        body = RequestBody({"type": "http", "headers": [(b"content-length", b"3")], **extensions}, receive)
        assert body.take_whole(LIMIT_BYTES) is None
        assert not body.is_complete

import asyncio
from itertools import count

import pytest
from starlette.requests import ClientDisconnect, Request

from assetserver import bodies
from assetserver.bodies import DRAIN_BYTES, LingeringResponse, Pace, RequestBody, body_of
from assetserver.errors import RateError

CHUNKED = {"headers": [(b"transfer-encoding", b"chunked")]}
GONE = {"type": "http.disconnect"}


def make_receive(*messages):
    """Return a ``receive`` that hands out bytes, as pieces with more to come, and messages as they are; then it waits."""
    waiting = list(messages)

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        message = waiting.pop(0)
        return message if isinstance(message, dict) else {"type": "http.request", "body": message, "more_body": True}

    receive.waiting = waiting
    return receive


LAST = {"type": "http.request", "body": b"", "more_body": False}


PACE = Pace()


async def read(body, pace=PACE):
    return [chunk async for chunk in body.chunks(pace)]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"content-length", b"12")], 12),
        ([(b"transfer-encoding", b"chunked")], None),
    ],
)
def test_length_is_what_the_header_declares(headers, length):
    body = RequestBody({"headers": headers}, make_receive())

    assert body.length == length
    assert body.is_complete == (length == 0)


def test_body_that_is_not_there_is_not_asked_for():
    assert asyncio.run(read(RequestBody({"headers": []}, make_receive(GONE)))) == []


def test_pieces_come_as_they_are_and_empty_ones_do_not():
    body = RequestBody(CHUNKED, make_receive(b"a", b"", b"bc", {"type": "http.request", "body": b"d"}))

    assert asyncio.run(read(body)) == [b"a", b"bc", b"d"]
    assert body.is_complete
    assert body.received == 4


def test_client_that_goes_is_told():
    body = RequestBody(CHUNKED, make_receive(b"a", GONE))

    with pytest.raises(ClientDisconnect):
        asyncio.run(read(body))
    assert not body.is_complete


def test_silent_client_is_cut():
    with pytest.raises(RateError, match="nothing of the body"):
        asyncio.run(read(RequestBody(CHUNKED, make_receive(b"a")), Pace(idle_s=0.01)))


@pytest.mark.parametrize(("rate", "is_cut"), [(11, True), (10, False)])
def test_trickle_is_cut_after_a_window_of_waiting(rate, is_cut):
    seconds = count()  # each look at the clock is a second later: every piece is waited for that long
    body = RequestBody(CHUNKED, make_receive(*[b"x" * 10] * 25, LAST), lambda: next(seconds))

    async def run():
        return len(await read(body, Pace(rate=rate, window_s=10)))

    if is_cut:
        with pytest.raises(RateError, match="less than 11 bytes a second"):
            asyncio.run(run())
        assert body.received == 100
    else:
        assert asyncio.run(run()) == 25


def test_what_we_take_long_for_is_not_the_clients_fault():
    seconds = iter([0, 1, 1000, 1001, 2000, 2001, 3000, 3001])

    body = RequestBody(CHUNKED, make_receive(b"x", b"x", b"x", LAST), lambda: next(seconds))

    assert asyncio.run(read(body, Pace(rate=1000, window_s=60))) == [b"x"] * 3


def test_body_of_a_request_is_one_object():
    scope = {"type": "http", **CHUNKED}

    assert body_of(Request(scope, make_receive())) is body_of(Request(scope, make_receive()))


async def answer(scope, receive):
    sent = []

    async def send(message):
        sent.append(message)

    await LingeringResponse(b"no", 413)(scope, receive, send)
    return sent


def test_refusal_is_sent_whole_before_the_rest_is_drained():
    receive = make_receive(b"a" * 1000, LAST)

    sent = asyncio.run(answer({"type": "http", **CHUNKED}, receive))

    assert (b"connection", b"close") in sent[0]["headers"]
    assert sent[1:] == [
        {"type": "http.response.body", "body": b"no", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
    assert not receive.waiting


def test_refusal_of_a_request_without_body_keeps_the_connection():
    sent = asyncio.run(answer({"type": "http", "headers": []}, make_receive(GONE)))

    assert [name for name, _ in sent[0]["headers"]] == [b"content-length"]
    assert len(sent) == 2


def test_draining_is_bounded(monkeypatch):
    monkeypatch.setattr(bodies, "DRAIN_S", 0.02)
    piece = b"x" * (1 << 20)
    endless = make_receive(*[piece] * 40)

    asyncio.run(answer({"type": "http", **CHUNKED}, endless))
    asyncio.run(answer({"type": "http", **CHUNKED}, make_receive(b"x")))  # ends by time

    assert len(endless.waiting) == 40 - DRAIN_BYTES // len(piece)


def test_draining_ends_when_the_client_goes():
    assert len(asyncio.run(answer({"type": "http", **CHUNKED}, make_receive(b"x", GONE)))) == 3

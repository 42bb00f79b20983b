"""How many may come in, by the clock that is passed in; and on real connections, on both event loops."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from assetserver.app import create_app
from assetserver.delivery import gate, pace, sweep
from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.gate import GATE, Gate, find_address
from assetserver.delivery.protocol import AssetProtocol
from assetserver.settings import load_settings

LIMIT_S = 60.0
REQUEST = b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n"
SIZE = 30 << 20


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", b"\xc0\x00\x02\x01"),
        ("::ffff:192.0.2.1", b"\xc0\x00\x02\x01"),
        ("2001:db8:1:2:3:4:5:6", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("2001:db8:1:2::1", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("fe80::1%eth0", b"\xfe\x80\0\0\0\0\0\0"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        ("testclient", None),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network_and_never_this_machine(host, expected):
    assert find_address(host) == expected


class Loop:
    """An event loop of which only the clock is looked at, and timers never end."""

    def __init__(self, now_s):
        self._now_s = now_s

    def time(self):
        return self._now_s

    def call_later(self, *_):
        return self

    def cancel(self):
        pass


class Transport:
    """A connection that notes who takes it over."""

    protocol = None
    is_aborted = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def abort(self):
        self.is_aborted = True


def enter(one: Gate, host: str = "192.0.2.1", count: int = 1, now_s: float = 0.0) -> bool:
    return one.admits(Transport(), (host, 1), count, Loop(now_s))


def test_an_address_is_counted_until_it_leaves():
    one = Gate(100, 2)
    assert [enter(one) for _ in range(3)] == [True, True, False]
    assert enter(one, "192.0.2.2")
    one.leaves(("192.0.2.1", 1))
    assert [enter(one) for _ in range(2)] == [True, False]
    for _ in range(5):
        one.leaves(("192.0.2.1", 1))
    one.leaves(("192.0.2.2", 1))
    one.leaves(None)
    assert one._inside == {}, "nothing is kept of who has left"


def test_whoever_has_no_address_is_let_in():
    one = Gate(100, 1)
    assert all(one.admits(Transport(), None, 1, Loop(0.0)) for _ in range(5))
    assert all(enter(one, "127.0.0.1") for _ in range(5))
    assert all(enter(Gate(100, 0)) for _ in range(5))


def test_a_full_house_lets_nobody_idle(caplog):
    one = Gate(10)
    assert one.idle_limit_s(0.0, 75) == 75
    assert not enter(one, count=11, now_s=1.0)
    assert one.idle_limit_s(2.0, 75) == gate.PRESSED_IDLE_S
    assert one.idle_limit_s(2.0, 1) == 1
    assert one.idle_limit_s(1.0 + gate.PRESSED_S, 75) == 75
    for number in range(50):
        enter(one, count=11, now_s=2.0 + number)
    assert len(caplog.records) == 1, "once a minute is told"
    enter(one, count=11, now_s=1.0 + gate.TELL_EVERY_S)
    assert len(caplog.records) == 2


def test_not_everybody_who_is_turned_away_is_told(monkeypatch):
    monkeypatch.setattr(gate, "LIMIT_TURNED_AWAY", 2)
    one, made = Gate(1), [Transport() for _ in range(4)]
    for transport in made:
        assert not one.admits(transport, None, 2, Loop(0.0))
    assert [transport.is_aborted for transport in made] == [False, False, True, True]
    made[0].protocol.connection_lost(None)
    made[1].protocol.connection_lost(None)
    assert not one._turned_away


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file.txt").write_bytes(b"hello world")
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(SIZE)
    return tmp_path


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request, folder):
    """``serve(gate)`` serves the folder; yields the port and the server."""

    @contextmanager
    def run(one: Gate):
        @asynccontextmanager
        async def lifespan(_):
            yield {GATE: one}

        app = Starlette(routes=[Mount("/", AssetFiles(directory=folder))], lifespan=lifespan)
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        config = uvicorn.Config(app, http=AssetProtocol, ws="none", loop=request.param, log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1], server
        finally:
            server.should_exit = True
            thread.join(LIMIT_S)
        assert not thread.is_alive()

    return run


def connect(port: int, receive_bytes: int = 0) -> socket.socket:
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(LIMIT_S)
    made.connect(("127.0.0.1", port))
    return made


def wait_for(condition, what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.01)


def read_all(made: socket.socket) -> bytes:
    received = b""
    while piece := made.recv(1 << 16):
        received += piece
    return received


def ask(made: socket.socket) -> bytes:
    made.sendall(REQUEST)
    received = b""
    while not received.endswith(b"hello world"):
        piece = made.recv(1 << 16)
        if not piece:
            return received
        received += piece
    return received


def test_who_comes_when_all_places_are_taken_is_answered_503_and_those_inside_go_on(serve):
    with serve(Gate(3)) as (port, server), ExitStack() as stack:
        inside = [stack.enter_context(connect(port)) for _ in range(3)]
        for one in inside:
            assert ask(one).endswith(b"hello world")
        outside = [stack.enter_context(connect(port)) for _ in range(3)]
        for one in outside:
            answer = ask(one)
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n")
            assert b"\r\nconnection: close\r\n" in answer
            assert int(re.search(rb"content-length: (\d+)", answer)[1]) == len(answer.partition(b"\r\n\r\n")[2])
            assert read_all(one) == b""
        for one in inside:
            assert ask(one).endswith(b"hello world")
        inside[0].close()
        wait_for(lambda: len(server.server_state.connections) == 2, "the end of one")
        with connect(port) as late:
            assert ask(late).endswith(b"hello world")


def test_who_is_turned_away_and_asks_nothing_is_closed(serve, monkeypatch):
    monkeypatch.setattr(gate, "ANSWER_S", 0.1)
    with serve(Gate(1)) as (port, _), connect(port) as inside:
        ask(inside)
        with connect(port) as outside, suppress(ConnectionResetError):
            assert outside.recv(100) == b""
        assert ask(inside).endswith(b"hello world")


def test_idle_connections_make_room_where_some_wait(serve, monkeypatch):
    monkeypatch.setattr(gate, "PRESSED_IDLE_S", 0.1)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)
    with serve(Gate(2)) as (port, _), connect(port) as asked, connect(port) as silent:
        ask(asked)
        with connect(port) as outside:
            assert ask(outside).startswith(b"HTTP/1.1 503 ")
        assert read_all(asked) == b""
        assert read_all(silent) == b""

        def is_let_in() -> bool:
            """Who asks too late, since the machine is slow, is idle as well."""
            with connect(port) as late, suppress(ConnectionError):
                return ask(late).endswith(b"hello world")
            return False

        wait_for(is_let_in, "room")


def test_one_address_gets_its_share_alone(serve, monkeypatch):
    monkeypatch.setattr(gate, "find_address", lambda host: host.encode())
    with serve(Gate(100, 2)) as (port, server), ExitStack() as stack:
        for _ in range(2):
            assert ask(stack.enter_context(connect(port))).endswith(b"hello world")
        with connect(port) as third:
            assert ask(third).startswith(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n")
        stack.close()
        wait_for(lambda: not server.server_state.connections, "the end of all")
        with connect(port) as late:
            assert ask(late).endswith(b"hello world")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pace, "WINDOW_S", 0.5)
    monkeypatch.setattr(sweep, "SWEEP_S", 0.05)


def test_who_takes_a_few_bytes_now_and_then_is_cut_off(serve, quick):
    """It is never idle: something is taken all the time."""
    with serve(Gate(100, 0, 1 << 20)) as (port, server), connect(port, 4096) as made:
        made.sendall(BIG)
        wait_for(lambda: server.server_state.connections, "the connection")
        wait_for(lambda: not (made.recv(500) and server.server_state.connections), "the end of the connection")


def test_who_takes_it_slowly_but_steadily_gets_all(serve, quick, monkeypatch):
    """Many times as fast as must be, over several windows."""
    monkeypatch.setattr(pace, "WINDOW_S", 1.0)
    with serve(Gate(100, 0, 200 << 10)) as (port, _), connect(port, 64 << 10) as made:
        made.sendall(BIG)
        received, begun_s = 0, time.monotonic()
        while received < SIZE:
            piece = made.recv(1 << 20)
            assert piece, f"cut off after {received} bytes"
            received += len(piece)
            while received > (6 << 20) * (time.monotonic() - begun_s) and received < SIZE:
                time.sleep(0.01)


def test_settings_reach_the_gate(tmp_path, monkeypatch):
    def limits(**server: object) -> tuple[int, int, int]:
        config = {"mounts": [{"prefix": "/", "directory": str(tmp_path)}]} | {f"server.{k}": v for k, v in server.items()}
        app = create_app(load_settings(None, {}, config))

        async def look() -> Gate:
            async with app.router.lifespan_context(app) as state:
                return state[GATE]

        one = asyncio.run(look())
        return one._limit, one._address_limit, one.pace

    assert limits() == (16_384, 1024, 256)
    assert limits(connection_limit=7, address_connection_limit=5, minimum_send_bytes_per_s=0) == (7, 5, 0)
    assert limits(trusted_proxies=["10.0.0.0/8"])[1] == 0
    assert limits(uds=str(tmp_path / "s"))[1] == 0

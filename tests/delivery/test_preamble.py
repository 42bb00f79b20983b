"""The PROXY protocol over real connections: demanded, from trusted proxies alone, and then HTTP as ever."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path

import pytest

from assetserver.delivery import preamble
from assetserver.delivery.preamble import PREAMBLE, PreambleProtocol
from assetserver.metrics.connections import CONNECTIONS
from assetserver.metrics.families import family

from .wires import Server, get, running, wait_for

V1 = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH4s4sHH", 0x21, 0x11, 12, bytes([192, 0, 2, 2]), bytes([127, 0, 0, 1]), 4711, 80)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "file.txt").write_bytes(b"text\n" * 100)
    return folder


def run(root: Path, version: str = "any", trusted: str = "127.0.0.1", **settings: object):
    return running(root, PreambleProtocol, proxy_protocol=version, trusted_proxies=[trusted], **settings)


def refused(server: Server) -> dict[str, int]:
    """Return how many were refused, by reason: as the log says it, and as the metrics do."""
    state = server.uvicorn.lifespan.state
    told = state[PREAMBLE].refused
    metric = family("proxy_headers_refused_total")
    assert {reason: state[CONNECTIONS]._slots[metric.slot(reason)] for reason in told} == told
    return told


def test_who_the_proxy_tells_of_is_the_client_on_either_way(root, monkeypatch):
    monkeypatch.setattr("assetserver.delivery.livefolder.SETTLED_NS", -(10**10))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with run(root, access_log="json") as server:
        for head in (V1, V2, LOCAL, b"PROXY UNKNOWN\r\n"):
            with server.connect() as wire:
                wire.send(head)
                for _ in range(6):
                    assert wire.ask(get(fields="X-Forwarded-For: 6.6.6.6\r\n")).startswith(b"HTTP/1.1 200 ")
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [(row["client_ip"], row["peer"]) for row in rows]
    through = [("192.0.2.1", "192.0.2.1")] * 6 + [("192.0.2.2", "192.0.2.2")] * 6
    assert told == through + [("6.6.6.6", "127.0.0.1")] * 12, "who told of nobody may speak as a proxy of HTTP"


@pytest.mark.parametrize("head", [V1, V2], ids=["v1", "v2"])
def test_a_header_in_any_pieces_is_one(root, head):
    with run(root) as server:
        for cut in (1, 5, 11, 13, len(head) - 1, len(head)):
            with server.connect() as wire:
                wire.send(head[:cut], head[cut:] + get() + get())
                assert wire.read().startswith(b"HTTP/1.1 200 ")
                assert wire.read().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("version", "sent"),
    [
        ("any", get()),
        ("v1", V2 + get()),
        ("v2", V1 + get()),
        ("v1", b"PROXY TCP4 a b 1 2\r\n" + get()),
        ("v2", LOCAL[:-4] + b"\x2f" * 9),
    ],
)
def test_a_connection_without_its_header_is_closed_without_a_word(root, version, sent):
    with run(root, version) as server:
        with server.connect() as wire:
            wire.send(sent)
            assert wire.read_all() == b""
        assert refused(server) == {"untrusted": 0, "malformed": 1, "late": 0}
        with server.connect() as wire:
            wire.send(V2 if version == "v2" else V1)
            assert wire.ask(get()).startswith(b"HTTP/1.1 200 "), "others are served"


def test_who_is_not_trusted_may_not_even_send_one(root):
    with run(root, trusted="192.0.2.0/24") as server, server.connect() as wire:
        wire.send(V1 + get())
        assert wire.read_all() == b""
        assert refused(server)["untrusted"] == 1
        wait_for(lambda: not server.connections, "the end of the connection")


def test_a_header_that_does_not_come_keeps_no_connection_open(root, monkeypatch):
    monkeypatch.setattr(preamble, "PREAMBLE_S", 0.1)
    with run(root) as server:
        with server.connect() as wire:
            assert wire.read_all() == b""
        with server.connect() as wire:
            wire.send(V1[:9])
            assert wire.read_all() == b""
        assert refused(server)["late"] == 2


def test_a_proxy_that_leaves_before_its_header_leaves_nothing(root):
    with run(root) as server:
        for piece in (b"", V1[:9], V1):
            with server.connect() as wire:
                wire.send(piece)
        wait_for(lambda: not server.connections, "the end of all connections")
        assert refused(server) == {"untrusted": 0, "malformed": 0, "late": 0}


def test_a_header_behind_the_header_is_no_request(root):
    with run(root) as server, server.connect() as wire:
        wire.send(V1 + V1 + get())
        assert wire.read_all().startswith(b"HTTP/1.1 400 ")

"""Who the client is, over real connections: log, identifier and host, the same on the slow way and on the hot one."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assetserver.delivery.protocol import AssetProtocol

from .wires import Server, running

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "file.txt").write_bytes(b"text\n" * 100)
    return folder


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a moment ago are trusted, as old ones are."""
    monkeypatch.setattr("assetserver.delivery.livefolder.SETTLED_NS", -(10**10))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went the slow way."""
    seen: list[bytes] = []
    feed = AssetProtocol._feed

    def note(self: AssetProtocol, data: bytes) -> None:
        seen.append(data)
        feed(self, data)

    monkeypatch.setattr(AssetProtocol, "_feed", note)
    return seen


@contextmanager
def logged(root: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Iterator[tuple[Server, list[dict[str, Any]]]]:
    """Serve ``root``; afterwards the list holds the rows of the log."""
    stream, rows = io.StringIO(), []
    monkeypatch.setattr(sys, "stdout", stream)
    with running(root, access_log="json", **settings) as server:
        yield server, rows
    rows += [json.loads(line) for line in stream.getvalue().splitlines()]


def ask_often(server: Server, fields: str, times: int = 8) -> list[bytes]:
    """Ask over one connection, each time as another request with its own ``{n}``; return the identifiers of the answers."""
    with server.connect() as wire:
        found = []
        for number in range(times):
            lines = fields.replace("{n}", str(number)).replace("\n", "\r\n")
            answer = wire.ask(f"GET /file.txt HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200 ")
            found.append(re.findall(rb"(?im)^x-request-id: (\S+)", answer))
    assert all(len(one) == 1 for one in found)
    return [one[0] for one in found]


FIELDS = (
    f"X-Forwarded-For: 6.6.6.6, 192.0.2.{{n}}\nX-Request-ID: proxy-id-{{n}}\ntraceparent: {TRACE}\nReferer: http://b/?token=x\n"
)


def test_what_a_trusted_proxy_says_is_logged_on_either_way(root, monkeypatch, slow):
    with logged(root, monkeypatch, trusted_proxies=["127.0.0.0/8"]) as (server, rows):
        ids = ask_often(server, FIELDS)
    assert ids == [b"proxy-id-%d" % number for number in range(8)]
    assert len(slow) < 6, "the later ones are hot"
    assert [row["client_ip"] for row in rows] == [f"192.0.2.{number}" for number in range(8)]
    assert [row["request_id"] for row in rows] == [one.decode() for one in ids]
    assert {row["peer"] for row in rows} == {"127.0.0.1"}
    assert {(row["trace_id"], row["span_id"]) for row in rows} == {tuple(TRACE.split("-")[1:3])}
    assert {row["referer"] for row in rows} == {"http://b/?token=-"}


def test_what_others_say_has_no_effect_on_either_way(root, monkeypatch, slow):
    with logged(root, monkeypatch, trusted_proxies=["192.0.2.0/24", "unix"], forwarded_host=True) as (server, rows):
        ids = ask_often(server, FIELDS + "Forwarded: for=6.6.6.6;host=evil.test\nX-Forwarded-Host: evil.test\n")
    assert not [one for one in ids if one.startswith(b"proxy")]
    assert len(set(ids)) == 8
    assert len(slow) < 6
    assert {row["client_ip"] for row in rows} == {row["peer"] for row in rows} == {"127.0.0.1"}
    assert {row["trace_id"] for row in rows} == {TRACE.split("-")[1]}, "who belongs to which trace is nobody's secret"


def test_an_identifier_that_logs_cannot_hold_is_replaced(root, monkeypatch, slow):
    with logged(root, monkeypatch, trusted_proxies=["127.0.0.1"]) as (server, rows):
        for bad in ('a"b-{n}-long', "{n}", "x" * 65, "a b c d e f"):
            ids = ask_often(server, f"X-Request-ID: {bad}\n", 4)
            assert len(set(ids)) == 4
        assert len(set(ask_often(server, "X-Request-ID: abcdefgh1\nX-Request-ID: abcdefgh2\n"))) == 8
    assert {row["client_ip"] for row in rows} == {"127.0.0.1"}


def test_the_combined_log_has_the_client_that_the_proxy_named(root, monkeypatch, slow):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with running(root, access_log="combined", trusted_proxies=["127.0.0.1"]) as server:
        ask_often(server, 'Forwarded: for=6.6.6.6, for="[2001:db8::{n}]:80"\n')
        ask_often(server, "Forwarded: for={n}\n")
    assert len(slow) < 12
    clients = [line.split(" ")[0] for line in stream.getvalue().splitlines()]
    assert clients == [f"2001:db8::{number}" if number else "2001:db8::" for number in range(8)] + ["127.0.0.1"] * 8


@pytest.mark.parametrize("fields", ["X-Forwarded-Host: b\nX-Forwarded-For: 192.0.2.1\n", "Forwarded: for=192.0.2.1;host=b\n"])
@pytest.mark.parametrize("believes", [True, False])
def test_the_host_that_was_asked_for_is_believed_where_that_is_set(tmp_path, root, fields, believes):
    mounts = [{"prefix": "/", "directory": str(root), "host": "b"}]
    with running(root, trusted_proxies=["127.0.0.1"], forwarded_host=believes, mounts=mounts) as server:
        for _ in range(4):
            status = server.ask("/file.txt", fields.replace("\n", "\r\n"))[9:12]
            assert status == (b"200" if believes else b"404")

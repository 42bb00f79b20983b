"""Deltas on the hot path: what it repeats is what stock Uvicorn sends, and nobody's made-up hash costs others their memory."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assetserver.delivery import hotcache
from assetserver.delivery.leanrequest import Shape
from assetserver.delivery.protocol import AssetProtocol
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.deltas import keep_delta
from assetserver.releases.library import Library
from assetserver.releases.publish import publish_folder
from assetserver.semantics.dictionaries import OfferedDictionary, format_available_dictionary, may_read
from assetserver.storage.files import FileBlobs

from .wires import Server, alike, get, running

COMMON = bytes(random.Random(8).choices(b"abcdefghijklmnopqrstuvwxyz0123456789 ;=", k=4000))  # noqa: S311 - no secret
OLD, NEW = b"1;" + COMMON, b"2;" + COMMON
NAMES = {content: f"app.{sha256(content).hexdigest()[:12]}.js" for content in (OLD, NEW)}
TARGET = f"/{NAMES[NEW]}"
CHROMIUM = "Accept-Encoding: gzip, deflate, br, zstd, dcb, dcz\r\n"
SITES = [{"name": "main"}]


def offer(content: bytes, fields: str = "") -> str:
    return f"{CHROMIUM}Available-Dictionary: {format_available_dictionary(sha256(content).digest())}\r\n{fields}"


def fetch(site: str, mode: str, origin: str = "") -> str:
    return f"Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n" + (f"Origin: {origin}\r\n" if origin else "")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder with two releases, and the delta between their scripts."""
    folder = tmp_path_factory.mktemp("data")
    library = Library(str(folder), FileBlobs(str(folder / "blobs")))
    site = library.site("main")
    for number, content in enumerate((OLD, NEW)):
        build = tmp_path_factory.mktemp("build")
        (build / NAMES[content]).write_bytes(content)
        (build / "index.html").write_bytes(b"<p>%d" % number + COMMON)
        release = publish_folder(library, str(build), lambda *_: None).release
        if number:
            keep_delta(library, sha256(NEW).hexdigest(), sha256(OLD).hexdigest(), len(NEW))
        keep_release(library, site, release)
        activate_release(library, site, release)
    return folder


@pytest.fixture(scope="module")
def ours(data) -> Iterator[Server]:
    with running(data, data=data, sites=SITES) as server:
        yield server


@pytest.fixture(scope="module")
def stock(data) -> Iterator[Server]:
    with running(data, HttpToolsProtocol, data=data, sites=SITES) as server:
        yield server


@pytest.fixture
def slow(monkeypatch) -> list[bytes]:
    """What went the slow way."""
    seen: list[bytes] = []
    feed = AssetProtocol._feed
    monkeypatch.setattr(AssetProtocol, "_feed", lambda self, data: seen.append(data) or feed(self, data))
    return seen


def coding_of(answer: bytes) -> bytes:
    fields = dict(line.split(b": ", 1) for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    return fields.get(b"content-encoding", b"")


REQUESTS = {
    "same origin": (offer(OLD, fetch("same-origin", "no-cors")), b"dcz"),
    "no metadata": (offer(OLD), b"dcz"),
    "navigation": (offer(OLD, fetch("cross-site", "navigate")), b"dcz"),
    "cors": (offer(OLD, fetch("same-site", "cors", "https://a.example")), b"dcz"),
    "cors from elsewhere": (offer(OLD, fetch("cross-site", "cors", "https://b.example")), b"dcz"),
    "cors without origin": (offer(OLD, fetch("same-site", "cors")), b"br"),
    "unreadable": (offer(OLD, fetch("cross-site", "no-cors")), b"br"),
    "without": (CHROMIUM, b"br"),
    "unknown": (offer(b"unknown"), b"br"),
    "malformed": (CHROMIUM + "Available-Dictionary: :AAAA:\r\n", b"br"),
    "no dcz": (offer(OLD).replace(", dcz", ""), b"br"),
    "a range": (offer(OLD, "Range: bytes=0-9\r\n").replace(CHROMIUM, "Accept-Encoding: identity, dcb, dcz\r\n"), b""),
}


@pytest.mark.parametrize("order", [1, -1])
def test_every_answer_is_that_of_the_slow_path_whatever_came_before(ours, stock, order):
    with ours.connect() as wire, stock.connect() as other:
        for _ in range(4):
            for fields, coding in list(REQUESTS.values())[::order]:
                request = get(TARGET, fields)
                answer = wire.ask(request)
                assert coding_of(answer) == coding
                assert alike(answer, first=True) == alike(other.ask(request), first=True)


@pytest.mark.parametrize("name", ["same origin", "no metadata", "cors", "unreadable", "unknown", "a range"])
def test_what_comes_again_is_hot(ours, slow, name):
    request = get(TARGET, REQUESTS[name][0])
    with ours.connect() as wire:
        answers = [wire.ask(request) for _ in range(5)]
        before = len(slow)
        assert {coding_of(wire.ask(request)) for _ in range(3)} == {coding_of(one) for one in answers}
        assert len(slow) == before


def test_a_delta_for_all_origins_is_kept_once(ours):
    count = len(ours.hot)
    with ours.connect() as wire:
        for number in range(20):
            wire.ask(get(TARGET, offer(OLD, fetch("same-site", "cors", f"https://{number}.example"))))
    assert len(ours.hot) <= count + 1


def test_made_up_hashes_push_out_no_file(data, monkeypatch):
    monkeypatch.setattr(hotcache, "LIMIT_ANSWERS", 8)
    monkeypatch.setattr(hotcache, "LIMIT_OTHERS", 4)
    with running(data, data=data, sites=SITES) as server, server.connect() as wire:
        for _ in range(3):
            wire.ask(get(TARGET, CHROMIUM))
            wire.ask(get(TARGET, offer(OLD)))
        files = dict(server.hot._files.answers)
        assert len(files) == 2
        for number in range(60):
            request = get(TARGET, offer(b"%d" % number))
            assert {coding_of(wire.ask(request)) for _ in range(2)} == {b"br"}
        assert server.hot._files.answers == files
        assert len(server.hot._others.answers) <= 4


def test_who_may_read_is_decided_as_the_slow_path_does():
    names = (b"Host", b"Available-Dictionary", b"Sec-Fetch-Site", b"Sec-Fetch-Mode", b"Origin")
    value = b":" + b64encode(bytes(32)) + b":"
    for site in (None, "same-origin", "same-site", "none", ""):
        for mode in (None, "navigate", "same-origin", "cors", "no-cors", ""):
            for origin in (None, "https://a.example"):
                sent = [b"a", value, *(None if one is None else one.encode() for one in (site, mode, origin))]
                lines = [(name, one) for name, one in zip(names, sent, strict=True) if one is not None]
                shape = Shape(tuple(name for name, _ in lines))
                match = shape.fullmatch(b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n")
                assert match is not None
                offered = OfferedDictionary(bytes(32), site, mode, origin)
                expected = b"cors" + value if may_read(offered, "*") and not may_read(offered, None) else value
                assert shape.key(match)[4:] == ((expected,) if may_read(offered, "*") else ())


@pytest.mark.parametrize("value", [":AAAA:", "", "x", f":{b64encode(bytes(32)).decode()}:;a"])
def test_what_is_no_hash_is_left_to_the_slow_path(value):
    shape = Shape((b"Host", b"Available-Dictionary"))
    assert shape.fullmatch(f"GET / HTTP/1.1\r\nHost: a\r\nAvailable-Dictionary: {value}\r\n\r\n".encode()) is None

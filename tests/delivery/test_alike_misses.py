"""Misses that are answered alike: nothing but a miss is, and each gets what it would get by itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assetserver.delivery.protocol import AssetProtocol
from assetserver.delivery.releasefolder import LOOK_S
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.library import Library
from assetserver.releases.publish import publish_folder
from assetserver.storage.files import FileBlobs

from .wires import Server, alike, get, running, wait_for

SITE = {
    "index.html": b"home",
    "about.html": b"about",
    "docs/index.html": b"docs",
    "docs/a.css": b"a {}",
    "js/app.0123456789ab.js": b"1",
}
RULES = {
    "_redirects": b"/from /docs/\n/gone/* /about.html 410\n",
    "_headers": b"/h/*\n  x-h: 1\n/*.txt\n  x-t: 2\n",
    "404.html": b"lost" * 200,
}
SEGMENTS = [
    "about",
    "about.html",
    "docs",
    "index.html",
    "a.css",
    "js",
    "from",
    "gone",
    "h",
    "media",
    "uploads",
    "none",
    "x.txt",
]
SEGMENTS += ["none.js", "v.html", "app.0123456789ab.js", "b.0123456789ac.js", ".env", "..", "", "%41", "%2e", "a+b", "x" * 300]
SEGMENTS += ["q?q=1", "asked?q=a", "550e8400", "404.html", "other", "_headers", "-"]
QUERY_RULE = {"_redirects": b"/asked q=:q /docs/:q\n"}
ACCEPTS = ["", "Accept: */*\r\n", "Accept: text/html\r\nAccept-Encoding: br\r\n", 'If-None-Match: "x"\r\nAccept: a/json\r\n']
SITES = {
    "plain": ({}, [{"name": "main"}]),
    "rules": (RULES, [{"name": "main"}]),
    "query": (QUERY_RULE, [{"name": "main"}]),
    "clean": (RULES, [{"name": "main", "clean_urls": True}]),
    "fallback": ({}, [{"name": "main", "fallback": "index.html"}]),
    "prefixes": ({}, [{"name": "main"}, {"name": "other", "prefix": "/other"}]),
    "hosts": ({}, [{"name": "main", "host": "a"}, {"name": "other"}]),
}


class Both(NamedTuple):
    """The same sites, with the hot path and without; ``publish`` activates files as a site's release."""

    ours: Server
    stock: Server
    data: Path

    def publish(self, name: str, files: dict[str, bytes]) -> None:
        publish(self.data, name, files)


def publish(data: Path, name: str, files: dict[str, bytes]) -> None:
    library = Library(str(data), FileBlobs(str(data / "blobs")))
    folder = data.parent / f"build-{name}-{len(files)}"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    release = publish_folder(library, str(folder), lambda *_: None).release
    keep_release(library, library.site(name), release)
    activate_release(library, library.site(name), release)


@pytest.fixture(params=SITES)
def both(request, tmp_path) -> Iterator[Both]:
    more, sites = SITES[request.param]
    data = tmp_path / "data"
    publish(data, "main", SITE | more)
    publish(data, "other", {"index.html": b"other", "x.txt": b"here"})
    with (
        running(tmp_path, data=data, sites=sites) as ours,
        running(tmp_path, HttpToolsProtocol, data=data, sites=sites) as stock,
    ):
        yield Both(ours, stock, data)


@pytest.fixture
def slow(monkeypatch) -> list[bytes]:
    """What went the slow way."""
    fed: list[bytes] = []
    feed = AssetProtocol._feed

    def note(self: AssetProtocol, data: bytes) -> None:
        fed.append(data)
        feed(self, data)

    monkeypatch.setattr(AssetProtocol, "_feed", note)
    return fed


def test_each_miss_gets_what_it_would_get_by_itself(both):
    pick = random.Random(7)  # noqa: S311 - the same every time
    with both.ours.connect() as wire, both.stock.connect() as theirs:
        for _ in range(400):
            target = "/" + "/".join(pick.choices(SEGMENTS, k=pick.choice([1, 1, 2, 3])))
            request = get(target, pick.choice(ACCEPTS), pick.choice(["GET", "GET", "GET", "HEAD"]))
            assert alike(wire.ask(request), first=True) == alike(theirs.ask(request), first=True), request


@pytest.mark.parametrize("both", ["plain", "rules", "prefixes", "hosts"], indirect=True)
def test_names_that_nobody_asked_for_before_are_missed_without_the_slow_path(both, slow):
    with both.ours.connect() as wire:
        for number in range(12):
            wire.ask(get(f"/heat/{number}.txt"))
            wire.ask(get(f"/heat/{number}"))
        slow.clear()
        answers = [wire.ask(get(f"/wp-content/{number}.txt")) for number in range(20)]
        assert all(answer.startswith(b"HTTP/1.1 404 ") and b"no-store" in answer for answer in answers)
        assert len({answer.partition(b"x-request-id: ")[2] for answer in answers}) == 20
        assert len(slow) <= 2, "a miss is believed for a second"


@pytest.mark.parametrize("both", ["plain"], indirect=True)
def test_a_name_that_is_published_is_missed_no_more(both, slow):
    with both.ours.connect() as wire:
        for number in range(30):
            assert b" 404 " in wire.ask(get(f"/new/{number}.txt"))[:13]
        both.publish("main", SITE | {f"new/{number}.txt": b"here" for number in range(40)})
        wait_for(lambda: b"here" in wire.ask(get("/new/31.txt")), f"the new release within {LOOK_S} s")
        assert all(wire.ask(get(f"/new/{number}.txt")).endswith(b"here") for number in range(40))

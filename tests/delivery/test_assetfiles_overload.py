"""What goes on in the background neither fails nor delays the answers in the foreground."""

import os
import threading

import anyio
import pytest

from assetserver.delivery import encodings
from assetserver.delivery.encodings import Encodings

CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100


def test_a_file_that_grows_while_it_is_compressed_fails_no_request(make_site, monkeypatch):
    site = make_site({"log.txt": CSS})
    real, lines = encodings.read_pieces, [b"one more line\n"]

    def grow(descriptor):
        yield from real(descriptor)
        with (site.root / "log.txt").open("ab") as file:
            file.write(lines.pop() if lines else b"")
        yield from real(descriptor)

    monkeypatch.setattr(encodings, "read_pieces", grow)
    assert site.get("/log.txt", accept_encoding="zstd").status == 200
    site.forget()
    assert site.get("/log.txt").body == CSS + b"one more line\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_work_that_fails_unexpectedly_fails_no_request(make_site, monkeypatch, backend):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Encodings, "make", fail)
    site = make_site({"a.css": CSS})
    for _ in range(2):
        answer = site.get("/a.css", accept_encoding="br", backend=backend)
        assert (answer.status, answer.body, answer.get("content-encoding")) == (200, CSS, None)


def test_a_pool_that_closes_while_a_request_waits_for_it_fails_no_request(make_site, resources, exchange, make_scope):
    site, gate, started = make_site({"a.css": CSS}), threading.Event(), threading.Event()
    for _ in range(2):  # both threads are busy, so that the work on the file waits and is dropped
        resources.compressors.submit(lambda: (started.set(), gate.wait(60)))
    assert started.wait(60)
    assert site.app.folder.load("a.css").work is not None

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            answer = await exchange(site.app, make_scope("/a.css", headers=[(b"accept-encoding", b"br")]))
        assert (answer.status, answer.body) == (200, CSS)

    async def close() -> None:
        await anyio.lowlevel.checkpoint()
        threading.Timer(0.05, gate.set).start()
        await anyio.to_thread.run_sync(resources.compressors.close)

    anyio.run(run)
    assert site.app.folder.load("a.css").work.cancelled()


def test_a_listing_that_takes_long_delays_no_file(make_site, resources, exchange, make_scope):
    site, gate = make_site({"a.css": CSS}, listing=True), threading.Event()
    resources.listings.submit(gate.wait, 20)
    statuses = []

    async def ask_for(path: str) -> None:
        answer = await exchange(site.app, make_scope(path))
        statuses.append((path, answer.status))
        if path == "/a.css":
            gate.set()

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask_for, "/")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(ask_for, "/a.css")

    anyio.run(run)
    assert statuses == [("/a.css", 200), *[("/", 200)] * 8]


def test_a_click_in_a_listing_is_not_redirected(make_site):
    site = make_site({"a(1)+b.txt": "x", "a b.txt": "x"}, listing=True)
    page = site.get("/").body.decode()
    links = [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert [site.get(link.removeprefix(".")).status for link in links] == [200, 200]


def test_long_urls_that_a_fallback_answers_are_not_remembered(make_site):
    site = make_site({"index.html": "<p>"}, html=True, fallback="index.html")
    for path in ("/short", "/" + "x/" * 300 + "y"):
        assert site.get(path).status == 200
    assert len(site.app._hot) == 1
    assert max(len(os.fsencode(path)) for path in site.app.folder._misses) <= 512

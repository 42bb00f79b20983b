"""A site's releases over HTTP: one release per answer, the switch within a second, never wrong bytes."""

import errno
import logging
import os
import threading
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from assetserver.delivery import blobsources, releasefolder
from assetserver.delivery.releasefolder import LOOK_S, RETRY_S, ReleaseFolder
from assetserver.releases.catalog import CatalogEntry
from assetserver.releases.siterules import NO_RULES
from assetserver.releases.sites import previous_release
from assetserver.semantics.representation import Asset
from assetserver.storage.pools import FilePool

LARGE_BYTES = 24 << 20


def chunk(content: bytes) -> str:
    return f"chunk.{sha256(content).hexdigest()[:10]}.js"


OLD, NEW = chunk(b"old"), chunk(b"new")
V1 = {"index.html": b"one", OLD: b"old", "only-in-one.txt": b"1", "docs/index.html": b"docs", "404.html": b"lost"}
V2 = {"index.html": b"two", NEW: b"new", "404.html": b"lost"}


def test_nothing_is_served_before_a_release_is_active(served):
    assert served.get("/").status == 404
    served.publish(V1)
    served.look()
    assert served.get("/").status == 404


def test_the_active_release_is_a_site(served):
    served.activate(V1)
    assert served.get("/").body == b"one"
    assert served.get("/docs/").body == b"docs"
    assert served.get("/docs")["location"] == "/docs/"
    assert (served.get("/nothing").status, served.get("/nothing").body) == (404, b"lost")
    assert served.get("/index.html", method="HEAD")["content-length"] == "3"
    assert served.get("/only-in-one.txt", range="bytes=0-0").status == 206


def test_the_switch_is_seen_once_the_time_to_look_has_come(served):
    served.activate(V1)
    for _ in range(3):
        assert served.get("/").body == b"one"
    served.activate(V2)
    served.clock.pass_s(LOOK_S * 0.9)
    assert served.get("/").body == b"one"
    served.clock.pass_s(LOOK_S * 0.2)
    assert served.get("/").body == b"two"
    assert served.get("/only-in-one.txt").status == 404
    assert served.get("/docs").status == 404


def test_an_entity_tag_is_that_of_the_content_across_releases(served):
    served.activate(V1)
    tags = {path: served.get(path)["etag"] for path in ("/", "/404.html")}
    served.activate(V2)
    served.look()
    assert served.get("/404.html", if_none_match=tags["/404.html"]).status == 304
    assert served.get("/", if_none_match=tags["/"]).status == 200


def test_old_fingerprinted_names_stay_and_other_names_do_not(served):
    served.activate(V1)
    fresh = served.get("/" + OLD)
    served.activate(V2)
    served.look()
    kept = served.get("/" + OLD)
    assert (kept.status, kept.body) == (200, b"old")
    assert "immutable" in kept["cache-control"]
    assert kept["cache-control"] == fresh["cache-control"]
    assert served.get("/" + NEW).body == b"new"
    assert served.get("/only-in-one.txt").status == 404


def test_a_name_that_only_looks_hashed_is_not_immutable_and_does_not_stay(served):
    served.activate(V1 | {"runtime-deadbeef.js": b"x"})
    assert "immutable" not in served.get("/runtime-deadbeef.js")["cache-control"]
    served.activate(V2)
    served.look()
    missed = served.get("/runtime-deadbeef.js")
    assert missed.status == 404
    assert "no-store" in missed["cache-control"]


def test_rolling_back_brings_the_release_before(served):
    served.activate(V1)
    served.activate(V2)
    served.look()
    assert served.get("/").body == b"two"
    served.activate(previous_release(served.site.read()))
    served.look()
    assert served.get("/").body == b"one"
    assert served.get("/only-in-one.txt").body == b"1"
    assert served.get("/" + NEW).body == b"new"  # who opened the page of two goes on with it


def test_a_request_in_flight_keeps_its_release(served, exchange, make_scope):
    first, second = os.urandom(64) * (LARGE_BYTES // 64), os.urandom(64) * (LARGE_BYTES // 64)
    served.activate({"large.bin": first, "index.html": b"one"})
    two = served.publish({"large.bin": second, "index.html": b"two"})
    pieces: list[bytes] = []

    async def run() -> None:
        forever = anyio.Event()

        async def receive() -> dict:
            await forever.wait()
            return {"type": "http.disconnect"}

        async def send(message) -> None:
            if message["type"] != "http.response.body":
                return
            pieces.append(bytes(message["body"]))
            if len(pieces) == 1:
                served.activate(two)
                served.look()
                assert (await exchange(served.app, make_scope("/"))).body == b"two"

        await served.app(make_scope("/large.bin"), receive, send)

    anyio.run(run)
    assert len(pieces) > 1
    assert sha256(b"".join(pieces)).digest() == sha256(first).digest()
    assert sha256(served.get("/large.bin").body).digest() == sha256(second).digest()


def test_compressed_forms_are_served_from_their_blobs(served):
    css = b"body { color: rebeccapurple; margin: 0 }\n" * 100
    served.activate({"app.css": css})
    answers = {coding: served.get("/app.css", accept_encoding=coding) for coding in ("br", "zstd", "gzip", "identity")}
    assert {coding: answer.get("content-encoding") for coding, answer in answers.items()} == {
        "br": "br",
        "zstd": "zstd",
        "gzip": "gzip",
        "identity": None,
    }
    assert answers["identity"].body == css
    assert len({answer["etag"] for answer in answers.values()}) == 4


def test_a_damaged_compressed_form_falls_back_to_the_file(served, caplog):
    css = b"body { color: rebeccapurple; margin: 0 }\n" * 100
    served.activate({"app.css": css})
    for form in served.library.codings_of(sha256(css).hexdigest()):
        path = Path(served.library.blobs.path_of(form.digest))
        path.chmod(0o644)
        path.write_bytes(b"\0" * form.size)
    answer = served.get("/app.css", accept_encoding="br, zstd, gzip")
    assert (answer.status, answer.body, answer.get("content-encoding")) == (200, css, None)
    assert sum("damaged" in record.message for record in caplog.records) == 3


DAMAGE = {
    "altered": lambda path: path.write_bytes(b"wrong"),
    "cut": lambda path: path.write_bytes(b"righ"),
    "grown": lambda path: path.write_bytes(b"right, and more"),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_damaged_blob_is_a_miss_of_that_file_alone_and_logged(served, resources, caplog, damage, when):
    served.activate({"good.txt": b"right", "other.txt": b"whole"})
    if when == "after":
        assert served.get("/good.txt").body == b"right"
        resources.memory._contents.clear()
    damage(served.blob(b"right"))
    for _ in range(2):
        answer = served.get("/good.txt")
        assert answer.status == 404
        assert b"wrong" not in answer.body
    assert served.get("/other.txt").body == b"whole"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].message.startswith("/good.txt cannot be served")


def test_a_blob_repaired_by_publishing_again_is_served_soon(served):
    release = served.activate({"good.txt": b"right"})
    served.blob(b"right").unlink()
    assert served.get("/good.txt").status == 404
    assert served.publish({"good.txt": b"right"}) == release
    served.clock.pass_s(RETRY_S + LOOK_S)
    assert served.get("/good.txt").body == b"right"


def test_want_of_descriptors_is_not_taken_for_damage(served, monkeypatch):
    served.activate({"good.txt": b"right"})

    def fail(_: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(blobsources, "open_regular", fail)
        assert served.get("/good.txt").status == 503
    assert served.get("/good.txt").body == b"right"


@pytest.mark.parametrize("content", [b"", b'{"generation": 2, "act', b"[]"], ids=["empty", "cut", "other"])
def test_a_damaged_state_leaves_the_release_that_is_served(served, caplog, content):
    served.activate(V1)
    assert served.get("/").body == b"one"
    Path(served.site.path).write_bytes(content)
    for _ in range(3):
        served.look()
        assert served.get("/docs/").body == b"docs"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "state.json is damaged" in caplog.text


def test_a_site_damaged_from_the_start_is_unavailable_until_it_is_repaired(served):
    served.activate(V1)
    state = Path(served.site.path)
    whole = state.read_bytes()
    state.write_bytes(b"{")
    for _ in range(2):
        assert served.get("/").status == 503
    state.write_bytes(whole)
    assert served.get("/").body == b"one"


def test_a_damaged_manifest_stops_a_switch_and_not_the_site(served, caplog):
    served.activate(V1)
    assert served.get("/").body == b"one"
    two = served.activate(V2)
    os.unlink(served.library.index_path(two))
    Path(served.library.folder, "releases", f"{two}.json").write_bytes(b"{}")
    served.look()
    assert served.get("/").body == b"one"
    assert two[:12] in caplog.text


@pytest.mark.parametrize("path", ["/", "/..%2f", "/%5c", "/nothing"])
def test_a_site_that_cannot_be_read_is_overloaded_and_not_broken(served, path):
    served.activate(V1)
    assert served.get("/").status == 200
    os.unlink(served.site.path)
    served.look()
    assert served.get("/").status == 404
    Path(served.site.path).write_text("{")
    served.look()
    answer = served.get(path)
    assert (answer.status, answer["cache-control"], answer["retry-after"]) == (503, "no-store", "1")


class Moving:
    """An index that a test moves."""

    def __init__(self) -> None:
        self.mark, self.content = 1, b"one"
        self.rules = NO_RULES

    def __call__(self):
        return self.mark, self

    def get(self, path: str) -> CatalogEntry:
        return CatalogEntry(path, sha256(self.content).digest(), len(self.content))


def test_who_comes_after_the_switch_does_not_wait_for_the_release_before(tmp_path, clock):
    index, reached, go_on = Moving(), threading.Event(), threading.Event()
    for content in (b"one", b"two"):
        (tmp_path / sha256(content).hexdigest()).write_bytes(content)

    def path_of(digest: str) -> str:
        if digest == sha256(b"one").hexdigest():
            reached.set()
            assert go_on.wait(60)
        return str(tmp_path / digest)

    files = FilePool("test", 2)
    folder = ReleaseFolder(index, path_of, lambda _path, forms, *_: Asset(forms, False, (), ()), files, clock_s=clock)  # noqa: FBT003
    found: dict[str, bytes | None] = {}

    async def look(name: str) -> None:
        found[name] = (await folder.lookup("a.txt")).digest

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look, "before")
            await anyio.to_thread.run_sync(reached.wait, 20)
            index.mark, index.content = 2, b"two"
            clock.pass_s(LOOK_S)
            with anyio.move_on_after(5):
                await look("after")
            go_on.set()
        await look("later")

    try:
        anyio.run(run)
    finally:
        go_on.set()
        files.close()
    one, two = sha256(b"one").digest(), sha256(b"two").digest()
    assert found == {"before": one, "after": two, "later": two}


def test_callers_at_once_share_one_look_at_the_blobs(served, exchange, make_scope, monkeypatch):
    served.activate({"good.txt": b"right"})
    looks: list[str] = []
    real = blobsources.open_regular
    monkeypatch.setattr(blobsources, "open_regular", lambda path: looks.append(path) or real(path))
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await exchange(served.app, make_scope("/good.txt"))).status)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)

    anyio.run(run)
    assert statuses == [200] * 20
    assert len(looks) == 1


def test_known_entries_stay_within_a_limit(served, monkeypatch):
    monkeypatch.setattr(releasefolder, "LIMIT_ENTRIES", 3)
    served.activate({f"{number}.txt": b"%d" % number for number in range(9)})
    for number in range(9):
        assert served.get(f"/{number}.txt").body == b"%d" % number
    assert len(served.app.folder._entries) == 3

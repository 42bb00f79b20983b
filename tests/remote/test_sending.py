"""A folder goes to a server: what travels, how, and what happens if files or the server change meanwhile."""

import json
import os
import threading
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from assetserver.data import open_empty
from assetserver.errors import PublishError, RemoteError
from assetserver.releases.collect import Retention, collect
from assetserver.releases.publish import PublishOptions, publish_folder
from assetserver.remote.client import Remote, SiteInfo
from assetserver.remote.finishing import Missing
from assetserver.remote.sending import read_build, rehearse, send_build

from .conftest import TOKEN, Counted, info_of, send, submission_of, write

TEXT = b"".join(b"export const value%d = %d;\n" % (n, n) for n in range(3000))
NOISE = os.urandom(100_000)
FILES = {"index.html": b"<p>page", "app.js": TEXT, "photo.jpg": NOISE, "notes.txt": NOISE, "same.js": TEXT}


def digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "site", FILES)


def test_each_content_travels_once_and_only_if_it_is_missing(server, folder, tmp_path):
    first, second = Counted(), Counted()
    sent = send(server.url, folder, tmp_path / "nothing", first)
    assert first.puts == sorted({digest_of(content) for content in FILES.values()})
    assert (sent.blobs, sent.bytes) == (3, len(TEXT) + len(NOISE) + len(b"<p>page"))
    (folder / "index.html").write_bytes(b"<p>another page")
    again = send(server.url, folder, tmp_path / "nothing", second)
    assert second.puts == [digest_of(b"<p>another page")]
    assert (again.blobs, again.published.files) == (1, 5)
    third = Counted()
    assert send(server.url, folder, tmp_path / "nothing", third).blobs == 0
    assert [method for method, _ in third.requests] == ["GET", "POST"]


def test_text_travels_as_zstd_and_what_does_not_shrink_as_it_is(server, folder, tmp_path):
    codings: dict[str, str | None] = {}

    def note(request: httpx.Request) -> None:
        if request.method == "PUT":
            codings[request.url.path.rpartition("/")[2]] = request.headers.get("content-encoding")

    sent = send(server.url, folder, tmp_path / "nothing", Counted(note))
    assert codings == {digest_of(TEXT): "zstd", digest_of(NOISE): None, digest_of(b"<p>page"): None}
    assert sent.sent_bytes < len(NOISE) + len(TEXT) / 3


class Coded(Counted):
    """Notes how each blob was coded, and how long it was, in the order in which they were sent."""

    def __init__(self):
        super().__init__(self.note)
        self.codings, self.sizes = [], []

    def note(self, request):
        if request.method == "PUT":
            self.codings.append(request.headers.get("content-encoding"))
            self.sizes.append(int(request.headers["content-length"]))


def next_version(content: bytes) -> bytes:
    return content.replace(b"value1234 ", b"other1234 ")


@pytest.mark.parametrize("name", ["app.js", "app-BX2k9fQ3.js"])
def test_of_a_text_that_was_sent_before_only_the_difference_travels(server, tmp_path, name):
    kept, first, second = tmp_path / "kept", Coded(), Coded()
    send(server.url, write(tmp_path / "site", {"app-BX2k9fQ3.js": TEXT} | {name: TEXT}), tmp_path / "nothing", first, kept=kept)
    for old in (tmp_path / "site").iterdir():
        old.unlink()
    after = "app-h3Jd8Kw1.js" if name != "app.js" else name
    write(tmp_path / "site", {after: next_version(TEXT)})
    sent = send(server.url, tmp_path / "site", tmp_path / "nothing", second, kept=kept)
    assert (first.codings, second.codings) == (["zstd"], ["dcz"])
    assert sent.sent_bytes == second.sizes[0] < first.sizes[0] / 20
    assert b"".join(server.library.blobs.read(digest_of(next_version(TEXT)))) == next_version(TEXT)


def test_whole_files_travel_where_the_server_lost_the_version_before(server, tmp_path):
    kept, second = tmp_path / "kept", Coded()
    send(server.url, write(tmp_path / "site", {"app.js": TEXT}), tmp_path / "nothing", kept=kept)
    assert server.library.blobs.delete(digest_of(TEXT))
    (tmp_path / "site" / "app.js").write_bytes(next_version(TEXT))
    sent = send(server.url, tmp_path / "site", tmp_path / "nothing", second, kept=kept)
    assert second.codings == ["dcz", "zstd"]
    assert (sent.sent_bytes, sent.published.files) == (second.sizes[1], 1)


def test_a_difference_that_is_no_shorter_does_not_travel(server, tmp_path):
    kept, second = tmp_path / "kept", Coded()
    send(server.url, write(tmp_path / "site", {"app.js": NOISE}), tmp_path / "nothing", kept=kept)
    (tmp_path / "site" / "app.js").write_bytes(TEXT)
    send(server.url, tmp_path / "site", tmp_path / "nothing", second, kept=kept)
    assert second.codings == ["zstd"]


def test_many_differences_are_sent_without_being_refused(server, tmp_path):
    kept, files = tmp_path / "kept", {f"{number}.js": TEXT + b"//%d" % number for number in range(30)}
    send(server.url, write(tmp_path / "site", files), tmp_path / "nothing", kept=kept)
    write(tmp_path / "site", {name: next_version(content) for name, content in files.items()})
    second = Coded()
    sent = send(server.url, tmp_path / "site", tmp_path / "nothing", second, kept=kept)
    assert (second.codings, sent.blobs) == (["dcz"] * 30, 30)


def test_large_text_is_compressed_as_it_travels(server, tmp_path, monkeypatch):
    monkeypatch.setattr("assetserver.remote.sending.WHOLE_BYTES", 1000)
    write(tmp_path / "site", {"app.js": TEXT, "photo.jpg": NOISE})
    sent = send(server.url, tmp_path / "site", tmp_path / "nothing")
    assert sent.sent_bytes < len(NOISE) + len(TEXT) / 3
    assert {one.size for one in server.library.blobs.list_blobs()} >= {len(TEXT), len(NOISE)}


def test_eight_files_travel_at_once_and_no_more(server, tmp_path):
    write(tmp_path / "site", {f"{n}.txt": b"%d" % n for n in range(40)})
    now, most, lock = 0, 0, threading.Lock()
    gate = threading.Event()

    class Watched(Counted):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
                if most == 8:
                    gate.set()
            try:
                if request.method == "PUT":
                    assert gate.wait(60)
                return super().handle_request(request)
            finally:
                with lock:
                    now -= 1

    send(server.url, tmp_path / "site", tmp_path / "nothing", Watched())
    assert most == 8


def test_a_server_that_goes_away_and_comes_back_is_waited_for(server, folder, tmp_path, at_once):
    failures = iter([httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.WriteError("broken pipe")])

    def fail(request: httpx.Request) -> None:
        if request.method == "PUT" and (error := next(failures, None)):
            raise error

    sent = send(server.url, folder, tmp_path / "nothing", Counted(fail))
    assert sent.published.files == 5


@pytest.mark.parametrize("change", ["replace", "append", "remove"])
def test_a_file_that_changes_after_it_was_hashed_is_told(server, folder, tmp_path, change):
    def alter(request: httpx.Request) -> None:
        if request.method == "POST":
            path = folder / "photo.jpg"
            if change == "remove":
                path.unlink(missing_ok=True)
            elif change == "replace":
                path.write_bytes(os.urandom(len(NOISE)))
            else:
                path.write_bytes(NOISE + b"more")

    with pytest.raises(PublishError, match=r"photo\.jpg (changed while it was sent|cannot be read)"):
        send(server.url, folder, tmp_path / "nothing", Counted(alter))
    assert list(server.library.manifests()) == []


def test_an_error_ends_all_transfers(server, tmp_path):
    write(tmp_path / "site", {f"{n}.txt": b"%d" % n for n in range(100)})

    def refuse(request: httpx.Request) -> None:
        if request.method == "PUT":
            request.url = request.url.copy_with(path="/-/api/blobs/" + "ab" * 32)

    transport = Counted(refuse)
    with pytest.raises(PublishError, match="the bytes are not those"):
        send(server.url, tmp_path / "site", tmp_path / "nothing", transport)
    assert len(transport.puts) < 60


def test_a_collection_that_takes_what_was_sent_only_costs_another_round(server, folder, tmp_path):
    posts = 0

    def collect_meanwhile(request: httpx.Request) -> None:
        nonlocal posts
        posts += request.method == "POST"
        if posts == 2:
            for digest in {digest_of(content) for content in FILES.values()}:
                server.library.blobs.delete(digest)

    transport = Counted(collect_meanwhile)
    # Two submissions say what is missing; the third, after a second round, makes the release.
    real = collect_meanwhile

    def once(request: httpx.Request) -> None:
        real(request)
        if posts == 2:
            transport._before = lambda _: None

    transport._before = once
    sent = send(server.url, folder, tmp_path / "nothing", transport)
    assert (sent.blobs, len(transport.puts)) == (6, 6)
    collect(server.library, Retention(10, 10), grace_s=0)
    assert server.library.site("default").read().releases[0].id == sent.published.id


def test_a_server_that_loses_everything_is_given_up(tmp_path, folder):
    info = SiteInfo("default", None, "", "", PublishOptions())
    build = read_build(open_empty(str(tmp_path / "nothing")), str(folder), info, lambda *_: None)

    class Forgetful(Remote):
        def submit(self, *_: object) -> Missing:
            return Missing((digest_of(TEXT),))

        def send_blob(self, *_: object) -> None:
            pass

    with pytest.raises(RemoteError, match="loses what it is sent: it asked 5 times"):
        send_build(Forgetful("https://example.com", TOKEN), build, "", submission_of(build), lambda *_: None)


def test_a_server_is_sent_nothing_that_was_not_offered(tmp_path, folder):
    info = SiteInfo("default", None, "", "", PublishOptions())
    build = read_build(open_empty(str(tmp_path / "nothing")), str(folder), info, lambda *_: None)

    class Curious(Remote):
        def submit(self, *_: object) -> Missing:
            return Missing(("ab" * 32,))

    with pytest.raises(RemoteError, match="which was never offered"):
        send_build(Curious("https://example.com", TOKEN), build, "", submission_of(build), lambda *_: None)


def test_what_would_be_published_is_known_beforehand(server, tmp_path):
    manifest = {"index.html": {"file": "app-4f2a9c01.js", "src": "index.html", "isEntry": True}}
    files = FILES | {
        "_headers": b"/*\n  X-Test: 1\n",
        ".vite/manifest.json": json.dumps(manifest).encode(),
        "app-4f2a9c01.js": b"x",
    }
    folder = write(tmp_path / "site", files)
    nothing = open_empty(str(tmp_path / "nothing"))
    info = info_of(server)
    build = read_build(nothing, str(folder), info, lambda *_: None)
    report = rehearse(nothing, build, info, lambda *_: None)
    assert report.release == send(server.url, folder, tmp_path / "nothing").published.id
    assert report.release == publish_folder(open_empty(str(tmp_path / "here")), str(folder), lambda *_: None).release
    assert not (tmp_path / "nothing").exists()


def test_progress_is_told_from_hashing_to_the_end(server, folder, tmp_path):
    told: list[str] = []

    def progress(what: str, size: int, total: int, files: int, all_files: int) -> None:
        assert 0 <= size <= total
        assert 0 <= files <= all_files
        told.append(what)

    with Remote(server.url, TOKEN) as remote:
        build = read_build(open_empty(str(tmp_path / "nothing")), str(folder), remote.describe_site(""), progress)
        send_build(remote, build, "", submission_of(build), progress)
    assert list(dict.fromkeys(told))[:2] == ["hashing", "sending"]


@pytest.mark.parametrize("count", [2000])
def test_many_files_take_little_memory(server, tmp_path, count):
    def peak_kib() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    send(server.url, write(tmp_path / "first", {"a.txt": b"a"}), tmp_path / "nothing")
    before = peak_kib()
    folder = write(tmp_path / "site", {f"{n % 50}/{n}.txt": b"%d" % n for n in range(count)})
    sent = send(server.url, folder, tmp_path / "nothing")
    assert (sent.blobs, sent.published.files) == (count, count)
    assert peak_kib() - before < 60 << 10

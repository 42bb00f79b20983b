"""The API of releases over real sockets: who may, what is answered, and how things stand afterwards."""

import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from assetserver.bodies import Pace
from assetserver.data import open_empty
from assetserver.errors import NoSpaceError
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.collect import Retention, collect, collecting_lock
from assetserver.releases.publish import publish_folder
from assetserver.releases.sites import lock_site
from assetserver.remote.endpoint import ReleasesApi
from assetserver.remote.submission import Submission, WantedFile, encode_submission
from assetserver.remoteroutes import open_releases_api
from assetserver.semantics.representation import ContentCoding
from assetserver.settings import load_settings
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import compress

from .conftest import Origin, send, wait_until, write
from .server import READER, TOKEN

BODY = b"body { color: teal }\n" * 100
DIGEST = sha256(BODY).hexdigest()
NOTHING = "ab" * 32


def submit(server: Origin, files: dict[str, bytes], **told) -> httpx.Response:
    wanted = {path: WantedFile(sha256(content).hexdigest(), len(content)) for path, content in files.items()}
    fields = {"Accept": told.pop("accept", "application/json")}
    return server.ask("POST", "/-/api/releases", content=encode_submission(Submission(wanted, **told)), headers=fields)


def put(server: Origin, content: bytes, body: bytes | None = None, query: str = "", **options) -> httpx.Response:
    path = f"/-/api/blobs/{sha256(content).hexdigest()}{query}"
    return server.ask("PUT", path, content=content if body is None else body, **options)


def publish(server: Origin, tmp_path: Path, **files: bytes) -> str:
    """Publish behind the server's back; return the release's id."""
    folder = write(tmp_path / sha256(repr(files).encode()).hexdigest()[:8], {f"{name}.txt": one for name, one in files.items()})
    release = publish_folder(server.library, str(folder), lambda *_: None).release
    keep_release(server.library, server.library.site("default"), release)
    return release


REQUESTS = [
    ("GET", "/-/api/releases"),
    ("POST", "/-/api/releases"),
    ("PUT", f"/-/api/blobs/{DIGEST}"),
    ("PUT", "/-/api/blobs/none"),
    ("POST", "/-/api/activate"),
    ("GET", f"/-/api/releases/{NOTHING}/manifest"),
    ("PUT", f"/-/api/releases/{NOTHING}/signature"),
]


class TestWhoMay:
    @pytest.mark.parametrize(("method", "path"), REQUESTS)
    @pytest.mark.parametrize("token", ["", "wrong"])
    def test_without_a_token_that_counts_nothing_is_done(self, server, method, path, token):
        answer = server.ask(method, path, token)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 401
        assert answer.json()["type"] == "urn:assetserver:problem:unauthorised"
        assert not os.path.exists(server.library.folder)

    @pytest.mark.parametrize(("method", "path"), REQUESTS)
    def test_a_token_of_another_scope_may_not(self, server, method, path):
        answer = server.ask(method, path, READER)
        assert answer.status_code == 403
        assert "needs the scope publish" in answer.json()["detail"]
        assert not os.path.exists(server.library.folder)

    @pytest.mark.parametrize(("method", "path"), [one for one in REQUESTS if one[0] != "GET"])
    def test_the_refusal_comes_before_a_byte_of_the_body_is_asked_for(self, server, method, path):
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401")

    def test_a_body_that_is_wanted_is_asked_for(self, server):
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"PUT /-/api/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 100")
            connection.sendall(BODY)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 201")

    @pytest.mark.parametrize(("method", "path"), [("DELETE", "releases"), ("GET", "activate"), ("POST", f"blobs/{DIGEST}")])
    def test_other_methods_are_not_allowed(self, server, method, path):
        assert server.ask(method, f"/-/api/{path}").status_code == 405


class TestBlobs:
    def test_a_blob_is_created_once_and_then_known(self, server):
        assert put(server, BODY).status_code == 201
        assert put(server, BODY).status_code == 200
        assert b"".join(server.library.blobs.read(Digest(DIGEST))) == BODY

    @pytest.mark.parametrize("query", ["", f"?size={len(BODY)}"])
    def test_a_body_may_be_zstd(self, server, query):
        body = b"".join(compress(ContentCoding.ZSTD, [BODY], len(BODY)))
        assert put(server, BODY, body, query, headers={"Content-Encoding": "zstd"}).status_code == 201
        assert server.library.blobs.size_of(Digest(DIGEST)) == len(BODY)

    def test_a_body_may_be_chunked_and_empty(self, server):
        assert server.ask("PUT", f"/-/api/blobs/{DIGEST}", content=iter([BODY[:7], BODY[7:]])).status_code == 201
        assert put(server, b"").status_code == 201

    @pytest.mark.parametrize(
        ("path", "fields", "status"),
        [
            (DIGEST.upper(), {}, 400),
            (DIGEST[:-1], {}, 400),
            ("..%2f..%2fetc%2fpasswd", {}, 405),
            ("none", {}, 400),
            (f"{NOTHING}", {}, 422),
            (f"{DIGEST}?size=-1", {}, 400),
            (f"{DIGEST}?size=1e3", {}, 400),
            (f"{DIGEST}?size={'9' * 5000}", {}, 400),
            (f"{DIGEST}?size=٣", {}, 400),
            (f"{DIGEST}?size=7", {}, 422),
            (f"{DIGEST}?size={1 << 40}", {}, 413),
            (DIGEST, {"Content-Encoding": "br"}, 415),
            (DIGEST, {"Content-Encoding": "zstd"}, 400),
            (DIGEST, {"Content-Encoding": "dcz"}, 400),
        ],
    )
    def test_what_is_wrong_is_told_and_leaves_nothing(self, server, path, fields, status):
        answer = server.ask("PUT", f"/-/api/blobs/{path}", content=BODY, headers=fields)
        assert answer.status_code == status
        assert list(server.library.blobs.list_blobs()) == []
        assert put(server, BODY).status_code == 201

    def test_a_body_that_is_cut_leaves_nothing(self, server):
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"PUT /-/api/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            connection.sendall(head.encode() + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:100])
        assert put(server, BODY).status_code == 201
        folder = os.path.join(server.library.folder, "blobs", "tmp")
        wait_until(lambda: os.listdir(folder) == [])

    @pytest.mark.parametrize("is_known", [False, True])
    @pytest.mark.parametrize("coding", ["identity", "zstd"])
    def test_a_body_that_does_not_end_is_refused_where_it_was_announced_to(self, server, is_known, coding):
        if is_known:
            assert put(server, BODY).status_code == 201
        piece = BODY if coding == "identity" else b"".join(compress(ContentCoding.ZSTD, [b""], 0))
        pieces = piece * (2 + (100_000 // len(piece) if coding == "zstd" else 0))
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"PUT /-/api/blobs/{DIGEST}?size={len(BODY)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += f"Content-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n{len(pieces):x}\r\n"
            connection.sendall(head.encode() + pieces)
            answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 422")
        assert b"connection: close" in answer.lower()

    def test_a_body_that_says_that_it_is_too_long_is_not_asked_for(self, server):
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"PUT /-/api/blobs/{DIGEST}?size={len(BODY)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += f"Content-Length: {len(BODY) + 1}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 422")

    @pytest.mark.parametrize(("method", "path"), [one for one in REQUESTS if one[0] != "GET" and NOTHING not in one[1]][:2])
    def test_a_body_that_comes_too_slowly_is_refused(self, tmp_path, method, path):
        async def pass_all(_: object) -> None:
            pass

        async def run() -> int:
            statuses = []

            async def send_status(message: dict) -> None:
                statuses.append(message.get("status"))

            fields = [(b"content-length", b"1000")]
            routes = [Route(f"/-/api/{path}", one) for path, one in api.resources().items()]
            scope = {"type": "http", "method": method, "path": path, "headers": fields, "query_string": b""}
            with anyio.fail_after(60):
                await Starlette(routes=routes)(scope, anyio.sleep_forever, send_status)
            return statuses[0]

        settings = load_settings(None, {}, {"data.path": str(tmp_path), "uploads.reserve_bytes": 0})
        api = ReleasesApi(open_releases_api(settings)._home, pass_all, Pace(idle_s=0.05))
        try:
            assert anyio.run(run) == 408
        finally:
            api.close()

    def test_the_same_blob_from_many_at_once_is_one(self, server):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: put(server, BODY).status_code, range(16)))
        assert set(answers) <= {200, 201}
        assert [one.size for one in server.library.blobs.list_blobs()] == [len(BODY)]


class TestSubmissions:
    def test_what_is_missing_is_a_conflict_that_names_it(self, server):
        answer = submit(server, {"a.css": BODY, "b.css": b"b"})
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["missing"] == [DIGEST, sha256(b"b").hexdigest()]
        assert answer.json()["type"] == "urn:assetserver:problem:blobs-missing"
        assert list(server.library.manifests()) == []

    def test_with_all_of_it_there_the_release_is_kept(self, server):
        put(server, BODY)
        answer = submit(server, {"a.css": BODY}, message="first", alias="staging")
        assert answer.status_code == 201
        told = answer.json()
        assert (told["site"], told["active"], told["aliases"], told["message"]) == ("default", None, ["staging"], "first")
        assert told["previews"] == [f"/-/releases/{told['id'][:12]}/", "/-/releases/@staging/"]
        assert server.library.site("default").read().resolve("@staging") == told["id"]
        again = submit(server, {"a.css": BODY})
        assert (again.status_code, again.json()["id"], again.json()["existed"]) == (200, told["id"], True)

    def test_a_dry_run_only_tells_what_is_missing(self, server):
        put(server, BODY)
        answer = submit(server, {"a.css": BODY}, dry_run=True)
        assert (answer.status_code, answer.json()) == (200, {"missing": []})
        assert submit(server, {"a.css": BODY, "b": b"b"}, dry_run=True).json()["missing"] == [sha256(b"b").hexdigest()]
        assert list(server.library.manifests()) == []

    @pytest.mark.parametrize("path", ["../a", "a//b", "/a", "a\0", "a/./b", "\\a"])
    def test_a_hostile_path_is_refused_in_words(self, server, path):
        answer = submit(server, {path: BODY})
        assert answer.status_code == 422
        assert json.loads(answer.content)["detail"]
        assert json.loads(answer.content)["type"] == "urn:assetserver:problem:unpublishable"

    def test_a_list_that_is_none_is_refused_in_words(self, server):
        answer = server.ask("POST", "/-/api/releases", content=b'{"files": {"a": {"sha256": "x", "size": 1}}}')
        assert answer.json()["type"] == "urn:assetserver:problem:bad-request"
        assert answer.json()["detail"].endswith(": sha256 must be 64 hexadecimal digits, in lower case")

    @pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"files": 1}'])
    def test_what_is_no_submission_is_refused(self, server, content):
        assert server.ask("POST", "/-/api/releases", content=content).status_code == 400

    def test_a_submission_that_is_too_long_is_refused_before_it_is_read(self, server):
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            head = f"POST /-/api/releases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            connection.sendall(f"{head}Content-Length: {65 << 20}\r\n\r\n".encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413")

    def test_a_lying_size_is_refused(self, server):
        put(server, BODY)
        content = encode_submission(Submission({"a.css": WantedFile(DIGEST, 3)}))
        answer = server.ask("POST", "/-/api/releases", content=content)
        assert answer.status_code == 422
        assert "'a.css' has 2,100 bytes, not 3" in answer.json()["detail"]

    def test_an_unknown_site_is_missing(self, server):
        answer = server.ask("POST", "/-/api/releases?site=nowhere", content=b"{}")
        assert answer.status_code == 404
        assert "there is no site 'nowhere'" in answer.json()["detail"]

    def test_an_error_of_the_disk_is_told_without_paths(self, server):
        os.makedirs(server.library.folder)
        Path(server.library.folder, "blobs").write_bytes(b"a file is in the way")
        answer = put(server, BODY)
        assert answer.status_code == 500
        assert server.library.folder not in answer.text

    def test_a_disk_without_room_is_told_before_anything_is_read(self, tmp_path):
        settings = load_settings(None, {}, {"data.path": str(tmp_path), "uploads.reserve_bytes": 1 << 46})
        home = open_releases_api(settings)._home
        with pytest.raises(NoSpaceError) as refused:
            home.check_room(0)
        assert refused.value.status == 507
        settings = load_settings(None, {}, {"data.path": str(tmp_path / "none"), "uploads.reserve_bytes": 0})
        open_releases_api(settings)._home.check_room(1)

    def test_two_publishers_at_once_both_have_their_release(self, server, tmp_path):
        folders = [write(tmp_path / f"site-{n}", {"shared.css": BODY, "own.txt": b"%d" % n}) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            sent = list(pool.map(lambda one: send(server.url, one, tmp_path / "nothing"), folders))
        local = [publish_folder(open_empty(str(tmp_path / "local")), str(one), lambda *_: None).release for one in folders]
        assert [one.published.id for one in sent] == local
        assert {one.id for one in server.library.site("default").read().releases} == set(local)

    def test_gc_waits_while_a_release_arrives_and_no_longer(self, server, tmp_path):
        put(server, BODY)
        taken = threading.Event()

        def collect_all() -> None:
            collect(server.library, Retention(0, 0), grace_s=0)
            taken.set()

        thread = threading.Thread(target=collect_all)
        thread.start()
        assert not taken.wait(0.5)
        assert submit(server, {"a.css": BODY}).status_code == 201
        assert taken.wait(60)
        thread.join()

    def test_while_gc_runs_clients_are_asked_to_come_again(self, server, monkeypatch):
        os.makedirs(server.library.folder)
        with collecting_lock(server.library.folder):
            answer = put(server, BODY)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert put(server, BODY).status_code == 201


class TestActivation:
    def test_compare_and_swap(self, server, tmp_path):
        one, two = publish(server, tmp_path, a=b"1"), publish(server, tmp_path, a=b"2")
        first = server.ask("POST", "/-/api/activate", json={"id": one, "if_active": None})
        assert (first.status_code, first.json()["active"], first.json()["before"]) == (200, one, None)
        late = server.ask("POST", "/-/api/activate", json={"id": two, "if_active": ""})
        assert (late.status_code, late.json()["active"]) == (409, one)
        assert server.library.site("default").read().active == one
        right = server.ask("POST", "/-/api/activate", json={"id": two[:12], "if_active": one})
        assert (right.status_code, right.json()["before"]) == (200, one)
        assert server.ask("POST", "/-/api/activate", json={"id": one}).status_code == 200
        again = server.ask("POST", "/-/api/activate", json={"id": one, "if_active": one})
        assert (again.status_code, again.json()["generation"]) == (200, 5)
        assert httpx.get(server.url + "/a.txt", timeout=60).content == b"1"

    def test_of_many_who_swap_the_same_one_wins(self, server, tmp_path):
        releases = [publish(server, tmp_path, a=b"%d" % n) for n in range(6)]
        with ThreadPoolExecutor(6) as pool:
            answers = list(
                pool.map(lambda one: server.ask("POST", "/-/api/activate", json={"id": one, "if_active": ""}), releases)
            )
        assert sorted(one.status_code for one in answers) == [200, *[409] * 5]

    def test_a_locked_site_stays_as_it_is(self, server, tmp_path):
        release = publish(server, tmp_path, a=b"1")
        server.library.site("default").change(lambda state: lock_site(state, "we are moving"))
        answer = server.ask("POST", "/-/api/activate", json={"id": release})
        assert answer.status_code == 423
        assert "we are moving" in answer.json()["detail"]
        assert server.library.site("default").read().active is None

    @pytest.mark.parametrize("release", ["ffff", NOTHING, "@nobody", "../x", "ff"])
    def test_what_is_not_kept_is_missing(self, server, tmp_path, release):
        publish(server, tmp_path, a=b"1")
        assert server.ask("POST", "/-/api/activate", json={"id": release}).status_code == 404

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"id": 1}', b'{"id": ""}', b'{"id": "a", "more": 1}', b"\xff"])
    def test_what_is_no_activation_is_refused(self, server, content):
        assert server.ask("POST", "/-/api/activate", content=content).status_code == 400

    def test_a_release_whose_blob_is_gone_does_not_go_live(self, server, tmp_path):
        release = publish(server, tmp_path, a=b"1")
        server.library.blobs.delete(Digest(sha256(b"1").hexdigest()))
        answer = server.ask("POST", "/-/api/activate", json={"id": release})
        assert answer.status_code == 404
        assert "a.txt cannot be served" in answer.json()["detail"]


class TestReading:
    def test_releases_are_listed_the_newest_first(self, server, tmp_path):
        one, two = publish(server, tmp_path, a=b"1"), publish(server, tmp_path, a=b"2")
        activate_release(server.library, server.library.site("default"), one)
        told = server.ask("GET", "/-/api/releases").json()
        assert [(row["id"], row["active"]) for row in told["releases"]] == [(two, False), (one, True)]
        assert (told["site"], told["active"], told["options"]["dialect"]) == ("default", one, "netlify")

    def test_a_manifest_is_read_and_signed(self, server, tmp_path):
        release = publish(server, tmp_path, a=b"1")
        manifest = server.ask("GET", f"/-/api/releases/{release}/manifest").content
        assert sha256(manifest).hexdigest() == release
        answer = server.ask("PUT", f"/-/api/releases/{release}/signature", content=b"no signature")
        assert answer.status_code == 422
        assert not os.path.exists(server.library.manifest_path(release) + ".minisig")
        assert server.ask("GET", f"/-/api/releases/{NOTHING}/manifest").status_code == 404
        assert server.ask("PUT", f"/-/api/releases/{NOTHING}/signature", content=b"x").status_code == 404
        assert server.ask("PUT", f"/-/api/releases/{release}/signature", content=bytes(5000)).status_code == 413

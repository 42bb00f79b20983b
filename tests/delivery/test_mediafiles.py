"""What was uploaded, served."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from urllib.parse import quote

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from assetserver.access.keys import KeyRing, parse_key
from assetserver.access.signedurls import sign_url
from assetserver.delivery.claims import OFFER
from assetserver.delivery.mediafiles import MediaFiles
from assetserver.delivery.mediafolder import MediaPath, parse_media_path
from assetserver.semantics.caching import IMMUTABLE, CachePolicy, CacheRule, CacheTable
from assetserver.storage.files import FileBlobs
from assetserver.storage.marks import ChangeMark

ID = "A" * 22
OTHER = "B" * 22
RING = KeyRing([parse_key("first:" + "f" * 40)])
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@dataclass(frozen=True)
class Upload:
    id: str
    name: str
    size: int | None
    sha256: str
    media_type: str
    collection: str = ""


class Uploads:
    """Records in memory, and how often they were looked up."""

    def __init__(self, folder):
        self.blobs = FileBlobs(str(folder / "blobs"))
        self.mark = ChangeMark(str(folder / "changes"))
        self.by_id = {}
        self.by_name = {}
        self.looks = 0

    def add(self, upload_id, name, content, media_type, *, collection="", by_name=False):
        digest = hashlib.sha256(content).hexdigest()
        self.blobs.put(digest, [content])
        upload = self.by_id[upload_id] = Upload(upload_id, name, len(content), digest, media_type, collection)
        if by_name:
            self.by_name[name, collection] = upload
            self.mark.move()
        return upload

    def remove(self, upload_id):
        del self.by_id[upload_id]
        self.mark.move()

    def find(self, upload_id, name):
        self.looks += 1
        return self.by_id.get(upload_id)

    def find_by_name(self, name, collection):
        self.looks += 1
        return self.by_name.get((name, collection))


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path)


@pytest.fixture
def files(uploads):
    async def load_keys():
        return RING

    return MediaFiles(
        uploads,
        uploads.blobs.path_of,
        is_signed=lambda collection: collection == "private",
        load_keys=load_keys,
        read_mark=uploads.mark.read,
    )


@pytest.fixture
def client(files):
    with TestClient(Starlette(routes=[Mount("/media", files)]), follow_redirects=False) as client:
        yield client


def signed(path, lifetime_s=60):
    return f"/media/{quote(path)}?{sign_url(RING, path, int(time.time()) + lifetime_s)}"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (f"{ID}/a.png", MediaPath(ID, "a.png")),
        ("by-name/a.png", MediaPath("", "a.png")),
        ("by-name/people/a.png", MediaPath("", "a.png", "people")),
        (ID, None),
        (f"{ID}/", None),
        (f"{ID}/a/b", None),
        ("short/a.png", None),
        ("by-name/", None),
        ("by-name//a", None),
        ("", None),
        (f"{'A' * 65}/a", None),
        (f"{ID}\n/a", None),
    ],
)
def test_paths_name_uploads_by_id_or_by_name(path, asked):
    assert parse_media_path(path) == asked


def test_an_upload_is_served_as_it_is_and_for_a_year(client, uploads):
    uploads.add(ID, "Tür.png", PNG, "image/png")
    answer = client.get(f"/media/{ID}/T%C3%BCr.png")
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == IMMUTABLE
    assert answer.headers["content-disposition"] == "inline; filename=\"Tur.png\"; filename*=UTF-8''T%C3%BCr.png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{hashlib.sha256(PNG).hexdigest()[:32]}"'


def test_ranges_and_preconditions_are_those_of_every_asset(client, uploads):
    uploads.add(ID, "a.png", PNG, "image/png")
    url = f"/media/{ID}/a.png"
    part = client.get(url, headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert client.get(url, headers={"if-none-match": part.headers["etag"]}).status_code == 304
    assert client.head(url).headers["content-length"] == str(len(PNG))
    assert client.post(url).status_code == 405


@pytest.mark.parametrize("path", [f"{ID}/b.png", f"{OTHER}/a.png", ID, "by-name/a.png", f"{ID}/../a.png", "by-name/x/a.png"])
def test_what_was_not_uploaded_so_is_missing(client, uploads, path):
    uploads.add(ID, "a.png", PNG, "image/png")
    assert client.get(f"/media/{path}").status_code == 404


def test_an_upload_that_is_not_complete_is_missing(client, uploads):
    upload = uploads.add(ID, "a.png", PNG, "image/png")
    uploads.by_id[ID] = replace(upload, sha256="", size=None)
    assert client.get(f"/media/{ID}/a.png").status_code == 404
    uploads.by_id[ID] = upload
    assert client.get(f"/media/{ID}/a.png").status_code == 200


@pytest.mark.parametrize(
    ("media_type", "served", "shown"),
    [
        ("text/html", "application/octet-stream", False),
        ("application/pdf", "application/pdf", False),
        ("image/svg+xml", "image/svg+xml", True),
    ],
)
def test_what_could_run_is_saved_or_sandboxed(client, uploads, media_type, served, shown):
    uploads.add(ID, "a.png", b"<svg/>", media_type)
    answer = client.get(f"/media/{ID}/a.png")
    assert answer.headers["content-type"] == served
    assert answer.headers["content-disposition"].startswith("inline" if shown else "attachment")
    assert "sandbox" in answer.headers["content-security-policy"].split("; ")


def test_by_name_shows_the_newest_at_once(client, uploads):
    url = "/media/by-name/logo.png"
    tags = []
    for number in range(3):
        uploads.add(f"{number}" * 22, "logo.png", PNG + b"%d" % number, "image/png", by_name=True)
        for _ in range(2):
            answer = client.get(url)
            assert answer.content == PNG + b"%d" % number
        assert answer.headers["cache-control"] == "no-cache"
        tags.append(answer.headers["etag"])
    assert client.get(url, headers={"if-none-match": tags[-1]}).status_code == 304
    assert client.get(url, headers={"if-none-match": tags[0]}).status_code == 200


def test_what_is_removed_is_gone_at_once(client, uploads):
    uploads.add(ID, "a.png", PNG, "image/png")
    assert client.get(f"/media/{ID}/a.png").status_code == 200
    uploads.remove(ID)
    assert client.get(f"/media/{ID}/a.png").status_code == 404


def test_records_are_not_looked_up_for_hot_answers(client, uploads, files, monkeypatch):
    uploads.add(ID, "a.png", PNG, "image/png")
    now_s = time.monotonic()
    monkeypatch.setattr(files.folder, "clock_s", lambda: now_s)
    for _ in range(5):
        assert client.get(f"/media/{ID}/a.png").status_code == 200
    assert uploads.looks == 1
    now_s += 1
    assert client.get(f"/media/{ID}/a.png").status_code == 200
    assert uploads.looks == 2


def test_a_record_that_stands_keeps_its_entry(uploads, files):
    uploads.add(ID, "a.png", PNG, "image/png")
    path = f"{ID}/a.png"
    first = anyio.run(files.folder.lookup, path)
    uploads.mark.move()
    assert files.folder.get(path) is None
    assert anyio.run(files.folder.lookup, path) is first
    assert files.folder.get(path) is first


def test_a_damaged_blob_is_a_miss_until_it_is_mended(client, uploads, caplog):
    upload = uploads.add(ID, "a.png", PNG, "image/png")
    path = uploads.blobs.path_of(upload.sha256)
    uploads.blobs.delete(upload.sha256)
    with open(path, "wb") as file:
        file.write(PNG[:-1] + b"!")
    assert client.get(f"/media/{ID}/a.png").status_code == 404
    assert "damaged" in caplog.text
    uploads.blobs.delete(upload.sha256)
    uploads.blobs.put(upload.sha256, [PNG])
    assert client.get(f"/media/{ID}/a.png").content == PNG


def test_text_is_compressed_once_and_what_is_compressed_already_is_not(client, uploads, files):
    text = b"the same words again and again\n" * 500
    uploads.add(ID, "a.txt", text, "text/plain; charset=utf-8")
    uploads.add(OTHER, "a.png", PNG * 100, "image/png")
    for coding in ("br", "zstd", "gzip"):
        deadline_s = time.monotonic() + 20
        while True:
            answer = client.get(f"/media/{ID}/a.txt", headers={"accept-encoding": coding})
            if answer.headers.get("content-encoding") == coding or time.monotonic() > deadline_s:
                break
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["x-content-type-options"] == "nosniff"
    plain = client.get(f"/media/{ID}/a.txt", headers={"accept-encoding": "identity"})
    assert plain.content == text
    assert plain.headers["etag"] != answer.headers["etag"]
    assert files.folder.get(f"{ID}/a.txt") is None or files.folder.get(f"{ID}/a.txt").digest == hashlib.sha256(text).digest()
    assert "content-encoding" not in client.get(f"/media/{OTHER}/a.png", headers={"accept-encoding": "br"}).headers


def test_a_private_collection_wants_a_signed_url(client, uploads):
    uploads.add(ID, "ä b.png", PNG, "image/png", collection="private")
    path = f"{ID}/ä b.png"
    assert client.get(f"/media/{quote(path)}").status_code == 403
    answer = client.get(signed(path))
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert client.get(signed(path), headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert client.get(signed(path).replace("expires=1", "expires=2")).status_code == 403
    assert client.get(f"/media/{quote(path)}").status_code == 403
    expired = client.get(signed(path, -1))
    assert (expired.status_code, expired.text) == (403, "the URL has expired")
    assert expired.headers["cache-control"] == "no-store"


def test_a_url_that_is_signed_for_one_upload_admits_to_no_other(client, uploads):
    uploads.add(ID, "a.png", PNG, "image/png", collection="private")
    uploads.add(OTHER, "a.png", PNG, "image/png", collection="private")
    query = signed(f"{ID}/a.png").partition("?")[2]
    assert client.get(f"/media/{OTHER}/a.png?{query}").status_code == 403


def test_private_names_are_not_told(client, uploads):
    uploads.add(ID, "a.png", PNG, "image/png", collection="private", by_name=True)
    path = "by-name/private/a.png"
    assert client.get(f"/media/{path}").status_code == 404
    assert client.get(f"/media/{path}?signature=x").status_code == 404
    assert client.get(signed(path)).content == PNG


def test_rules_of_the_settings_win_but_never_for_what_is_private(uploads, tmp_path):
    async def load_keys():
        return RING

    cache = CacheTable((CacheRule("**", CachePolicy("public, max-age=5")),), prefix="media/")
    files = MediaFiles(uploads, uploads.blobs.path_of, is_signed=bool, load_keys=load_keys, cache=cache)
    uploads.add(ID, "a.png", PNG, "image/png")
    uploads.add(OTHER, "a.png", PNG, "image/png", collection="private")
    with TestClient(Starlette(routes=[Mount("/media", files)])) as client:
        assert client.get(f"/media/{ID}/a.png").headers["cache-control"] == "public, max-age=5"
        assert client.get(signed(f"{OTHER}/a.png")).headers["cache-control"] == "private, no-cache"


def test_a_signed_answer_may_be_repeated_until_its_url_expires(uploads, files):
    uploads.add(ID, "a.png", PNG, "image/png", collection="private")
    claims = []

    async def look(path, query):
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/media/{path}",
            "raw_path": f"/media/{path}".encode(),
            "root_path": "/media",
            "query_string": query,
            "headers": [],
            OFFER: claims.append,
        }
        await files.get_response(path, scope)

    path = f"{ID}/a.png"
    anyio.run(look, path, sign_url(RING, path, int(time.time()) + 60).encode())
    assert claims[0].holds()
    now_s = time.monotonic()
    assert claims[0].deadline_s <= now_s + 0.9
    anyio.run(look, path, sign_url(RING, path, int(time.time()) + 1).encode())
    assert claims[1].deadline_s <= time.monotonic() + 1
    uploads.remove(ID)
    assert not claims[0].holds()
    assert len(files._hot) == 0

"""What was uploaded, served over real sockets: by id, by name, by signed URL, on a host of its own; and who may ask for it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from assetserver.cli import main

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)
PRIVATE = '[[collections]]\nname = "private"\naccess = "signed"\n[[collections]]\nname = "open"\n'


@pytest.fixture
def private(open_client):
    return open_client(config=PRIVATE)


def sign(client, path, *options):
    result = CliRunner().invoke(main, ["sign", path, "--data", str(client.data), *options])
    assert result.exit_code == 0, result.output
    url = urlsplit(result.stdout.strip())
    return f"{url.path}?{url.query}"


def send_by_name(client, name, content, query=""):
    reply = client.send("PUT", f"/uploads/by-name/{name}{query}", content)
    assert reply.status in (200, 201), reply.content
    return reply


def test_an_upload_is_served_to_everybody_with_exact_http(client):
    url = client.upload("photo.png", PNG)["url"]
    first = client.send("GET", url, token="")
    assert (first.status, first.content) == (200, PNG)
    assert first.fields["content-type"] == "image/png"
    assert first.fields["cache-control"] == "public, max-age=31536000, immutable"
    assert client.send("GET", url, fields={"If-None-Match": first.fields["etag"]}, token="").status == 304
    part = client.send("GET", url, fields={"Range": "bytes=-10"}, token="")
    assert (part.status, part.content) == (206, PNG[-10:])


def test_a_large_upload_is_sent_by_the_kernel_and_in_parts(client):
    content = b"%032d" % 1 * 200_000
    url = client.upload("film.bin", content)["url"]
    for _ in range(2):
        assert client.send("GET", url, token="").content == content
    assert client.send("GET", url, fields={"Range": "bytes=3000000-3000031"}, token="").content == content[:32]


def test_hot_answers_are_the_same_bytes(client):
    url = client.upload("hot.png", PNG)["url"]
    replies = [client.send("GET", url, token="") for _ in range(5)]
    assert {reply.content for reply in replies} == {PNG}
    assert replies[-1].fields["cache-status"] == "assetserver; hit"
    for name in ("etag", "content-disposition", "x-content-type-options", "referrer-policy", "cache-control"):
        assert len({reply.fields[name] for reply in replies}) == 1


def test_by_name_is_always_the_newest(client):
    for number in range(10):
        content = PNG + b"%d" % number
        send_by_name(client, "logo.png", content)
        for _ in range(3):
            reply = client.send("GET", "/media/by-name/logo.png", token="")
            assert reply.content == content
    assert reply.fields["cache-control"] == "no-cache"


def test_a_name_is_free_once_what_it_shows_is_removed(client):
    first = send_by_name(client, "gone.png", PNG).json["uploads"][0]
    second = send_by_name(client, "gone.png", PNG + b"2").json["uploads"][0]
    assert client.send("GET", "/media/by-name/gone.png", token="").content == PNG + b"2"
    assert client.send("DELETE", f"/uploads/{second['id']}").status == 204
    assert client.send("GET", "/media/by-name/gone.png", token="").status == 404
    assert client.send("GET", "/uploads/by-name/gone.png").status == 404
    assert client.send("GET", first["url"], token="").content == PNG
    assert client.send("PUT", "/uploads/by-name/gone.png", PNG, {"If-None-Match": "*"}).status == 201


def test_by_name_is_the_newest_in_every_worker(open_client):
    client = open_client("--workers", "2")
    for number in range(8):
        content = PNG + b"%d" % number
        send_by_name(client, "logo.png", content)
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: client.send("GET", "/media/by-name/logo.png", token=""), range(16)))
        assert {reply.content for reply in replies} == {content}


def test_what_is_removed_is_gone_at_once(client):
    upload = client.upload("gone.png", PNG + b"gone")
    for _ in range(3):
        assert client.send("GET", upload["url"], token="").status == 200
    assert client.send("DELETE", f"/uploads/{upload['id']}").status == 204
    assert client.send("GET", upload["url"], token="").status == 404


def test_a_private_upload_wants_a_signed_url(private):
    reply = private.send("POST", "/uploads?name=a.png&collection=private", PNG)
    url = reply.json["uploads"][0]["url"]
    for _ in range(3):
        assert private.send("GET", url, token="").status == 403
        assert private.send("GET", url).status == 403
    signed = sign(private, url)
    for _ in range(4):
        reply = private.send("GET", signed, token="")
        assert (reply.status, reply.content, reply.fields["cache-control"]) == (200, PNG, "private, no-cache")
    for forged in (url, url + "?x=1", signed + "0", signed.replace("a.png", "b.png")):
        assert private.send("GET", forged, token="").status in (403, 404)


def test_a_signed_url_ends_also_on_the_hot_path(private):
    url = private.send("POST", "/uploads?name=a.png&collection=private", PNG).json["uploads"][0]["url"]
    signed = sign(private, url, "--expires", "2s")
    deadline_s = time.monotonic() + 60
    statuses = []
    while not statuses or (statuses[-1] == 200 and time.monotonic() < deadline_s):
        statuses.append(private.send("GET", signed, token="").status)
    assert statuses.count(200) > 2
    assert statuses[-1] == 403


def test_a_collection_that_is_not_named_takes_nothing(private):
    reply = private.send("POST", "/uploads?name=a.png&collection=pirvate", PNG)
    assert reply.status == 400
    assert private.send("POST", "/uploads?name=a.png&collection=open", PNG).status == 201


@pytest.mark.parametrize("config", ["", PRIVATE.replace('"private"', '"renamed"')], ids=["removed", "renamed"])
def test_a_private_collection_that_the_settings_name_no_more_stays_private(private, origin, make_client, config):
    url = send_by_name(private, "a.png", PNG, "?collection=private").json["uploads"][0]["url"]
    later = make_client(origin(None, "--data", private.data, config=config), private.token, private.data)
    assert later.send("GET", url, token="").status == 403
    assert later.send("GET", "/media/by-name/private/a.png", token="").status == 404
    assert later.send("GET", sign(private, url), token="").content == PNG


def test_the_default_collection_is_public_unless_it_is_named_signed(private, origin, make_client):
    url = private.upload("a.png", PNG)["url"]
    assert private.send("GET", url, token="").content == PNG
    config = PRIVATE.replace('"private"', '"default"')
    later = make_client(origin(None, "--data", private.data, config=config), private.token, private.data)
    assert later.send("GET", url, token="").status == 403


def test_a_grant_for_a_collection_that_is_gone_is_of_no_use(private, origin, make_client):
    grant = ask_for_grant(private, collection="private")
    later = make_client(origin(None, "--data", private.data), grant, private.data)
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n' + PNG + b"\r\n--x--\r\n"
    assert later.send("POST", "/uploads?name=a.png", PNG).status == 400
    assert later.send("POST", "/uploads", form, boundary).status == 400
    assert private.send("POST", "/uploads?name=a.png", PNG, token=grant).status == 201


def test_private_names_are_neither_served_nor_told(private):
    send_by_name(private, "a.png", PNG, "?collection=private")
    send_by_name(private, "a.png", PNG + b"open", "?collection=open")
    assert private.send("GET", "/media/by-name/private/a.png", token="").status == 404
    assert private.send("GET", "/media/by-name/open/a.png", token="").content == PNG + b"open"
    assert private.send("GET", sign(private, "/media/by-name/private/a.png"), token="").content == PNG


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_what_belongs_to_another_token_is_not_touched(client, create_token, method):
    upload = client.upload("mine.png", PNG)
    other = create_token(client.data, "--scope", "upload")
    fields = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    for given in ({}, fields):
        reply = client.send(method, f"/uploads/{upload['id']}", b"" if method == "PATCH" else None, given, token=other)
        assert reply.status in (403, 404, 405), (method, given, reply)
    assert client.send("GET", upload["url"], token="").content == PNG


def test_a_name_of_another_token_is_not_replaced(client, create_token):
    send_by_name(client, "theirs.png", PNG)
    other = create_token(client.data, "--scope", "upload")
    assert client.send("PUT", "/uploads/by-name/theirs.png", b"mine now", token=other).status == 403
    assert client.send("GET", "/media/by-name/theirs.png", token="").content == PNG


def ask_for_grant(client, **wanted):
    reply = client.send("POST", "/-/api/grants", json.dumps(wanted).encode())
    assert reply.status == 201, reply.content
    return reply.json["grant"]


def test_a_browser_uploads_with_a_grant_once(client):
    grant = ask_for_grant(client, max_size=1000, types=["image/*"], prefix="avatar-")
    assert client.send("POST", f"/uploads?name=other.png&grant={grant}", PNG, token="").status == 403
    assert client.send("POST", f"/uploads?name=avatar-1.png&grant={grant}", bytes(1001), token="").status == 413
    assert client.send("POST", f"/uploads?name=avatar-1.png&grant={grant}", b"<html>no", token="").status == 415
    assert client.send("POST", f"/uploads?name=avatar-1.png&grant={grant}", PNG, token="").status == 201
    assert client.send("POST", f"/uploads?name=avatar-2.png&grant={grant}", PNG, token="").status == 403


def test_a_tus_client_goes_on_with_the_grant_that_it_began_with(client):
    grant = ask_for_grant(client)
    fields = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(PNG)), "Upload-Metadata": "filename YS5wbmc="}
    created = client.send("POST", "/uploads", None, fields, token=grant)
    assert created.status == 201, created.content
    place = urlsplit(created.fields["location"]).path
    fields = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.send("PATCH", place, PNG, fields, token=grant).status == 204
    assert client.send("HEAD", place, None, fields, token=ask_for_grant(client)).status == 403


def test_a_grant_is_made_to_end_with_its_token(client, create_token):
    issuer = create_token(client.data, "--scope", "upload", "--expires", "10m")
    made = client.send("POST", "/-/api/grants", b'{"lifetime_s": 3600}', token=issuer).json
    assert datetime.fromisoformat(made["expires"]).timestamp() < time.time() + 601


def test_grants_of_a_revoked_token_are_void(client, create_token):
    issuer = create_token(client.data, "--scope", "upload")
    grant = client.send("POST", "/-/api/grants", b"{}", token=issuer).json["grant"]
    assert client.send("POST", f"/uploads?name=a.png&grant={grant}", PNG, token="").status == 201
    revoked = CliRunner().invoke(main, ["token", "revoke", issuer, "--data", str(client.data)])
    assert revoked.exit_code == 0, revoked.output
    assert client.send("POST", "/uploads?name=a.png", PNG, token=issuer).status == 401
    assert client.send("POST", "/uploads?name=a.png", PNG, token=grant).status == 401


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 400), (b"{", 400), (b"\xff", 400), (b'{"uses": -1}', 400), (b"x" * 20_000, 413)]
)
def test_a_wish_for_a_grant_that_makes_no_sense_is_refused(client, body, status):
    assert client.send("POST", "/-/api/grants", body).status == status


def test_a_wish_for_a_grant_is_refused_in_words(client):
    reply = client.send("POST", "/-/api/grants", b'{"maxsize": 1}')
    assert reply.json["detail"] == 'this is not what a grant is made of: unknown key "maxsize"; did you mean "max_size"?'
    assert reply.problem == "bad-request"


def test_collections_are_told_to_who_has_a_token(open_client):
    client = open_client(config='[[collections]]\nname = "invoices"\naccess = "signed"\n')
    told = [{"name": "default", "access": "public"}, {"name": "invoices", "access": "signed"}]
    assert client.send("GET", "/-/api/collections").json == {"collections": told}
    assert client.send("GET", "/-/api/collections", token="").status == 401
    assert client.send("GET", "/-/api/collections", token=ask_for_grant(client)).status == 403


def test_an_upload_says_whose_it_is_and_in_which_collection(open_client):
    client = open_client(config='[[collections]]\nname = "invoices"\naccess = "signed"\n')
    reply = client.send("POST", "/uploads?name=a.txt&collection=invoices", b"hello")
    upload = reply.json["uploads"][0]
    assert (upload["collection"], upload["owner"]) == ("invoices", client.token.split("_")[1])


def test_what_was_uploaded_is_for_nobody_else_on_this_machine(client):
    client.upload("a.txt", b"hello")
    modes = {path.name: path.stat().st_mode & 0o777 for path in client.data.iterdir()}
    assert modes["media"] == 0o700
    assert modes.get("records.sqlite3-workers", 0o700) == 0o700
    apart = ("checkpoint", "workers")
    names = [name for name in modes if name.startswith("records.sqlite3") and not name.endswith(apart)]
    records = {name: modes[name] for name in names}
    assert set(records) == {"records.sqlite3", "records.sqlite3-wal", "records.sqlite3-shm"}
    assert set(records.values()) == {0o600}


def test_a_grant_makes_no_grants(client):
    grant = ask_for_grant(client)
    assert client.send("POST", "/-/api/grants", b"{}", token=grant).status == 403
    assert client.send("POST", "/-/api/grants", b"{}", token="").status == 401


def test_nothing_of_the_body_is_asked_for_without_a_token(client):
    with client.connect() as connection:
        connection.sendall(client.head("POST /uploads?name=a", "Content-Length: 5", "Expect: 100-continue", token=""))
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer" in answer


def test_secrets_of_urls_are_not_in_the_log(open_client):
    client = open_client("--access-log", "json")
    grant = ask_for_grant(client)
    client.send("POST", f"/uploads?name=a.png&grant={grant}", PNG, token="")
    client.send("GET", "/media/by-name/a.png?expires=1&key=a&signature=abcdef", token="")
    log, deadline_s = "", time.monotonic() + 60
    while "/media/by-name/a.png" not in log and time.monotonic() < deadline_s:  # the log is written twice a second
        time.sleep(0.02)
        log = "".join(path.read_text() for path in client.data.parent.glob("*.log"))
    assert "/uploads" in log
    assert "/media/by-name/a.png" in log
    assert grant not in log
    assert "abcdef" not in log


def test_a_media_host_serves_media_alone(open_client):
    client = open_client(config='[uploads]\nmedia_url = "https://media.example.net"\n')
    url = client.upload("a.png", PNG)["url"]
    assert url.startswith("https://media.example.net/media/")
    path = urlsplit(url).path
    at_media = {"Host": "media.example.net"}
    assert client.send("GET", path, None, at_media, token="").content == PNG
    for other in ("/", "/uploads", "/-/api/openapi.json", "/-/console/", "/-/releases/x/"):
        assert client.send("GET", other, None, at_media).status == 404
    assert client.send("POST", "/uploads?name=b", b"b", at_media).status in (404, 405)
    moved = client.send("GET", path, token="")
    assert (moved.status, moved.fields["location"]) == (308, url)

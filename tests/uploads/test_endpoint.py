"""Files in one request, over real sockets: as they are, in forms, by name; what is told of them, and how they go."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256, sha512
from urllib.parse import quote

import pytest

CONTENT = b"hello, world\n" * 1000
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
UPLOAD_KEYS = [
    "id",
    "state",
    "name",
    "size",
    "offset",
    "sha256",
    "media_type",
    "url",
    "collection",
    "owner",
    "metadata",
    "created",
    "image",
]


def digest_field(content, algorithm="sha-256"):
    hashed = {"sha-256": sha256, "sha-512": sha512}[algorithm](content)
    return f"{algorithm}=:{b64encode(hashed.digest()).decode()}:"


def make_form(*parts):
    """Return the body of a form of ``(disposition parameters, content)``, and the fields that go with it."""
    body = b""
    for disposition, content in parts:
        body += f"--fRoNtIeR\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + b"--fRoNtIeR--\r\n", {"Content-Type": "multipart/form-data; boundary=fRoNtIeR"}


def test_raw_body_is_stored_and_served(client):
    reply = client.send("POST", "/uploads?name=a%20b.txt", CONTENT, {"Content-Type": "text/plain"})

    (upload,) = reply.json["uploads"]
    assert reply.status == 201
    assert list(upload) == UPLOAD_KEYS
    assert reply.fields["location"] == f"/uploads/{upload['id']}"
    assert reply.fields["cache-control"] == "no-store"
    assert (upload["state"], upload["name"], upload["size"], upload["offset"]) == ("complete", "a b.txt", 13000, 13000)
    assert (upload["sha256"], upload["image"]) == (sha256(CONTENT).hexdigest(), None)
    assert upload["url"] == f"/media/{upload['id']}/a%20b.txt"
    served = client.send("GET", upload["url"], token="")
    assert (served.status, served.content) == (200, CONTENT)


def test_upload_is_told_as_it_was_answered(client):
    upload = client.upload("a.txt", CONTENT)

    reply = client.send("GET", f"/uploads/{upload['id']}")

    assert (reply.status, reply.json) == (200, upload)


def test_body_of_unknown_length_is_taken(client):
    reply = client.send("POST", "/uploads?name=a.txt", iter([b"hello", b", ", b"world"]))

    assert (reply.status, reply.json["uploads"][0]["size"]) == (201, 12)


def test_empty_file_is_a_file(client):
    upload = client.upload("empty.txt", b"")

    assert (upload["state"], upload["size"], upload["sha256"]) == ("complete", 0, sha256(b"").hexdigest())
    assert client.send("GET", upload["url"]).content == b""


def test_type_is_found_by_content(client):
    upload = client.upload("not-a.txt", PNG, content_type="text/plain")

    assert upload["media_type"] == "image/png"


def test_same_bytes_are_two_uploads_and_removing_one_leaves_the_other(client):
    one, two = client.upload("a.txt", CONTENT), client.upload("b.txt", CONTENT)

    assert client.send("DELETE", f"/uploads/{one['id']}").status == 204

    assert client.send("GET", one["url"]).status in (404, 410)
    gone = client.send("GET", f"/uploads/{one['id']}")
    assert (gone.status, gone.problem) == (410, "upload-gone")
    assert client.send("GET", two["url"]).content == CONTENT
    assert client.send("DELETE", f"/uploads/{one['id']}").status == 410


def test_form_brings_files_and_fields_in_any_order(client):
    body, fields = make_form(
        ('name="title"', "Käfer".encode()),
        ('name="files"; filename="käfer.txt"', CONTENT),
        ('name="empty"; filename=""', b""),
        ('name="more"', b"x"),
        ('name="files"; filename="b.bin"', b"\r\n--fRoNtIe\r\n"),
    )

    reply = client.send("POST", "/uploads", body, fields)

    assert reply.status == 201
    assert "location" not in reply.fields
    assert [(one["name"], one["size"]) for one in reply.json["uploads"]] == [("käfer.txt", 13000), ("b.bin", 13)]
    assert [client.send("GET", one["url"]).content for one in reply.json["uploads"]] == [CONTENT, b"\r\n--fRoNtIe\r\n"]
    assert [one["metadata"] for one in reply.json["uploads"]] == [{"title": "Käfer"}, {"title": "Käfer", "more": "x"}]
    assert [client.send("GET", f"/uploads/{one['id']}").json for one in reply.json["uploads"]] == reply.json["uploads"]


@pytest.mark.parametrize(
    "before",
    [[('name="a"', b"x" * 4096)], [(f'name="{number}"', b"") for number in range(33)]],
    ids=["bytes", "fields"],
)
def test_more_fields_than_are_kept_with_a_file_are_refused_before_it_and_read_behind_it(client, before):
    file = ('name="f"; filename="a.txt"', CONTENT)
    body, fields = make_form(*before, file)
    refused = client.send("POST", "/uploads", body, fields)
    assert (refused.status, refused.problem) == (413, "too-large")
    body, fields = make_form(file, *before)
    assert client.send("POST", "/uploads", body, fields).json["uploads"][0]["metadata"] == {}


def test_fields_of_a_form_cannot_be_taken_for_what_head_sends(client):
    body, fields = make_form(('name="Upload-Metadata as sent"', b"a\r\nevil: 1"), ('name="f"; filename="a.txt"', CONTENT))
    reply = client.send("POST", "/uploads", body, fields)
    assert (reply.status, reply.problem) == (400, "bad-request")


def test_form_in_small_pieces_is_the_same(client):
    body, fields = make_form(('name="f"; filename="a.txt"', CONTENT))

    reply = client.send("POST", "/uploads", (body[start : start + 7] for start in range(0, len(body), 7)), fields)

    assert reply.json["uploads"][0]["sha256"] == sha256(CONTENT).hexdigest()


def test_form_is_stored_whole_or_not_at_all(client):
    def listed():  # what is made of a picture may change meanwhile
        return [one["id"] for one in client.send("GET", "/uploads?limit=1000").json["uploads"]]

    before = listed()
    body, fields = make_form(('name="f"; filename="a.txt"', CONTENT), ('name="f"; filename="b.txt"', b"x"))

    for broken in (body[:-10], body.replace(b'name="f"; filename="b.txt"', b"nothing")):
        reply = client.send("POST", "/uploads", broken, fields)
        assert (reply.status, reply.problem) == (400, "bad-request")

    assert listed() == before


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("is_form", [False, True])
def test_digest_that_comes_along_is_verified(client, algorithm, field, is_form):
    body, fields = make_form(('name="f"; filename="a.txt"', CONTENT)) if is_form else (CONTENT, {})
    target = "/uploads?name=a.txt"

    right = client.send("POST", target, body, {**fields, field: digest_field(body, algorithm)})
    wrong = client.send("POST", target, body, {**fields, field: digest_field(b"other", algorithm)})

    assert right.status == 201
    assert (wrong.status, wrong.problem) == (400, "checksum-mismatch")


def test_digest_of_a_part_is_verified(client):
    for content, status in ((CONTENT, 201), (b"other", 400)):
        disposition = f'name="f"; filename="a.txt"\r\nRepr-Digest: {digest_field(content)}'
        assert client.send("POST", "/uploads", *make_form((disposition, CONTENT))).status == status


def test_digest_of_an_unknown_algorithm_is_passed_over(client):
    assert client.send("POST", "/uploads?name=a.txt", CONTENT, {"Repr-Digest": "md5=:AAAA:"}).status == 201


def test_name_always_serves_the_newest(client):
    first = client.send("PUT", "/uploads/by-name/news.txt", b"one")
    second = client.send("PUT", "/uploads/by-name/news.txt", b"two")

    assert (first.status, second.status) == (201, 200)
    assert first.fields["etag"] != second.fields["etag"]
    newest = client.send("GET", "/media/by-name/news.txt", token="")
    assert (newest.content, newest.fields["etag"]) == (b"two", second.fields["etag"])
    assert client.send("GET", first.json["uploads"][0]["url"]).content == b"one"
    assert client.send("GET", "/uploads/by-name/news.txt").json == second.json["uploads"][0]


def test_name_can_be_taken_once(client):
    fields = {"If-None-Match": "*"}

    first = client.send("PUT", "/uploads/by-name/once.txt", b"one", fields)
    second = client.send("PUT", "/uploads/by-name/once.txt", b"two", fields)

    assert first.status == 201
    assert (second.status, second.problem) == (412, "precondition-failed")
    assert client.send("GET", "/media/by-name/once.txt").content == b"one"


def test_name_is_replaced_only_as_it_was_seen(client):
    tag = client.send("PUT", "/uploads/by-name/seen.txt", b"one").fields["etag"]

    missing = client.send("PUT", "/uploads/by-name/never.txt", b"x", {"If-Match": "*"})
    first = client.send("PUT", "/uploads/by-name/seen.txt", b"two", {"If-Match": tag})
    second = client.send("PUT", "/uploads/by-name/seen.txt", b"three", {"If-Match": tag})
    third = client.send("PUT", "/uploads/by-name/seen.txt", b"four", {"If-Match": f'"other", {first.fields["etag"]}'})

    assert [missing.status, first.status, second.status, third.status] == [412, 200, 412, 200]
    assert client.send("GET", "/media/by-name/seen.txt").content == b"four"


def test_list_goes_by_pages_from_the_newest(open_client):
    client = open_client()
    ids = [client.upload(f"{number}.txt", b"x")["id"] for number in range(5)]

    pages, target = [], "/uploads?limit=2"
    while target:
        reply = client.send("GET", target)
        assert reply.status == 200
        pages.append([one["id"] for one in reply.json["uploads"]])
        target = reply.json["next"] and f"/uploads?limit=2&cursor={quote(reply.json['next'])}"
        assert ("link" in reply.fields) == bool(target)

    assert [one for page in pages for one in page] == ids[::-1]
    assert max(map(len, pages)) == 2


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=%C2%B2", "cursor=nonsense"])
def test_page_that_makes_no_sense_is_refused(client, query):
    reply = client.send("GET", f"/uploads?{query}")

    assert (reply.status, reply.problem) == (400, "bad-request")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PUT", "/uploads", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/uploads/by-name/a", "GET, HEAD, OPTIONS, PUT"),
        ("PUT", "/uploads/abc", "DELETE, GET, HEAD, OPTIONS, PATCH, POST"),
        ("PATCH", "/uploads", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_other_methods_are_refused_with_those_that_are_there(client, method, target, allow):
    reply = client.send(method, target)

    assert (reply.status, reply.problem, reply.fields["allow"]) == (405, "method-not-allowed", allow)


def test_options_says_what_there_is(client):
    reply = client.send("OPTIONS", "/uploads/by-name/a", token="")

    assert (reply.status, reply.fields["allow"]) == (204, "GET, HEAD, OPTIONS, PUT")


@pytest.mark.parametrize("target", ["/uploads/", "/uploads/a/b", "/uploads/by-name/", "/uploads/by-name/a/b"])
def test_nothing_else_is_there(client, target):
    assert client.send("GET", target).status == 404
    assert client.send("PUT", target, b"x").status in (404, 405)


def test_location_is_absolute_where_that_is_known(open_client):
    client = open_client(env={"ASSETSERVER_SERVER__PUBLIC_URL": "https://files.example.com"})
    proxied = open_client(env={"ASSETSERVER_SERVER__TRUSTED_PROXIES": '["127.0.0.1"]'})
    fields = {"Host": "up.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}

    there = client.send("POST", "/uploads?name=a", b"x")
    through = proxied.send("POST", "/uploads?name=a", b"x", fields)

    assert there.fields["location"] == f"https://files.example.com/uploads/{there.json['uploads'][0]['id']}"
    assert through.fields["location"] == f"https://up.example.com/uploads/{through.json['uploads'][0]['id']}"


def test_uploads_belong_to_their_token(open_client, create_token):
    client = open_client()
    upload = client.upload("a.txt", b"x")
    client.send("PUT", "/uploads/by-name/mine.txt", b"x")
    other, reader, admin = (create_token(client.data, "--scope", scope) for scope in ("upload", "read", "admin"))
    target = f"/uploads/{upload['id']}"

    assert [client.send("GET", target, token=token).status for token in (other, reader, admin)] == [403, 200, 200]
    assert [len(client.send("GET", "/uploads", token=token).json["uploads"]) for token in (other, reader, admin)] == [0, 2, 2]
    assert client.send("PUT", "/uploads/by-name/mine.txt", b"y", token=other).status == 403
    assert client.send("POST", "/uploads?name=a", b"x", token=reader).status == 403
    assert [client.send("DELETE", target, token=token).status for token in (other, reader, admin)] == [403, 403, 204]


def test_name_taken_while_the_body_came_is_not_taken_away(open_client, create_token):
    client = open_client()
    other = create_token(client.data, "--scope", "upload")
    with client.connect() as connection:
        connection.sendall(
            client.head("PUT /uploads/by-name/race.txt", "Content-Length: 5", "Expect: 100-continue", token=other)
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert client.send("PUT", "/uploads/by-name/race.txt", b"mine").status == 201
        connection.sendall(b"steal")
        late = client.read(connection)

    assert (late.status, late.problem) == (403, "forbidden")
    assert client.send("GET", "/media/by-name/race.txt").content == b"mine"


def test_of_many_who_want_a_new_name_one_gets_it(client):
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(
                lambda number: client.send("PUT", "/uploads/by-name/one.txt", b"%d" % number, {"If-None-Match": "*"}), range(8)
            )
        )

    statuses = [reply.status for reply in replies]
    assert sorted(statuses) == [201, *[412] * 7]
    assert client.send("GET", "/media/by-name/one.txt").content == b"%d" % statuses.index(201)


def test_folder_that_is_served_live_takes_no_uploads(origin, fetch, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    url = origin(folder)

    assert fetch(f"{url}/uploads").status == 404
    assert fetch(f"{url}/uploads", "POST").status == 405
    assert fetch(f"{url}/-/api/openapi.json").status == 404
    assert not (tmp_path / "data").exists()

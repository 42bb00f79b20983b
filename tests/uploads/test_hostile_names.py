"""Names and metadata as nobody should send them: a refusal or a harmless file, never a failure, never a path."""

from urllib.parse import quote

import pytest

from assetserver.semantics.targets import format_target

REFUSED = [
    "..",
    ".",
    "a/b",
    "../../etc/passwd",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\r\nX-Evil: 1",
    "a\x7fb",
    "a\u202egnp.exe",
    "\u2028",
    "x" * 256,
    "ä" * 128,
]
TAKEN = [
    "a b",
    "ä.txt",
    "日本語.png",
    "e\u0301.txt",
    "'\";--.txt",
    "<script>.txt",
    "%2e%2e",
    "%00",
    "x" * 255,
    "~",
    "-rf",
    "\U0001f41e",
]


@pytest.mark.parametrize("name", REFUSED)
def test_name_that_is_no_file_name_is_refused(client, name):
    for method, target in (
        ("POST", f"/uploads?name={quote(name, safe='')}"),
        ("PUT", f"/uploads/by-name/{quote(name, safe='')}"),
    ):
        reply = client.send(method, target, b"x")
        assert 400 <= reply.status < 500, (target, reply)
        assert reply.problem


@pytest.mark.parametrize("name", ["%ff%fe", "a%c3.txt", "%ed%a0%80", "%ef%bf%bd"])
@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/uploads?name="), ("PUT", "/uploads/by-name/"), ("GET", "/uploads/by-name/")]
)
def test_name_of_a_url_that_is_no_utf_8_is_refused(client, method, target, name):
    reply = client.send(method, target + name, b"x" if method != "GET" else None)
    assert (reply.status, reply.problem) == (400, "bad-request")


@pytest.mark.parametrize("name", TAKEN)
def test_name_that_is_odd_is_kept(client, name):
    for method, target in (
        ("POST", f"/uploads?name={quote(name, safe='')}"),
        ("PUT", f"/uploads/by-name/{quote(name, safe='')}"),
    ):
        reply = client.send(method, target, b"hello")
        assert reply.status in (200, 201), (target, reply.content)
        served = client.send("GET", reply.json["uploads"][0]["url"])
        assert (served.status, served.content) == (200, b"hello")
        assert "x-evil" not in served.fields
    assert client.send("GET", "/media" + format_target(f"by-name/{name}")).content == b"hello"
    assert client.send("GET", f"/uploads/by-name/{quote(name, safe='')}").json == reply.json["uploads"][0]


@pytest.mark.parametrize("name", ["../../../tmp/evil", "C:\\fakepath\\a.txt", "/etc/passwd", "a\tb", 'x"; name="y', "\x01"])
def test_name_in_a_form_is_no_path(client, name):
    body = f'--X\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\nhello\r\n--X--\r\n'.encode()

    reply = client.send("POST", "/uploads", body, {"Content-Type": "multipart/form-data; boundary=X"})

    assert reply.status in (201, 400), reply.content
    if reply.status == 201:
        assert not set(reply.json["uploads"][0]["name"]) & set("/\\")


@pytest.mark.parametrize(
    "target",
    [
        "/uploads?name=%FF%FE",
        "/uploads?name=a&name=b",
        "/uploads?name=a&collection=../x",
        "/uploads?name=a&collection=%00",
        "/uploads?name=a&collection=nobody-made-it",
        "/uploads?" + "&".join(f"q{number}=1" for number in range(500)) + "&name=a",
    ],
)
def test_query_that_is_odd_never_fails(client, target):
    assert client.send("POST", target, b"x").status < 500


@pytest.mark.parametrize(
    "identifier", ["..%2f..%2fetc", "%00", "%ff", "a" * 3000, "'%20OR%201=1", "%2e%2e", "by-name", "..", "a%5cb", "😀"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE", "POST", "PUT"])
def test_id_that_is_none_is_missing(client, method, identifier):
    target = f"/uploads/{quote(identifier, safe='%')}"

    reply = client.send(method, target, None, {"Tus-Resumable": "1.0.0"} if method in ("HEAD", "PATCH") else {})

    assert 300 <= reply.status < 500, "no upload; a site may have such a path, or know a better spelling of it"


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Type": "\x01"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 9000},
        {"Content-Type": 'multipart/form-data; boundary="'},
        {"Content-Disposition": 'attachment; filename="' + "a" * 9000},
        {"Content-Disposition": "attachment; filename*=UTF-8''%00%0d%0a"},
        {"If-Match": '"' * 5000},
        {"If-None-Match": "," * 5000},
        {"Repr-Digest": "sha-256=:" + "A" * 9000 + ":"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer " + "x" * 9000},
        {"Tus-Resumable": "9"},
        {"Upload-Complete": "?2"},
        {"Upload-Complete": "?1", "Upload-Offset": "-1", "Upload-Length": "9" * 30},
        {"X-HTTP-Method-Override": "\x02"},
        {"Accept": "," * 9000},
        {"Origin": "\x03"},
    ],
)
@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/uploads?name=a"), ("PUT", "/uploads/by-name/odd"), ("GET", "/uploads")]
)
def test_field_that_is_odd_never_fails(client, method, target, fields):
    assert client.send(method, target, None if method == "GET" else b"x", fields).status < 500

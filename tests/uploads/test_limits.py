"""What is refused, with which status, and that it is refused before the body where that can be known before."""

import socket
import time
from pathlib import Path

import pytest

from assetserver.settingtables import UploadSettings

LIMITS = {
    "ASSETSERVER_UPLOADS__MAX_SIZE": "1000",
    "ASSETSERVER_UPLOADS__FILES_PER_REQUEST": "2",
    "ASSETSERVER_UPLOADS__IDLE_S": "1",
}


@pytest.fixture(scope="module")
def limited(open_shared_client):
    return open_shared_client(env=LIMITS)


def make_files(*contents):
    body = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n' + content + b"\r\n" for content in contents
    )
    return body + b"--X--\r\n", {"Content-Type": "multipart/form-data; boundary=X"}


def staged(client):
    """Return what lies where uploads that are not complete do."""
    folder = client.data / "media" / "staging"
    return list(folder.iterdir()) if folder.exists() else []


def has_peer(port):
    """Tell whether somebody still has the other end of a connection from a loopback port (``proc_pid_net(5)``)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row[2].endswith(f":{port:04X}") and row[9] != "0" for row in map(str.split, lines))


def receive_all(connection):
    """Return what comes until the server closes."""
    got = b""
    while piece := connection.recv(65536):
        got += piece
    return got


def test_file_of_the_largest_size_is_taken(limited):
    assert limited.upload("a.txt", b"x" * 1000)["size"] == 1000
    assert limited.send("POST", "/uploads", *make_files(b"x" * 1000, b"x" * 1000)).status == 201


@pytest.mark.parametrize("body", [b"x" * 1001, [b"x" * 600, b"x" * 401]])
def test_file_beyond_the_largest_size_is_refused(limited, body):
    for method, target in (("POST", "/uploads?name=a.txt"), ("PUT", "/uploads/by-name/large.txt")):
        reply = limited.send(method, target, body if isinstance(body, bytes) else iter(body))
        assert (reply.status, reply.problem) == (413, "too-large")

    assert limited.send("GET", "/uploads/by-name/large.txt").status == 404


def test_file_of_a_form_beyond_the_largest_size_is_refused(limited):
    reply = limited.send("POST", "/uploads", *make_files(b"x", b"x" * 1001))

    assert (reply.status, reply.problem) == (413, "too-large")


def test_form_with_too_many_files_is_refused(limited):
    reply = limited.send("POST", "/uploads", *make_files(b"x", b"x", b"x"))

    assert (reply.status, reply.problem) == (413, "too-large")


def test_nothing_of_what_was_refused_is_left(limited):
    names = [one["size"] for one in limited.send("GET", "/uploads").json["uploads"]]
    staging = limited.data / "media" / "staging"

    assert max(names) <= 1000
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "token", "status"),
    [
        (["Content-Length: 1001"], None, 413),
        (["Content-Length: 5"], "", 401),
        (["Content-Length: 5"], "ast_000000000000_" + "0" * 48, 401),
        (["Content-Length: 5", "Content-Encoding: gzip"], None, 415),
        (["Content-Length: 5", "Content-Range: bytes 0-4/5"], None, 400),
        (["Content-Length: 5", "Repr-Digest: nonsense"], None, 400),
        (["Content-Length: 9999999", "Content-Type: multipart/form-data; boundary=X"], None, 413),
        (["Content-Length: 5", "Content-Type: multipart/mixed; boundary=X"], None, 415),
        (["Content-Length: 5", "Content-Type: multipart/form-data"], None, 400),
        (["Transfer-Encoding: chunked"], "", 401),
    ],
)
def test_who_expects_100_is_refused_without_it(limited, lines, token, status):
    with limited.connect() as connection:
        connection.sendall(limited.head("POST /uploads?name=a.txt", "Expect: 100-continue", *lines, token=token))
        got = receive_all(connection)

    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in got
    assert (b"www-authenticate: Bearer" in got) == (status == 401)


def test_who_expects_100_gets_it_when_all_is_well(limited):
    with limited.connect() as connection:
        connection.sendall(limited.head("POST /uploads?name=a.txt", "Expect: 100-continue", "Content-Length: 5"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_condition_that_fails_is_told_before_the_body(limited):
    limited.send("PUT", "/uploads/by-name/there.txt", b"x")

    with limited.connect() as connection:
        lines = ("Expect: 100-continue", "Content-Length: 5", "If-None-Match: *")
        connection.sendall(limited.head("PUT /uploads/by-name/there.txt", *lines))
        assert receive_all(connection).startswith(b"HTTP/1.1 412 ")


@pytest.mark.parametrize("token", ["", None])
def test_refusal_reaches_a_client_that_sends_on(limited, token):
    """The body is larger than all buffers on the way: who sends all of it before reading would hang, or be reset."""
    length = 6 << 20
    with limited.connect() as connection:
        connection.sendall(limited.head("POST /uploads?name=a.txt", f"Content-Length: {length}", token=token))
        connection.sendall(bytes(length))
        got = receive_all(connection)

    assert got.startswith(b"HTTP/1.1 401 " if token == "" else b"HTTP/1.1 413 ")
    assert b"connection: close" in got


def test_connection_goes_on_after_a_refusal_whose_body_was_read(limited):
    with limited.connect() as connection:
        connection.sendall(limited.head("POST /uploads?name=a", "Content-Length: 5", f"Repr-Digest: sha-256=:{'A' * 43}=:"))
        connection.sendall(b"hello")
        first = limited.read(connection)
        connection.sendall(limited.head("GET /uploads"))
        second = limited.read(connection)

    assert (first.status, first.problem, second.status) == (400, "checksum-mismatch", 200)
    assert "connection" not in first.fields


def test_silent_body_is_cut(limited, poll):
    begun = time.monotonic()
    with limited.connect() as connection:
        connection.sendall(limited.head("POST /uploads?name=a.txt", "Content-Length: 500") + b"x" * 10)
        got = receive_all(connection)

    assert got.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < UploadSettings().idle_s - 5, "sooner than if nobody had said when"
    poll(lambda: staged(limited), lambda found: found == [])


@pytest.mark.parametrize("ending", [socket.SHUT_WR, socket.SHUT_RDWR])
@pytest.mark.parametrize(
    "lines", [("Content-Length: 500",), ("Content-Length: 500", "Content-Type: multipart/form-data; boundary=X")]
)
def test_body_that_is_cut_leaves_nothing(limited, poll, lines, ending):
    before = limited.send("GET", "/uploads").json
    with limited.connect() as connection:
        form = b'--X\r\nContent-Disposition: form-data; name="f"; filename="cut.txt"\r\n\r\nhello'
        connection.sendall(limited.head("POST /uploads?name=cut.txt", *lines) + form)
        port = connection.getsockname()[1]
        connection.shutdown(ending)
        poll(lambda: has_peer(port), lambda found: not found)

    poll(lambda: staged(limited), lambda found: found == [])
    assert limited.send("GET", "/uploads").json == before


def test_too_many_at_once_are_told_when_to_come_again(open_client):
    client = open_client(env={"ASSETSERVER_UPLOADS__CONCURRENT": "1"})
    client.upload("warm.txt", b"x")
    with client.connect() as connection:
        connection.sendall(client.head("POST /uploads?name=slow.txt", "Content-Length: 5", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")

        reply = client.send("POST", "/uploads?name=a.txt", b"x")

        assert (reply.status, reply.problem) == (503, "busy")
        assert int(reply.fields["retry-after"]) > 0
        connection.sendall(b"hello")
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")
    assert client.upload("after.txt", b"x")["state"] == "complete"


def test_disk_that_would_be_too_full_is_told_before_the_body(open_client):
    client = open_client(env={"ASSETSERVER_UPLOADS__RESERVE_BYTES": str(64 << 40)})

    with client.connect() as connection:
        connection.sendall(client.head("POST /uploads?name=a.txt", "Content-Length: 5", "Expect: 100-continue"))
        got = receive_all(connection)

    assert got.startswith(b"HTTP/1.1 507 ")
    assert b"no-space" in got


@pytest.mark.parametrize("setting", ["TOKEN_UNFINISHED_BYTES", "UNFINISHED_BYTES"])
def test_more_bytes_at_once_than_may_be_unfinished_are_refused_before_they_come(open_client, setting):
    client = open_client(env={f"ASSETSERVER_UPLOADS__{setting}": "1000"})
    client.upload("small.txt", b"x" * 1000)

    with client.connect() as connection:
        connection.sendall(client.head("POST /uploads?name=a.txt", "Content-Length: 1001", "Expect: 100-continue"))
        got = receive_all(connection)

    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"problem:quota" in got
    client.upload("again.txt", b"x" * 1000)

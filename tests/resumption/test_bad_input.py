"""What hostile and broken clients send: offsets, lengths, overflow, checksums, other people's uploads. Nothing ends in 5xx."""

import itertools
import socket
import time
from urllib.parse import urlsplit

import pytest

from .conftest import LIMIT_S, MAX_SIZE, UPLOAD_TYPE, TusClient, make_token

ABC = b"abcdefghij"
PIECE = b"x" * (64 << 10)


@pytest.fixture(scope="module")
def stranger(server):
    """A client with a token of its own."""
    return TusClient(server.url, make_token(server.data))


# Overflow


def test_content_beyond_the_length_is_refused_and_the_upload_is_as_it_was(client):
    url = client.create(10)

    assert client.append(url, 0, ABC + b"evil!").status == 413
    assert client.offset(url) == 0
    assert client.append(url, 0, ABC).status == 204
    assert client.download(url) == ABC


def test_content_in_chunks_beyond_the_length_leaves_nothing_beyond_it(client):
    url = client.create(10)

    assert client.append(url, 0, iter([b"AAAAA", b"BBBBB", b"CCCCC"])).status == 413
    offset = client.offset(url)
    assert offset <= 10
    assert client.append(url, offset, ABC[offset:]).status == 204
    assert client.download(url) == b"AAAAABBBBB"[:offset] + ABC[offset:]


def test_content_beyond_the_length_in_two_segments_does_not_corrupt_what_is_sent_next(client):
    url = client.create(10)
    fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE}
    with client.begin("PATCH", url, 15, **fields) as connection:
        connection.sendall(b"AAAAA")
        time.sleep(0.05)
        connection.sendall(b"BBBBBBBBBB")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")

    offset = client.offset(url)
    assert client.append(url, offset, ABC[offset:]).status == 204
    assert client.download(url) == b"AAAAABBBBB"[:offset] + ABC[offset:]


def test_content_beyond_the_end_of_a_complete_upload_changes_nothing(client):
    url = client.upload(ABC)

    assert client.append(url, 10, b"x").status == 413
    assert client.append(url, 10, iter([b"x"])).status == 413
    assert client.download(url) == ABC


def test_content_of_a_creation_beyond_its_length_leaves_no_upload(client):
    before = client.ask("GET", tus_resumable=None).json["uploads"]

    assert client.ask("POST", content=ABC, upload_length=9, content_type=UPLOAD_TYPE).status == 413
    assert client.ask("POST", content=iter([ABC]), upload_length=9, content_type=UPLOAD_TYPE).status == 413
    assert client.ask("GET", tus_resumable=None).json["uploads"] == before


def test_deferred_length_counts_against_the_limit_while_content_streams(client):
    url = client.create(None)

    assert client.append(url, 0, itertools.repeat(PIECE, MAX_SIZE // len(PIECE) + 2)).status == 413
    assert client.offset(url) <= MAX_SIZE


def test_deferred_length_beyond_the_limit_is_refused(client):
    url = client.create(None)

    assert client.append(url, 0, ABC, upload_length=MAX_SIZE + 1).status == 413
    assert client.ask("HEAD", url)["upload-defer-length"] == "1"


def test_deferred_length_below_what_is_there_is_refused(client):
    url = client.create(None)
    client.append(url, 0, ABC)

    assert client.append(url, 10, b"", upload_length=9).status == 400
    assert client.append(url, 10, b"", upload_length=10).status == 204
    assert client.download(url) == ABC


def test_deferred_length_at_the_wrong_offset_is_not_recorded(client):
    url = client.create(None)

    assert client.append(url, 5, ABC, upload_length=15).status == 409
    assert client.ask("HEAD", url)["upload-defer-length"] == "1"


def test_length_that_is_deferred_with_a_patch_does_not_make_it_known(client):
    url = client.create(None)

    assert client.append(url, 0, ABC, upload_defer_length=1).status == 204
    assert client.ask("HEAD", url)["upload-defer-length"] == "1"


# Lying lengths


def test_content_that_ends_before_its_length_is_kept_and_the_upload_not_complete(client, until):
    url = client.create(10)
    with client.begin("PATCH", url, 10, upload_offset=0, content_type=UPLOAD_TYPE) as connection:
        connection.sendall(ABC[:7])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1 << 16)

    until(lambda: client.look(url)["offset"] > 0, "anything stored")
    assert client.offset(url) == 7
    assert client.look(url)["state"] == "uploading"
    assert client.append(url, 7, ABC[7:]).status == 204
    assert client.download(url) == ABC


def test_content_longer_than_its_length_is_the_next_request_and_no_part_of_the_upload(client, until):
    url = client.create(10)
    with client.begin("PATCH", url, 4, upload_offset=0, content_type=UPLOAD_TYPE) as connection:
        connection.sendall(ABC)  # "efghij" is no request: the connection ends, perhaps before the answer to the first
        connection.recv(1 << 16)

    until(lambda: client.look(url)["offset"] > 0, "anything stored")
    assert client.offset(url) == 4


@pytest.mark.parametrize("length", ["-1", "x", "99999999999999999999", "5, 6"])
def test_length_of_content_that_is_none_never_reaches_the_upload(client, length):
    url = client.create(10)
    fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE}
    with client.begin("PATCH", url, length, **fields) as connection:
        connection.sendall(ABC)
        assert connection.recv(1 << 16)[9:10] in (b"4", b"")

    assert client.offset(url) == 0


def test_chunks_and_a_length_at_once_are_refused(client):
    url = client.create(10)
    fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE, "transfer_encoding": "chunked"}
    with client.begin("PATCH", url, 10, **fields) as connection:
        connection.sendall(b"a\r\nabcdefghij\r\n0\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")

    assert client.offset(url) == 0


def test_fields_after_the_content_are_not_fields_of_the_request(client):
    url = client.create(10)
    parts = urlsplit(url)
    head = (
        f"PATCH {parts.path} HTTP/1.1\r\nhost: a\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\ncontent-type: {UPLOAD_TYPE}\r\n"
    )
    chunks = f"transfer-encoding: chunked\r\n\r\na\r\nabcdefghij\r\n0\r\nauthorization: Bearer {client.token}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), LIMIT_S) as connection:
        connection.sendall((head + chunks).encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")

    assert client.offset(url) == 0


# Metadata


@pytest.mark.parametrize("count", [33, 1000])
def test_more_metadata_than_allowed_are_refused(client, count):
    metadata = ",".join(f"k{number} YQ==" for number in range(count))

    assert client.ask("POST", upload_length=10, upload_metadata=metadata).status == 400


def test_metadata_of_any_bytes_are_given_back(client):
    metadata = "raw AP/+DQo=,\xe9 YQ=="
    reply = client.ask("POST", upload_length=10, upload_metadata=metadata)

    assert client.ask("HEAD", reply["location"])["upload-metadata"] == metadata


# Other people's uploads


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("HEAD", {}),
        ("PATCH", {"content": b"EVIL!", "upload_offset": 0, "content_type": UPLOAD_TYPE}),
        ("DELETE", {}),
        ("POST", {"content": b"EVIL!", "upload_offset": 0, "content_type": UPLOAD_TYPE, "x_http_method_override": "PATCH"}),
        ("POST", {"x_http_method_override": "DELETE"}),
    ],
)
def test_request_without_a_token_is_refused_and_changes_nothing(client, method, fields):
    url = client.create(10)

    reply = client.ask(method, url, authorization=None, **fields)

    assert reply.status == 401
    assert reply["www-authenticate"].startswith("Bearer")
    assert client.offset(url) == 0


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("HEAD", {}),
        ("PATCH", {"content": b"EVIL!", "upload_offset": 0, "content_type": UPLOAD_TYPE}),
        ("DELETE", {}),
        ("POST", {"content": b"EVIL!", "upload_offset": 0, "content_type": UPLOAD_TYPE, "x_http_method_override": "PATCH"}),
    ],
)
def test_upload_of_somebody_else_is_not_touched(client, stranger, method, fields):
    url = client.create(10)

    assert stranger.ask(method, url, **fields).status in (403, 404)
    assert client.offset(url) == 0


def test_partial_upload_of_somebody_else_is_no_part(client, stranger):
    part = client.upload(ABC, upload_concat="partial")

    assert stranger.ask("POST", upload_concat=f"final;{part}").status in (400, 403)


def test_body_is_not_asked_for_before_the_token_is_looked_at(client):
    url = client.create(10)
    fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE, "expect": "100-continue", "authorization": None}
    with client.begin("PATCH", url, 10, **fields) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("offset", "status"), [(5, 409), (-1, 400)])
def test_body_is_not_asked_for_where_the_offset_is_wrong(client, offset, status):
    url = client.create(10)
    fields = {"upload_offset": offset, "content_type": UPLOAD_TYPE, "expect": "100-continue"}
    with client.begin("PATCH", url, 5, **fields) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 %d " % status)

"""Resumable uploads of the IETF over real sockets: what the draft demands of a server, interop versions 6 to 8."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from urllib.parse import urljoin

import pytest

from .conftest import MAX_SIZE

ABC = b"abcdefghij"
PARTIAL = "application/partial-upload"
UNKNOWN = "/uploads/" + "A" * 22


@pytest.fixture
def client(server):
    return server.plain


def create(client, content=b"", *, completes=False, **fields):
    reply = client.ask("POST", content=content, upload_complete="?1" if completes else "?0", **fields)
    assert reply.status == 201, (reply, reply.content)
    return urljoin(client.collection, reply["location"])


def append(client, url, offset, content, *, completes=False, **fields):
    sent = {"upload_complete": "?1" if completes else "?0", "upload_offset": offset, "content_type": PARTIAL} | fields
    return client.ask("PATCH", url, content, **sent)


def problem(reply):
    assert reply["content-type"] == "application/problem+json"
    return json.loads(reply.content)["type"].partition("#")[2]


def digest(content):
    return f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"


# Creation


def test_creation_with_all_of_the_content_is_answered_as_any_upload(client):
    reply = client.ask("POST", content=ABC, upload_complete="?1", content_disposition='inline; filename="a.bin"')

    assert (reply.status, reply["upload-complete"], reply["upload-offset"]) == (201, "?1", "10")
    [upload] = reply.json["uploads"]
    assert (upload["name"], upload["state"], upload["size"]) == ("a.bin", "complete", 10)
    assert client.download(reply["location"]) == ABC


def test_creation_with_a_part_is_answered_201_with_location_limits_and_incompleteness(client):
    reply = client.ask("POST", content=ABC[:4], upload_complete="?0", upload_length=10)

    assert (reply.status, reply["upload-complete"], reply["upload-offset"]) == (201, "?0", "4")
    assert re.fullmatch(rf"max-size={MAX_SIZE}, max-age=\d+", reply["upload-limit"])
    assert append(client, reply["location"], 4, ABC[4:], completes=True).status == 200
    assert client.download(reply["location"]) == ABC


def test_creation_of_an_empty_upload_completes_it(client):
    assert client.download(create(client, completes=True)) == b""


def test_creation_in_chunks_learns_its_length_in_the_end(client):
    reply = client.ask("POST", content=iter([ABC[:4], ABC[4:]]), upload_complete="?1")

    assert client.download(reply["location"]) == ABC


@pytest.mark.parametrize("version", ["5", "6", "7", "8"])
def test_104_comes_before_100_and_tells_where_the_upload_goes_on(client, version):
    fields = {"upload_complete": "?1", "upload_draft_interop_version": version, "expect": "100-continue"}
    with client.begin("POST", client.collection, 10, connection="close", **fields) as connection:
        interim = connection.recv(1 << 16)
        while b"100 Continue" not in interim:
            interim += connection.recv(1 << 16)
        connection.sendall(ABC)
        final = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, rest = interim.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 104 Upload Resumption Supported\r\n")
    assert b"upload-draft-interop-version: " + version.encode() in head
    assert b"upload-limit: max-size=" in head
    assert rest.startswith(b"HTTP/1.1 100 ")
    assert final.startswith(b"HTTP/1.1 201 ")
    assert re.search(rb"location: (\S+)", head)[1] == re.search(rb"location: (\S+)", final)[1]


@pytest.mark.parametrize("version", [None, "4", "9", "x"])
def test_104_must_not_be_sent_to_a_client_of_another_version(client, version):
    fields = {"upload_complete": "?1", "upload_draft_interop_version": version, "connection": "close"}
    with client.begin("POST", client.collection, 10, **fields) as connection:
        connection.sendall(ABC)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert answer.startswith(b"HTTP/1.1 201 ")


def test_creation_that_is_cut_off_goes_on_at_the_place_that_104_told(client, until):
    content = bytes(range(256)) * 4096
    fields = {"upload_complete": "?1", "upload_draft_interop_version": "8"}
    with client.begin("POST", client.collection, len(content), **fields) as connection:
        location = re.search(rb"location: (\S+)", connection.recv(1 << 16))[1].decode()
        connection.sendall(content[:500_000])

    until(lambda: client.look(location)["offset"] == 500_000, "all of it stored")
    seen = client.ask("HEAD", location)
    assert (seen["upload-offset"], seen["upload-complete"]) == ("500000", "?0")
    assert append(client, location, 500_000, content[500_000:], completes=True).status == 200
    assert client.download(location) == content


def test_lengths_of_one_request_that_differ_are_inconsistent(client):
    reply = client.ask("POST", content=ABC, upload_complete="?1", upload_length=11)

    assert (reply.status, problem(reply)) == (400, "inconsistent-upload-length")


@pytest.mark.parametrize("fields", [{"upload_length": MAX_SIZE + 1}, {"upload_length": 10**14}])
def test_creation_beyond_the_limit_is_answered_413_with_the_limit(client, fields):
    reply = client.ask("POST", content=b"", upload_complete="?0", **fields)

    assert reply.status == 413
    assert f"max-size={MAX_SIZE}" in reply["upload-limit"]


# Offset retrieval


def test_head_must_have_offset_completeness_length_and_limits_and_should_not_be_stored(client):
    reply = client.ask("HEAD", create(client, ABC[:4], upload_length=10))

    assert reply.status == 204
    assert (reply["upload-offset"], reply["upload-complete"], reply["upload-length"]) == ("4", "?0", "10")
    assert reply["upload-limit"].startswith(f"max-size={MAX_SIZE}, max-age=")
    assert reply["cache-control"] == "no-store"


def test_head_of_unknown_length_has_none(client):
    assert client.ask("HEAD", create(client, ABC[:4]))["upload-length"] is None


def test_head_of_a_complete_upload_says_so(client):
    reply = client.ask("HEAD", create(client, ABC, completes=True))

    assert (reply["upload-offset"], reply["upload-complete"], reply["upload-length"]) == ("10", "?1", "10")


def test_upload_that_is_not_there_is_answered_404(client):
    fields = {"upload_draft_interop_version": "8"}

    assert client.ask("HEAD", UNKNOWN, **fields).status == 404
    assert append(client, UNKNOWN, 0, ABC).status == 404
    assert client.ask("DELETE", UNKNOWN).status == 404


# Append


def test_append_that_is_not_the_last_is_answered_2xx_with_incompleteness(client):
    url = create(client)
    reply = append(client, url, 0, ABC[:4])

    assert (reply.status, reply["upload-complete"], reply["upload-offset"]) == (204, "?0", "4")


def test_append_of_the_rest_is_answered_as_any_upload_with_completeness(client):
    url = create(client, ABC[:4])
    reply = append(client, url, 4, ABC[4:], completes=True)

    assert (reply.status, reply["upload-complete"]) == (200, "?1")
    assert reply.json["uploads"][0]["state"] == "complete"
    assert client.download(url) == ABC


def test_append_of_nothing_completes_what_is_there(client):
    url = create(client, ABC)
    assert client.look(url)["state"] == "uploading"

    assert append(client, url, 10, b"", completes=True).status == 200
    assert client.download(url) == ABC


def test_offset_that_equals_the_length_does_not_complete_an_upload(client):
    url = create(client, upload_length=10)
    append(client, url, 0, ABC)

    assert client.ask("HEAD", url)["upload-complete"] == "?0"
    assert append(client, url, 10, b"", completes=True).status == 200
    assert client.download(url) == ABC


@pytest.mark.parametrize("offset", [0, 3, 5, 99])
def test_mismatching_offset_must_be_answered_409_with_the_correct_one(client, offset):
    url = create(client, ABC[:4])
    reply = append(client, url, offset, b"x")

    assert (reply.status, reply["upload-offset"], reply["upload-complete"]) == (409, "4", "?0")
    assert problem(reply) == "mismatching-upload-offset"
    assert (reply.json["expected-offset"], reply.json["provided-offset"]) == (4, offset)


@pytest.mark.parametrize(
    ("content", "name"), [(b"x", "inconsistent-upload-length"), (b"", "completed-upload")], ids=["something", "nothing"]
)
def test_append_to_a_complete_upload_must_be_rejected_without_modifying_it(client, content, name):
    url = create(client, ABC, completes=True)
    reply = append(client, url, 10, content, completes=True)

    assert (reply.status, problem(reply)) == (400, name)
    assert client.download(url) == ABC


@pytest.mark.parametrize(
    ("content", "fields"), [(ABC, {"upload_length": 11}), (ABC + b"x", {}), (ABC[:9], {"completes": True})], ids=str
)
def test_append_that_contradicts_the_length_is_inconsistent(client, content, fields):
    url = create(client, upload_length=10)
    reply = append(client, url, 0, content, **fields)

    assert (reply.status, problem(reply)) == (400, "inconsistent-upload-length")


def test_append_in_chunks_beyond_the_length_must_be_rejected_and_the_upload_is_over(client):
    url = create(client, upload_length=10)

    assert append(client, url, 0, iter([ABC, ABC])).status == 413
    assert append(client, url, 10, b"", completes=True).status in (404, 410)


def test_length_that_is_told_with_an_append_is_kept(client):
    url = create(client)
    append(client, url, 0, ABC[:4], upload_length=10)

    assert client.ask("HEAD", url)["upload-length"] == "10"


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/offset+octet-stream", None])
def test_append_of_another_type_is_refused(client, kind):
    url = create(client, upload_length=10)

    assert append(client, url, 0, ABC, content_type=kind).status in (412, 415)
    assert client.ask("HEAD", url)["upload-offset"] == "0"


# Cancellation, limits, digests


def test_cancelled_upload_is_gone(client):
    url = create(client, ABC[:4])

    assert client.ask("DELETE", url).status == 204
    assert client.ask("HEAD", url).status == 410
    assert append(client, url, 4, ABC[4:]).status == 410


def test_options_must_tell_limits_and_what_patch_takes(client):
    reply = client.ask("OPTIONS", authorization=None)

    assert reply["upload-limit"] == f"max-size={MAX_SIZE}"
    assert reply["accept-patch"] == PARTIAL


def test_upload_whose_digest_is_another_than_was_told_fails(client):
    url = create(client, ABC[:4], repr_digest=digest(b"other"))

    assert append(client, url, 4, ABC[4:], completes=True).status == 400
    assert client.look(url)["state"] != "complete"


def test_upload_whose_digest_is_the_one_that_was_told_is_complete(client):
    url = create(client, ABC[:4], repr_digest=digest(ABC))
    reply = append(client, url, 4, ABC[4:], completes=True)

    assert (reply.status, reply["repr-digest"]) == (200, digest(ABC))


def test_content_whose_digest_is_another_than_was_told_is_not_appended(client):
    url = create(client, ABC[:4])

    assert append(client, url, 4, ABC[4:], content_digest=digest(b"other")).status == 400
    assert client.ask("HEAD", url)["upload-offset"] == "4"
    assert append(client, url, 4, ABC[4:], content_digest=digest(ABC[4:]), completes=True).status == 200
    assert client.download(url) == ABC


def test_request_without_a_token_is_refused(client):
    url = create(client, ABC[:4])

    assert client.ask("POST", content=ABC, upload_complete="?1", authorization=None).status == 401
    assert append(client, url, 4, ABC[4:], authorization=None).status == 401
    assert client.ask("HEAD", url)["upload-offset"] == "4"


def test_server_that_is_told_not_to_speak_them_does_not(start_uploads):
    client = start_uploads("[uploads]\nresumable = false\n").plain

    assert client.ask("OPTIONS")["upload-limit"] is None
    assert client.ask("POST", content=ABC, upload_complete="?0")["upload-complete"] is None
    assert append(client, UNKNOWN, 0, ABC).status == 412

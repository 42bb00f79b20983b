"""tus 1.0, core protocol: a test for each MUST and SHOULD that binds the server, named as its sentence, over real sockets."""

import re
import socket

import pytest

from .conftest import MAX_SIZE, UPLOAD_TYPE

UNKNOWN = "/uploads/" + "A" * 22
ABC = b"abcdefghij"


# Headers


@pytest.mark.parametrize("offset", ["-1", "x", "1.0", "", "0, 0", "99999999999999999999"])
def test_upload_offset_must_be_a_non_negative_integer(client, offset):
    url = client.create(10)

    assert client.append(url, 0, ABC, upload_offset=offset).status == 400
    assert client.offset(url) == 0


@pytest.mark.parametrize("length", ["-1", "x", "1.0", "", "5, 5", "99999999999999999999"])
def test_upload_length_must_be_a_non_negative_integer(client, length):
    assert client.ask("POST", upload_length=length).status == 400


def test_tus_version_must_be_a_comma_separated_list_sorted_by_preference(client):
    assert client.ask("OPTIONS", tus_resumable=None)["tus-version"] == "1.0.0"


def test_tus_resumable_must_be_included_in_every_response(client):
    url = client.create(10)
    replies = [
        client.ask("POST", upload_length=5),
        client.ask("HEAD", url),
        client.append(url, 0, ABC),
        client.ask("DELETE", url),
        client.ask("HEAD", url),
        client.ask("HEAD", UNKNOWN),
        client.ask("POST"),
        client.append(UNKNOWN, 0, ABC),
        client.ask("DELETE", UNKNOWN),
        client.ask("POST", upload_length=5, authorization=None),
        client.ask("POST", upload_length=MAX_SIZE + 1),
    ]

    assert [reply.status for reply in replies] == [201, 200, 204, 204, 410, 404, 400, 404, 404, 401, 413]
    assert [reply["tus-resumable"] for reply in replies] == ["1.0.0"] * len(replies)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD"])
@pytest.mark.parametrize("version", ["0.2.2", "2.0.0", "1.0", "x"])
def test_version_that_is_not_supported_must_be_answered_412_with_tus_version(client, method, version):
    url = "" if method == "POST" else client.create(10)
    reply = client.ask(
        method, url, upload_length=5, upload_offset=0, content_type=UPLOAD_TYPE, content_length=0, tus_resumable=version
    )

    assert reply.status == 412
    assert reply["tus-version"] == "1.0.0"


def test_request_of_a_version_that_is_not_supported_must_not_be_processed(client):
    url = client.create(10)
    client.append(url, 0, ABC, tus_resumable="0.2.2")
    client.ask("DELETE", url, tus_resumable="0.2.2")

    assert client.offset(url) == 0


def test_patch_without_a_version_is_not_processed(client):
    url = client.create(10)

    assert client.append(url, 0, ABC, tus_resumable=None).status == 412
    assert client.offset(url) == 0


def test_creation_without_a_version_is_not_processed(client):
    before = client.ask("GET", tus_resumable=None).json["uploads"]
    reply = client.ask("POST", upload_length=10, tus_resumable=None)

    assert (reply.status, reply["tus-version"]) == (412, "1.0.0")
    assert client.ask("GET", tus_resumable=None).json["uploads"] == before


def test_tus_extension_must_be_a_comma_separated_list(client):
    found = client.ask("OPTIONS", tus_resumable=None)["tus-extension"]

    assert re.fullmatch(r"[a-z-]+(,[a-z-]+)*", found)


def test_tus_max_size_must_be_a_non_negative_integer_and_should_be_set_where_there_is_a_limit(client):
    assert client.ask("OPTIONS", tus_resumable=None)["tus-max-size"] == str(MAX_SIZE)


def test_method_override_must_be_interpreted_as_the_method_of_the_request(client):
    url = client.create(10)

    patched = client.ask("POST", url, ABC, x_http_method_override="PATCH", upload_offset=0, content_type=UPLOAD_TYPE)
    seen = client.ask("POST", url, x_http_method_override="HEAD")
    removed = client.ask("POST", url, x_http_method_override="DELETE")

    assert (patched.status, patched["upload-offset"]) == (204, "10")
    assert (seen.status, seen["upload-offset"]) == (200, "10")
    assert (removed.status, client.ask("HEAD", url).status) == (204, 410)


def test_method_override_makes_no_other_method_than_a_post_something_else(client):
    url = client.create(10)

    assert client.ask("GET", url, x_http_method_override="DELETE").status == 200
    assert client.offset(url) == 0


def test_post_to_an_upload_that_stands_for_nothing_is_not_allowed(client):
    assert client.ask("POST", client.create(10)).status == 405


def test_post_that_stands_for_a_patch_creates_nothing(client):
    assert client.ask("POST", upload_length=10, x_http_method_override="PATCH").status == 405


# HEAD


def test_head_must_always_include_the_offset_even_if_it_is_0_or_the_upload_is_complete(client):
    new, complete = client.create(10), client.upload(ABC)

    assert client.ask("HEAD", new)["upload-offset"] == "0"
    assert client.ask("HEAD", complete)["upload-offset"] == "10"


def test_head_must_include_the_length_if_it_is_known(client):
    assert client.ask("HEAD", client.create(10))["upload-length"] == "10"
    assert client.ask("HEAD", client.upload(ABC))["upload-length"] == "10"


@pytest.mark.parametrize(
    "url", [UNKNOWN, "/uploads/x", "/uploads/..%2f..%2fetc%2fpasswd", "/uploads/%00", "/uploads/" + "A" * 500]
)
def test_head_should_answer_404_without_an_offset_for_a_resource_that_is_not_found(client, url):
    reply = client.ask("HEAD", url)

    assert reply.status == 404
    assert reply["upload-offset"] is None


def test_head_must_prevent_caching_with_no_store(client):
    assert client.ask("HEAD", client.create(10))["cache-control"] == "no-store"
    assert client.ask("HEAD", UNKNOWN)["cache-control"] == "no-store"


def test_head_answers_without_a_version_too_as_other_servers_do(client):
    assert client.ask("HEAD", client.create(10), tus_resumable=None)["upload-length"] == "10"


# PATCH


def test_patch_should_apply_the_bytes_at_the_given_offset(client):
    url = client.create(10)
    client.append(url, 0, ABC[:4])
    client.append(url, 4, ABC[4:])

    assert client.download(url) == ABC


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "text/plain", "application/offset+octet-stream-not"])
def test_patch_of_another_type_should_be_answered_415(client, kind):
    url = client.create(10)

    assert client.append(url, 0, ABC, content_type=kind).status == 415
    assert client.offset(url) == 0


@pytest.mark.parametrize("offset", [0, 3, 5, 10, 11, 1 << 62])
def test_patch_at_another_offset_must_be_answered_409_without_modifying_the_upload(client, offset):
    url = client.create(10)
    client.append(url, 0, ABC[:4])

    reply = client.append(url, offset, b"x")

    assert (reply.status, reply["upload-offset"]) == (409, "4")
    assert client.append(url, 4, ABC[4:]).status == 204
    assert client.download(url) == ABC


def test_patch_must_be_acknowledged_with_204_and_the_sum_of_old_offset_and_bytes_received(client):
    url = client.create(10)
    first, second, nothing = client.append(url, 0, ABC[:4]), client.append(url, 4, ABC[4:9]), client.append(url, 9, b"")

    assert [(reply.status, reply["upload-offset"]) for reply in (first, second, nothing)] == [
        (204, "4"),
        (204, "9"),
        (204, "9"),
    ]
    assert first.content == b""


def test_patch_in_chunks_is_taken_as_one_of_known_length(client):
    url = client.create(10)

    assert client.append(url, 0, iter([ABC[:3], ABC[3:5], ABC[5:]]))["upload-offset"] == "10"
    assert client.download(url) == ABC


def test_patch_against_a_resource_that_is_not_there_should_be_answered_404(client):
    assert client.append(UNKNOWN, 0, ABC).status == 404


def test_patch_of_nothing_to_a_complete_upload_changes_nothing(client):
    url = client.upload(ABC)

    reply = client.append(url, 10, b"")

    assert (reply.status, reply["upload-offset"]) == (204, "10")
    assert client.download(url) == ABC


def test_last_patch_tells_where_the_file_is_and_its_digest(client):
    url = client.create(10, upload_metadata="filename YS5iaW4=")

    reply = client.append(url, 0, ABC)

    assert reply["content-location"] == client.look(url)["url"]
    assert reply["content-location"].endswith("/a.bin")
    assert reply["repr-digest"] == "sha-256=:cjmTYdpqd1T+yYbcpbfLrxyBCije1KuvVrIQbQbLeLA=:"


def test_timeout_should_be_handled_by_closing_the_connection(start_uploads):
    client = start_uploads("[uploads]\nidle_s = 1\n").tus
    url = client.create(10)

    with client.begin("PATCH", url, 10, upload_offset=0, content_type=UPLOAD_TYPE) as connection:
        connection.sendall(ABC[:4])
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert client.offset(url) == 4


@pytest.mark.parametrize("is_reset", [False, True], ids=["ends", "is reset"])
def test_as_much_as_possible_of_what_was_received_should_be_stored_when_the_connection(client, until, is_reset):
    content = bytes(range(256)) * 8192
    url = client.create(len(content))
    with client.begin("PATCH", url, len(content), upload_offset=0, content_type=UPLOAD_TYPE) as connection:
        connection.sendall(content[: 1 << 20])
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    until(lambda: client.look(url)["offset"] > 0, "anything stored")  # HEAD would make the request give way
    offset = client.offset(url)

    assert offset <= 1 << 20
    assert is_reset or offset == 1 << 20
    assert client.append(url, offset, content[offset:]).status == 204
    assert client.download(url) == content


# OPTIONS


@pytest.mark.parametrize("url", ["", UNKNOWN])
def test_options_must_contain_tus_version(client, url):
    reply = client.ask("OPTIONS", url, tus_resumable=None, authorization=None)

    assert reply.status == 204
    assert reply["tus-version"] == "1.0.0"


def test_tus_resumable_of_an_options_request_must_be_ignored(client):
    assert client.ask("OPTIONS", tus_resumable="0.2.2").status == 204

"""tus 1.0, extensions: a test for each MUST and SHOULD that binds the server, named as its sentence, over real sockets."""

import sqlite3
from base64 import b64encode
from contextlib import closing
from email.utils import parsedate_to_datetime
from hashlib import md5, sha1, sha256
from urllib.parse import urlsplit

import pytest

from .conftest import MAX_SIZE, UPLOAD_TYPE, encode

ABC = b"abcdefghij"


def extensions(client):
    return client.ask("OPTIONS", tus_resumable=None)["tus-extension"].split(",")


@pytest.mark.parametrize(
    "extension",
    [
        *("creation", "creation-with-upload", "creation-defer-length"),
        *("expiration", "checksum", "termination", "concatenation"),
    ],
)
def test_extension_must_be_announced(client, extension):
    assert extension in extensions(client)


@pytest.mark.parametrize("extension", ["checksum-trailer", "concatenation-unfinished", "challenge"])
def test_extension_that_is_not_there_is_not_announced(client, extension):
    assert extension not in extensions(client)


# Creation


def test_creation_must_be_acknowledged_with_201_and_a_location(client):
    reply = client.ask("POST", upload_length=10)

    assert reply.status == 201
    assert client.offset(reply["location"]) == 0


@pytest.mark.parametrize("fields", [{}, {"upload_length": 5, "upload_defer_length": 1}])
def test_creation_must_include_either_length_or_deferral(client, fields):
    assert client.ask("POST", **fields).status == 400


@pytest.mark.parametrize("value", ["0", "2", "true", ""])
def test_deferral_of_any_other_value_than_1_should_be_answered_400(client, value):
    assert client.ask("POST", upload_defer_length=value).status == 400


def test_head_must_say_that_the_length_is_deferred_as_long_as_it_is_not_known(client):
    url = client.create(None)
    client.append(url, 0, ABC[:4])
    reply = client.ask("HEAD", url)

    assert (reply["upload-defer-length"], reply["upload-length"]) == ("1", None)


def test_deferral_must_be_omitted_where_the_length_is_known(client):
    url = client.create(None)
    client.append(url, 0, ABC[:4], upload_length=10)
    reply = client.ask("HEAD", url)

    assert (reply["upload-defer-length"], reply["upload-length"]) == (None, "10")
    assert client.ask("HEAD", client.create(10))["upload-defer-length"] is None


def test_length_once_set_must_not_be_changed(client):
    url = client.create(None)
    client.append(url, 0, ABC[:4], upload_length=10)

    assert client.append(url, 4, ABC[4:6], upload_length=11).status == 400
    assert client.append(url, 4, ABC[4:], upload_length=10).status == 204
    assert client.download(url) == ABC


def test_length_that_was_given_at_creation_must_not_be_changed(client):
    url = client.create(10)

    assert client.append(url, 0, ABC, upload_length=20).status == 400
    assert client.ask("HEAD", url)["upload-length"] == "10"


def test_deferred_length_may_come_with_the_last_bytes_or_after_them(client):
    with_them, after_them = client.create(None), client.create(None)
    client.append(with_them, 0, ABC[:4])
    client.append(with_them, 4, ABC[4:], upload_length=10)
    client.append(after_them, 0, ABC)
    assert client.look(after_them)["state"] == "uploading"
    client.append(after_them, 10, b"", upload_length=10)

    assert client.download(with_them) == client.download(after_them) == ABC


METADATA = f"filename {encode('plan.pdf')},is_confidential,empty ,raw //4="


def test_head_must_give_the_metadata_back_as_the_client_specified_them(client):
    url = client.create(10, upload_metadata=METADATA)

    assert client.ask("HEAD", url)["upload-metadata"] == METADATA
    client.append(url, 0, ABC)
    assert client.ask("HEAD", url)["upload-metadata"] == METADATA


@pytest.mark.parametrize("metadata", ["a b c", "a !!", "a YQ==,a YQ==", ",", "a YQ==,", ",a YQ==", "a YQ", "a\tYQ=="])
def test_metadata_must_be_unique_keys_with_base64_values(client, metadata):
    assert client.ask("POST", upload_length=10, upload_metadata=metadata).status == 400


def test_metadata_values_should_be_sanitised_before_they_become_header_values(client):
    url = client.upload(ABC, upload_metadata=f"filename {encode(chr(13) + chr(10) + 'set-cookie: a=b')}")
    served = client.ask("GET", client.look(url)["url"], tus_resumable=None)

    assert served.status == 200
    assert served["set-cookie"] is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/etc/passwd", "C:\\a.txt", "a\0b", "", "x" * 300])
def test_metadata_names_nothing_outside_the_store(client, server, name):
    reply = client.ask("POST", upload_length=10, upload_metadata=f"filename {encode(name)}")
    if reply.status == 201:
        client.append(reply["location"], 0, ABC)
        shown = client.look(reply["location"])["name"]
        assert shown not in ("", ".", "..")
        assert not set(shown) & set("/\\\0")
        assert client.download(reply["location"]) == ABC
    else:
        assert reply.status == 400


def test_length_that_exceeds_the_maximum_must_be_answered_413(client):
    assert client.ask("POST", upload_length=MAX_SIZE + 1).status == 413
    assert client.ask("POST", upload_length=MAX_SIZE).status == 201


def test_empty_upload_is_complete_when_it_is_created(client):
    url = client.create(0)

    assert client.look(url)["state"] == "complete"
    assert client.download(url) == b""


# Creation with upload


def test_creation_with_upload_must_include_the_offset_after_the_accepted_bytes(client):
    reply = client.ask("POST", content=ABC[:4], upload_length=10, content_type=UPLOAD_TYPE)

    assert (reply.status, reply["upload-offset"]) == (201, "4")
    assert client.append(reply["location"], 4, ABC[4:]).status == 204
    assert client.download(reply["location"]) == ABC


def test_creation_with_all_of_the_upload_completes_it(client):
    reply = client.ask("POST", content=ABC, upload_length=10, content_type=UPLOAD_TYPE)

    assert (reply.status, reply["upload-offset"]) == (201, "10")
    assert client.download(reply["location"]) == ABC


def test_creation_with_upload_of_deferred_length_goes_on(client):
    reply = client.ask("POST", content=ABC[:4], upload_defer_length=1, content_type=UPLOAD_TYPE)
    client.append(reply["location"], 4, ABC[4:], upload_length=10)

    assert client.download(reply["location"]) == ABC


def test_creation_with_upload_of_another_type_is_refused(client):
    assert client.ask("POST", content=ABC, upload_length=10, content_type="text/plain").status == 415


def test_creation_that_expects_100_continue_is_told_before_it_sends_content(client):
    fields = {"expect": "100-continue", "content_type": UPLOAD_TYPE}
    with client.begin("POST", client.collection, 10, upload_length=10, **fields) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        connection.sendall(ABC)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"authorization": None, "upload_length": 10}, 401),
        ({"upload_length": MAX_SIZE + 1}, 413),
        ({"upload_length": 10, "upload_metadata": "a !"}, 400),
        ({"upload_length": 9}, 413),
    ],
)
def test_creation_that_is_refused_is_told_so_before_it_sends_content(client, fields, status):
    fields = {"expect": "100-continue", "content_type": UPLOAD_TYPE} | fields
    with client.begin("POST", client.collection, 10, **fields) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 %d " % status)


# Expiration


def test_expiry_must_be_in_the_answers_to_post_patch_and_head_in_the_format_of_http(client):
    created = client.ask("POST", upload_length=10)
    replies = [created, client.append(created["location"], 0, ABC[:4]), client.ask("HEAD", created["location"])]

    for reply in replies:
        assert parsedate_to_datetime(reply["upload-expires"]).tzinfo is not None
        assert reply["upload-expires"].endswith(" GMT")


def test_expiry_is_not_in_the_answer_once_nothing_expires(client):
    url = client.create(10)

    assert client.append(url, 0, ABC)["upload-expires"] is None
    assert client.ask("HEAD", url)["upload-expires"] is None


def test_expiry_is_told_of_a_partial_upload_that_is_complete_and_waits_for_its_others(client):
    url = client.create(10, upload_concat="partial")

    assert client.append(url, 0, ABC)["upload-expires"] is not None


def test_upload_that_has_expired_should_be_answered_410(client, server):
    url = client.create(10)
    client.append(url, 0, ABC[:4])
    with closing(sqlite3.connect(server.data / "records.sqlite3")) as records:
        records.execute("UPDATE uploads SET expires = 1 WHERE id = ?", [urlsplit(url).path.split("/")[-1]])
        records.commit()

    assert client.ask("HEAD", url).status == 410
    assert client.append(url, 4, ABC[4:]).status == 410


# Checksum


def checksum(algorithm, content):
    digest = {"sha1": sha1, "sha256": sha256, "md5": md5}[algorithm](content).digest()
    return f"{algorithm} {b64encode(digest).decode()}"


def test_checksum_algorithms_must_be_listed_in_the_answer_to_options_and_be_lower_case(client):
    assert client.ask("OPTIONS", tus_resumable=None)["tus-checksum-algorithm"] == "sha1,sha256,md5"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_chunk_must_be_verified_and_is_taken_if_the_checksums_match(client, algorithm):
    url = client.create(10)

    assert client.append(url, 0, ABC[:4], upload_checksum=checksum(algorithm, ABC[:4])).status == 204
    assert client.append(url, 4, ABC[4:], upload_checksum=checksum(algorithm, ABC[4:])).status == 204
    assert client.download(url) == ABC


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
@pytest.mark.parametrize("rest", [b"efgxxx", b"efg"], ids=["last", "middle"])
def test_chunk_whose_checksum_mismatches_must_be_discarded_with_460_and_the_offset_not_updated(client, algorithm, rest):
    url = client.create(10)
    client.append(url, 0, ABC[:4])

    reply = client.append(url, 4, rest, upload_checksum=checksum(algorithm, b"other"))

    assert reply.status == 460
    assert client.offset(url) == 4
    assert client.append(url, 4, ABC[4:], upload_checksum=checksum(algorithm, ABC[4:])).status == 204
    assert client.download(url) == ABC


def test_large_chunk_whose_checksum_mismatches_is_rolled_back(client):
    content = bytes(range(256)) * 8192
    url = client.create(len(content))

    assert client.append(url, 0, b"\xff" * len(content), upload_checksum=checksum("sha1", content)).status == 460
    assert client.offset(url) == 0
    assert client.append(url, 0, content, upload_checksum=checksum("sha1", content)).status == 204
    assert client.download(url) == content


@pytest.mark.parametrize("value", ["crc32 DUoRhQ==", "SHA1 AAAA", "sha1", "sha1 !", "sha1 YQ==", ""])
def test_checksum_of_an_algorithm_that_is_not_supported_or_unreadable_is_answered_400_and_the_chunk_discarded(client, value):
    url = client.create(10)

    assert client.append(url, 0, ABC, upload_checksum=value).status == 400
    assert client.offset(url) == 0


def test_checksum_of_a_cut_chunk_never_stores_it(client, until):
    url = client.create(10)
    fields = {"upload_checksum": checksum("sha1", ABC), "upload_offset": 0, "content_type": UPLOAD_TYPE}
    with client.begin("PATCH", url, 10, **fields) as connection:
        connection.sendall(ABC[:4])

    assert client.offset(url) == 0
    assert client.append(url, 0, ABC, upload_checksum=checksum("sha1", ABC)).status == 204
    assert client.download(url) == ABC


def test_creation_with_upload_whose_checksum_mismatches_leaves_nothing(client):
    fields = {"upload_length": 10, "content_type": UPLOAD_TYPE, "upload_checksum": checksum("sha1", b"other")}
    before = client.ask("GET", tus_resumable=None).json["uploads"]

    assert client.ask("POST", content=ABC, **fields).status == 460
    assert client.ask("GET", tus_resumable=None).json["uploads"] == before


# Termination


@pytest.mark.parametrize("is_complete", [False, True], ids=["unfinished", "complete"])
def test_termination_must_be_answered_204_and_future_requests_should_be_answered_410(client, is_complete):
    url = client.upload(ABC) if is_complete else client.create(10)

    assert client.ask("DELETE", url).status == 204
    for reply in (client.ask("HEAD", url), client.append(url, 0, ABC), client.ask("DELETE", url)):
        assert reply.status == 410
        assert reply["upload-offset"] is None


def test_termination_should_free_what_the_upload_holds(client, server):
    url = client.create(10)
    client.append(url, 0, ABC[:4])
    [staged] = (server.data / "media" / "staging").glob(urlsplit(url).path.split("/")[-1] + "*")
    client.ask("DELETE", url)

    assert not staged.exists()


# Concatenation


def test_final_upload_must_have_the_parts_in_the_order_of_the_list_and_the_sum_of_their_lengths(client):
    a, b = client.upload(ABC[:4], upload_concat="partial"), client.upload(ABC[4:], upload_concat="partial")

    url = client.create_final(f"final;{urlsplit(a).path} {b}")
    reverse = client.create_final(f"final;{b} {a}")

    assert client.download(url) == ABC
    assert client.download(reverse) == ABC[4:] + ABC[:4]
    assert client.ask("HEAD", url)["upload-length"] == "10"


def test_part_that_is_named_twice_is_refused(client):
    part = client.upload(ABC, upload_concat="partial")

    assert client.ask("POST", upload_concat=f"final;{part} {urlsplit(part).path}").status == 400
    assert client.download(client.create_final(f"final;{part}")) == ABC


def test_part_may_be_used_by_more_than_one_upload(client):
    part = client.upload(ABC, upload_concat="partial")

    assert [client.download(client.create_final(f"final;{part}")) for _ in range(2)] == [ABC, ABC]


def test_partial_upload_should_not_be_processed_until_it_is_concatenated(client):
    part = client.upload(ABC, upload_concat="partial")
    place = client.look(part)["url"]

    assert client.ask("GET", place, tus_resumable=None).status == 404


def test_final_upload_must_not_be_created_with_a_length(client):
    part = client.upload(ABC, upload_concat="partial")

    assert client.ask("POST", upload_concat=f"final;{part}", upload_length=10).status == 400


def test_metadata_of_parts_shall_not_be_transferred_to_the_final_upload(client):
    part = client.upload(ABC, upload_concat="partial", upload_metadata=f"filename {encode('part.bin')}")

    alone = client.create_final(f"final;{part}")
    named = client.create_final(f"final;{part}", upload_metadata=f"filename {encode('all.bin')}")

    assert client.ask("HEAD", alone)["upload-metadata"] is None
    assert client.look(alone)["name"] != "part.bin"
    assert client.look(named)["name"] == "all.bin"


def test_patch_against_a_final_upload_must_be_answered_403_without_modifying_it_or_its_parts(client):
    part = client.upload(ABC, upload_concat="partial")
    url = client.create_final(f"final;{part}")

    assert client.append(url, 10, b"x").status == 403
    assert client.append(url, 10, b"").status == 403
    assert client.download(url) == ABC
    assert client.offset(part) == 10


def test_head_of_a_final_upload_must_have_offset_and_length_that_are_equal(client):
    reply = client.ask("HEAD", client.create_final(f"final;{client.upload(ABC, upload_concat='partial')}"))

    assert reply["upload-offset"] == reply["upload-length"] == "10"


def test_head_of_a_partial_upload_must_contain_the_offset(client):
    url = client.create(10, upload_concat="partial")
    client.append(url, 0, ABC[:4])

    assert client.ask("HEAD", url)["upload-offset"] == "4"


def test_head_of_a_partial_or_final_upload_must_include_concat_as_it_was_received(client):
    part = client.upload(ABC, upload_concat="partial")
    other = client.upload(ABC, upload_concat="partial")
    concat = f"final;{urlsplit(part).path}  {other}"
    final = client.create_final(concat)

    assert client.ask("HEAD", part)["upload-concat"] == "partial"
    assert client.ask("HEAD", final)["upload-concat"] == concat


def test_parts_that_are_not_complete_are_refused_as_that_extension_is_not_announced(client):
    done, begun = client.upload(ABC, upload_concat="partial"), client.create(10, upload_concat="partial")
    client.append(begun, 0, ABC[:4])

    assert client.ask("POST", upload_concat=f"final;{done} {begun}").status == 400


@pytest.mark.parametrize("concat", ["final;", "final", "final;/uploads/" + "A" * 22, "final;/files/a", "whole", "Partial"])
def test_concat_that_names_no_parts_is_refused(client, concat):
    assert client.ask("POST", upload_concat=concat).status == 400


def test_upload_that_is_not_partial_is_no_part(client):
    assert client.ask("POST", upload_concat=f"final;{client.upload(ABC)}").status == 400


def test_final_upload_that_would_exceed_the_maximum_is_answered_413(client):
    parts = [client.upload(bytes(MAX_SIZE // 2 + 1), upload_concat="partial") for _ in range(2)]

    assert client.ask("POST", upload_concat=f"final;{' '.join(parts)}").status == 413


def test_partial_uploads_may_be_removed_after_they_were_concatenated(client):
    part = client.upload(ABC, upload_concat="partial")
    url = client.create_final(f"final;{part}")

    assert client.ask("DELETE", part).status == 204
    assert client.download(url) == ABC

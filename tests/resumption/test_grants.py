"""A grant for one upload makes one, however the requests of a resumable upload end."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from urllib.parse import urljoin

import pytest

from .conftest import Client, TusClient

TEN = b"0123456789"
RESUMABLE = {"upload_complete": "?1", "upload_draft_interop_version": "8"}
PATCH = {"upload_offset": 10, "upload_complete": "?1", "content_type": "application/partial-upload"}


def digest(content):
    return f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"


@pytest.fixture
def grant(server):
    """A grant for one upload."""
    return make_grant(server)


def make_grant(server, **wanted):
    reply = server.plain.ask("POST", f"{server.url}/-/api/grants", json.dumps(wanted).encode())
    assert reply.status == 201, reply.content
    return reply.json["grant"]


def uploads_of(client):
    return client.ask("GET", tus_resumable=None).json["uploads"]


def begin_and_go(client, until):
    """Send 10 of 20 bytes of a new upload and go, once its place was told; return that."""
    with client.begin("POST", client.collection, 20, **RESUMABLE) as connection:
        location = re.search(rb"location: (\S+)", connection.recv(1 << 16))[1].decode()
        connection.sendall(TEN)
    until(lambda: uploads_of(client)[0]["offset"] == 10, "all of it stored")
    return urljoin(client.collection, location)


def test_a_use_is_spent_once_104_has_told_where_the_upload_is(server, grant, until):
    client = Client(server.url, grant)
    url = begin_and_go(client, until)

    assert client.ask("POST", content=TEN, upload_complete="?1").status == 403
    assert client.ask("PATCH", url, TEN, **PATCH).status == 200
    assert client.ask("POST", content=TEN, upload_complete="?1").status == 403
    assert [one["size"] for one in uploads_of(client)] == [20]


def test_a_use_is_spent_when_content_is_refused_after_104(server, grant):
    client = Client(server.url, grant)
    fields = RESUMABLE | {"content_digest": digest(b"other"), "connection": "close"}
    with client.begin("POST", client.collection, 10, **fields) as connection:
        connection.sendall(TEN)
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert re.findall(rb"^HTTP/1.1 (\d+)", answers, re.MULTILINE) == [b"104", b"400"]
    assert client.ask("POST", content=TEN, upload_complete="?1").status == 403
    assert len(uploads_of(client)) == 1


@pytest.mark.parametrize("fields", [{"upload_complete": "?1"}, {"upload_complete": "?0", "upload_length": 20}], ids=str)
def test_what_was_refused_and_never_told_is_removed_and_its_use_taken_back(server, grant, fields):
    client = Client(server.url, grant)
    reply = client.ask("POST", content=TEN, content_digest=digest(b"other"), **fields)

    assert reply.status == 400
    assert uploads_of(client) == []
    assert client.ask("POST", content=TEN, upload_complete="?1").status == 201
    assert client.ask("POST", content=TEN, upload_complete="?1").status == 403


def test_what_was_cut_and_never_told_is_removed_and_its_use_taken_back(server, grant, until):
    client = Client(server.url, grant)
    with client.begin("POST", client.collection, 20, upload_complete="?1") as connection:
        until(lambda: uploads_of(client), "begun")
        connection.sendall(TEN)
    until(lambda: not uploads_of(client), "removed")

    assert client.ask("POST", content=TEN, upload_complete="?1").status == 201
    assert client.ask("POST", content=TEN, upload_complete="?1").status == 403


def test_a_creation_of_tus_that_is_refused_leaves_nothing_and_takes_no_use(server, grant):
    client = TusClient(server.url, grant)
    checksum = f"sha256 {b64encode(sha256(b'other').digest()).decode()}"
    fields = {"upload_length": 20, "content_type": "application/offset+octet-stream", "upload_checksum": checksum}

    assert client.ask("POST", content=TEN, **fields).status == 460
    assert uploads_of(client) == []
    url = client.create(10)
    assert client.append(url, 0, TEN).status == 204
    assert client.ask("POST", upload_length=10).status == 403

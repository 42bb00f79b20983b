"""What unfinished uploads may hold counts however their length is told."""

from __future__ import annotations

import json

import pytest

from .conftest import TusClient

QUOTA = 1000
CONFIG = f"[uploads]\ntoken_unfinished_bytes = {QUOTA}\n"
PARTIAL = "application/partial-upload"


@pytest.fixture(scope="module")
def server(start_uploads):
    """A server where the unfinished uploads of a token may hold 1,000 bytes."""
    return start_uploads(CONFIG)


def test_a_deferred_length_of_tus_counts_when_it_is_told(client):
    url = client.create()

    reply = client.append(url, 0, b"x" * 10, upload_length=QUOTA + 1)
    assert (reply.status, reply.json["type"]) == (413, "urn:assetserver:problem:quota")
    assert client.offset(url) == 0
    assert client.append(url, 0, b"x" * QUOTA, upload_length=QUOTA).status == 204
    assert client.look(url)["state"] == "complete"


def test_a_length_that_is_told_with_an_append_counts(server):
    client = server.plain
    url = client.ask("POST", content=b"", upload_complete="?0")["location"]
    fields = {"upload_complete": "?0", "upload_offset": 0, "content_type": PARTIAL}

    assert client.ask("PATCH", url, b"x" * 10, upload_length=QUOTA + 1, **fields).status == 413
    assert client.ask("PATCH", url, b"x" * 10, upload_length=QUOTA, **fields).status == 204
    assert client.ask("POST", content=b"", upload_complete="?0", upload_length=1).status == 413
    assert client.ask("DELETE", url).status == 204


def test_bytes_beyond_the_quota_are_not_kept_on_disk(server):
    client = server.plain
    url = client.ask("POST", content=b"", upload_complete="?0")["location"]
    fields = {"upload_complete": "?1", "upload_offset": 0, "content_type": PARTIAL}

    assert client.ask("PATCH", url, iter([b"x" * (QUOTA + 1)]), **fields).status == 413
    assert client.ask("HEAD", url)["upload-offset"] == "0"
    assert sum(one.stat().st_size for one in (server.data / "media").rglob("*") if url.rpartition("/")[2] in one.name) == 0
    assert client.ask("PATCH", url, b"x" * QUOTA, **fields).status == 200


def test_grants_share_the_quota_of_the_token_that_made_them(server, client):
    def use_grant(length):
        grant = client.ask("POST", f"{server.url}/-/api/grants", json.dumps({}).encode()).json["grant"]
        return TusClient(server.url, grant).ask("POST", upload_length=length)

    held = client.create(QUOTA - 10)
    assert use_grant(11).status == 413
    assert use_grant(10).status == 201
    assert use_grant(1).status == 413
    assert client.ask("DELETE", held).status == 204
    assert use_grant(1).status == 201

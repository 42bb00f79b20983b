import asyncio
from base64 import b64encode
from hashlib import sha256

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from assetserver.errors import BadRequestError, ChecksumMismatchError, PreconditionFailedError, UnsupportedTypeError
from assetserver.uploads.intake import Conditions, Digesting, read_digests, read_raw
from assetserver.uploads.records import Upload

DIGEST = sha256(b"hello").digest()
TEXT = f"sha-256=:{b64encode(DIGEST).decode()}:"
OTHER = f"sha-256=:{b64encode(bytes(32)).decode()}:"


def ask(query="", **fields):
    headers = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
    return Request({"type": "http", "method": "POST", "path": "/uploads", "query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("query", "fields", "name"),
    [
        ("name=a.png", {}, "a.png"),
        ("name=K%C3%A4fer%20%26.png", {}, "Käfer &.png"),
        ("", {"content_disposition": 'attachment; filename="b c.png"'}, "b c.png"),
        ("name=a.png", {"content_disposition": "attachment; filename=b.png"}, "a.png"),
        ("name=", {"content_disposition": "attachment; filename*=UTF-8''%e2%82%ac.png"}, "€.png"),
    ],
)
def test_name_comes_from_the_query_or_content_disposition(query, fields, name):
    assert read_raw(ask(query, **fields), 5).name == name


@pytest.mark.parametrize(
    ("query", "fields", "error"),
    [
        ("", {}, BadRequestError),
        ("name=", {"content_disposition": "attachment"}, BadRequestError),
        ("name=a", {"content_encoding": "gzip"}, UnsupportedTypeError),
        ("name=a", {"content_range": "bytes 0-4/10"}, BadRequestError),
        ("name=a", {"repr_digest": "sha-256=hello"}, BadRequestError),
        ("name=a", {"repr_digest": TEXT, "content_digest": OTHER}, BadRequestError),
    ],
)
def test_what_makes_no_sense_is_refused(query, fields, error):
    with pytest.raises(error):
        read_raw(ask(query, **fields), 5)


def test_what_is_declared_is_taken_down():
    new = read_raw(
        ask("name=a&collection=press", content_type="Image/PNG; q=1", repr_digest=TEXT, content_encoding="identity"), 5
    )

    assert (new.length, new.declared_type, new.collection, new.expected) == (5, "image/png", "press", {"sha-256": DIGEST})


@pytest.mark.parametrize("text", ["", "png", "application/x-www-form-urlencoded", "a/" + "b" * 300])
def test_type_that_says_nothing_is_the_default(text):
    assert read_raw(ask("name=a", content_type=text), None).declared_type == "application/octet-stream"


def test_digests_of_both_fields_are_joined():
    headers = Headers({"content-digest": TEXT, "repr-digest": f"md5=:AAAA:, {TEXT}"})

    assert read_digests(headers, ("content-digest", "repr-digest")) == {"sha-256": DIGEST}


@pytest.mark.parametrize(("content", "is_good"), [(b"hello", True), (b"hellO", False), (b"", False)])
def test_bytes_are_compared_with_their_digest(content, is_good):
    async def pieces():
        for byte in content:
            yield bytes([byte])

    async def run():
        digesting = Digesting({"sha-256": DIGEST})
        passed = b"".join([piece async for piece in digesting.pass_on(pieces())])
        digesting.check()
        return passed

    if is_good:
        assert asyncio.run(run()) == content
    else:
        with pytest.raises(ChecksumMismatchError):
            asyncio.run(run())


NOW = Upload(
    id="a" * 22,
    state="complete",
    name="a",
    collection="",
    owner="t",
    size=5,
    offset=5,
    sha256=DIGEST.hex(),
    media_type="text/plain",
    metadata={},
    kind="raw",
    created=0.0,
    expires=None,
)
TAG = f'"{DIGEST.hex()[:32]}"'


@pytest.mark.parametrize(
    ("fields", "current", "is_met"),
    [
        ({}, None, True),
        ({}, NOW, True),
        ({"if-none-match": "*"}, None, True),
        ({"if-none-match": "*"}, NOW, False),
        ({"if-none-match": TAG}, NOW, False),
        ({"if-none-match": f"W/{TAG}"}, NOW, False),
        ({"if-none-match": '"other"'}, NOW, True),
        ({"if-match": "*"}, NOW, True),
        ({"if-match": "*"}, None, False),
        ({"if-match": TAG}, NOW, True),
        ({"if-match": f'"other", {TAG}'}, NOW, True),
        ({"if-match": f"W/{TAG}"}, NOW, False),
        ({"if-match": '"other"'}, NOW, False),
        ({"if-match": TAG}, None, False),
        ({"if-match": "nonsense"}, NOW, False),
    ],
)
def test_conditions_are_evaluated_on_what_has_the_name(fields, current, is_met):
    conditions = Conditions(Headers(fields))

    if is_met:
        conditions.check(current)
    else:
        with pytest.raises(PreconditionFailedError):
            conditions.check(current)


def test_only_a_star_wants_nothing_there():
    assert Conditions(Headers({"if-none-match": "*"})).wants_nothing_there
    assert not Conditions(Headers({"if-none-match": TAG})).wants_nothing_there
    assert not Conditions(Headers({})).wants_nothing_there

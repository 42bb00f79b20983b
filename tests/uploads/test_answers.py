import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from assetserver import errors
from assetserver.uploads.answers import Places, answering, describe_upload, format_time, problem_of, render_problem
from assetserver.uploads.metadata import METADATA_AS_SENT
from assetserver.uploads.records import Upload
from assetserver.uploads.resource import Resource

UPLOAD = Upload(
    id="a" * 24,
    state="uploading",
    name="naïve file#1.txt",
    collection="",
    owner="t",
    size=None,
    offset=3,
    sha256="",
    media_type="text/plain",
    metadata={"a": "b", METADATA_AS_SENT: "a Yg=="},
    kind="tus",
    created=1_795_386_645.25,
    expires=None,
)


def ask(method="GET", host="h.example", scheme="http"):
    headers = [(b"host", host.encode())] if host else []
    return Request(
        {"type": "http", "method": method, "path": "/uploads", "query_string": b"", "headers": headers, "scheme": scheme}
    )


def test_upload_is_told_with_every_key_and_no_other():
    assert describe_upload(UPLOAD) == {
        "id": "a" * 24,
        "state": "uploading",
        "name": "naïve file#1.txt",
        "size": None,
        "offset": 3,
        "sha256": None,
        "media_type": "text/plain",
        "url": f"/media/{'a' * 24}/na%C3%AFve%20file%231.txt",
        "collection": "default",
        "owner": "t",
        "metadata": {"a": "b"},
        "created": "2026-11-22T22:30:45.250Z",
        "image": None,
    }
    assert describe_upload(UPLOAD, "https://media.example")["url"].startswith("https://media.example/media/")


def test_time_is_written_to_the_millisecond():
    assert format_time(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (errors.BadRequestError("x"), 400, "bad-request"),
        (errors.ChecksumMismatchError("x"), 400, "checksum-mismatch"),
        (errors.UnauthorisedError("x", "Bearer"), 401, "unauthorised"),
        (errors.ForbiddenError("x"), 403, "forbidden"),
        (errors.UploadMissingError("x"), 404, "upload-missing"),
        (errors.MethodNotAllowedError("x", "GET"), 405, "method-not-allowed"),
        (errors.RateError("x"), 408, "too-slow"),
        (errors.OffsetConflictError("x", 7), 409, "offset-conflict"),
        (errors.UploadGoneError("x"), 410, "upload-gone"),
        (errors.PreconditionFailedError("x"), 412, "precondition-failed"),
        (errors.TooLargeError("x"), 413, "too-large"),
        (errors.QuotaError("x"), 413, "quota"),
        (errors.UnsupportedTypeError("x"), 415, "unsupported-type"),
        (errors.UploadBusyError("x"), 423, "upload-busy"),
        (errors.BusyError("x"), 503, "busy"),
        (errors.OverloadedError("x"), 503, "overloaded"),
        (errors.StorageError("x"), 503, "storage"),
        (errors.NoSpaceError("x"), 507, "no-space"),
    ],
)
def test_problem_has_a_stable_type(error, status, name):
    problem = problem_of(error)

    assert (problem.status, problem.type, problem.detail) == (status, f"urn:assetserver:problem:{name}", "x")
    assert problem.title


def test_error_of_another_kind_has_no_type_of_its_own():
    assert problem_of(errors.AssetServerError("x")).type == "about:blank"


def test_refusals_say_what_to_do():
    assert render_problem(errors.UnauthorisedError("x", "Bearer realm=r")).headers["www-authenticate"] == "Bearer realm=r"
    assert render_problem(errors.MethodNotAllowedError("x", "GET, PUT")).headers["allow"] == "GET, PUT"
    assert int(render_problem(errors.BusyError("x")).headers["retry-after"]) > 0
    assert json.loads(render_problem(errors.OffsetConflictError("x", 7)).body)["offset"] == 7
    assert render_problem(errors.BadRequestError("x"), {"Tus-Resumable": "1.0.0"}).headers["tus-resumable"] == "1.0.0"


def test_detail_that_is_no_text_is_told_anyway():
    assert render_problem(errors.BadRequestError("a\ud800b")).body.decode().count("?") == 1


@pytest.mark.parametrize(
    ("places", "host", "scheme", "location"),
    [
        (Places(), "h.example", "http", "/uploads/a"),
        (Places("https://p.example"), "h.example", "http", "https://p.example/uploads/a"),
        (Places("https://p.example", trusts_proxy=True), "h.example", "http", "https://p.example/uploads/a"),
        (Places(trusts_proxy=True), "h.example:8443", "https", "https://h.example:8443/uploads/a"),
        (Places(trusts_proxy=True), "", "https", "/uploads/a"),
    ],
)
def test_location_is_absolute_only_where_that_is_known(places, host, scheme, location):
    assert places.locate(ask(host=host, scheme=scheme), "/uploads/a") == location


def test_handler_answers_its_errors_and_raises_what_is_none():
    def answer(error):
        async def handler(_):
            raise error

        return asyncio.run(answering(handler)(ask()))

    assert answer(errors.TooLargeError("x")).status_code == 413
    assert answer(ClientDisconnect()).status_code == 499
    with pytest.raises(ZeroDivisionError):
        answer(ZeroDivisionError())


@pytest.mark.parametrize(
    ("method", "status", "allow"),
    [("GET", 200, None), ("HEAD", 200, None), ("OPTIONS", 204, "GET, HEAD, OPTIONS"), ("PUT", 405, "GET, HEAD, OPTIONS")],
)
def test_resource_calls_the_handler_of_the_method(method, status, allow):
    async def show(_):
        return Response(b"x")

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.disconnect"}

    asyncio.run(Resource({"GET": show})(ask(method).scope, receive, send))

    assert sent[0]["status"] == status
    assert dict(sent[0]["headers"]).get(b"allow", b"").decode() == (allow or "")

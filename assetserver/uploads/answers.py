"""What clients of uploads are told: an upload as JSON, an error as problem details, where something is.

Source: RFC 9457 (problem details), RFC 9110 §10.2.2 (Location), RFC 8288 (links to the next page).

Laws:
- The ``type`` of a problem is stable: clients compare it. It is a name, not an address.
- Nothing of an answer may be stored: an upload changes, and lists are one owner's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial, wraps
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from assetserver import errors
from assetserver.bodies import LingeringResponse
from assetserver.errors import AssetServerError
from assetserver.pictures.describing import describe_picture
from assetserver.pictures.naming import format_variant_name
from assetserver.pictures.records import PictureRecord, StoredVariant
from assetserver.problems import type_of
from assetserver.semantics.caching import ERROR
from assetserver.semantics.etags import ETag
from assetserver.semantics.targets import format_target

from .metadata import client_metadata
from .records import Upload

PROBLEM_TYPE = "application/problem+json"
_JSON_TYPE = "application/json"

RETRY_S = 5
"""What ``Retry-After`` says where the error does not know better."""

_GONE = 499
"""Nobody reads it: the client has gone. What the access log shows for that, as in nginx."""

Handler = Callable[[Request], Awaitable[Response]]


class Places(NamedTuple):
    """How URLs are written: below ``public_url`` where that is set; with the host asked for where a proxy is trusted."""

    public_url: str = ""
    trusts_proxy: bool = False

    def locate(self, request: Request, path: str) -> str:
        """Return the ``Location`` of ``path``, which begins with "/"; relative where neither is set (RFC 9110 §10.2.2)."""
        if self.public_url:
            return self.public_url + path
        host = request.headers.get("host", "")
        return f"{request.url.scheme}://{host}{path}" if self.trusts_proxy and host else path


def format_media_path(upload: Upload) -> str:
    """Return the path at which an upload is served once it is complete."""
    return format_target(f"media/{upload.id}/{upload.name}")


def format_time(seconds: float) -> str:
    """Return a moment as RFC 3339 writes it, in UTC and whole milliseconds."""
    second, rest = divmod(round(seconds * 1000), 1000)
    return f"{_format_second(second)}.{rest:03}Z"


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[: -len("+00:00")]


def describe_upload(upload: Upload, media_url: str = "", picture: PictureRecord | None = None) -> dict[str, Any]:
    """Return an upload as its JSON says it. ``size`` is null while nobody knows it, ``sha256`` until it is complete.

    ``owner`` is the id of the token that it belongs to, ``metadata`` what the client said of it beside that. ``media_url`` is
    the origin that serves uploads, where that is another. ``picture`` is what is known of what is made of it; if nothing is,
    that is still to come.
    """
    if picture is None and upload.picture:
        picture = PictureRecord(key=upload.picture, source=upload.sha256, state="queued")
    return {
        "id": upload.id,
        "state": upload.state,
        "name": upload.name,
        "size": upload.size,
        "offset": upload.offset,
        "sha256": upload.sha256 or None,
        "media_type": upload.media_type,
        "url": media_url + format_media_path(upload),
        "collection": upload.collection or "default",
        "owner": upload.owner,
        "metadata": client_metadata(upload),
        "created": format_time(upload.created),
        "image": describe_picture(picture, partial(_locate_variant, upload, media_url)) if picture else None,
    }


def _locate_variant(upload: Upload, media_url: str, variant: StoredVariant) -> str:
    return media_url + format_target(f"media/{upload.id}/{format_variant_name(upload.name, variant)}")


def etag_of(upload: Upload) -> ETag:
    """Return the tag that ``/media`` sends for the bytes of a complete upload (``semantics.representation``)."""
    return ETag(upload.sha256[:32])


def encode_json(content: object) -> bytes:
    """Return JSON on one line; what of a text is none, half of a surrogate pair, as "?"."""
    try:
        return msgspec.json.format(msgspec.json.encode(content), indent=0)
    except UnicodeEncodeError:
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def render_json(content: object, status: int = 200, fields: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON that no cache stores."""
    return Response(encode_json(content) + b"\n", status, {"Cache-Control": ERROR, **(fields or {})}, _JSON_TYPE)


class Problem(NamedTuple):
    """Problem details: what every one has, the members of its type, and the fields that go with it."""

    type: str
    status: int
    title: str
    detail: str
    members: Mapping[str, object]
    fields: Mapping[str, str]


def problem_of(error: AssetServerError) -> Problem:
    """Return what an error tells a client."""
    members = {"offset": error.offset} if isinstance(error, errors.OffsetConflictError) else {}
    members |= getattr(error, "members", {})
    return Problem(type_of(error), error.status, _title(error.status), str(error), members, _fields_of(error))


def _fields_of(error: AssetServerError) -> dict[str, str]:
    if isinstance(error, errors.UnauthorisedError):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, errors.MethodNotAllowedError):
        return {"Allow": error.allow}
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(getattr(error, "retry_after_s", RETRY_S))}
    return {}


def render_problem(error: AssetServerError, extra: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that failed; ``extra`` are more fields. Where the body was not read, it lingers."""
    problem = problem_of(error)
    content = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    fields = {"Cache-Control": ERROR, **problem.fields, **(extra or {})}
    return LingeringResponse(encode_json(content) + b"\n", problem.status, fields, PROBLEM_TYPE)


def answering(handler: Handler) -> Handler:
    """Return ``handler`` with its errors answered as problems. What is no error of ours stays one."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except AssetServerError as error:
            return render_problem(error)
        except ClientDisconnect:
            return Response(None, _GONE)

    return answer


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 460, of tus
        return "Checksum Mismatch"

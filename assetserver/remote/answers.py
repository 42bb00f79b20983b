"""How the API of releases answers: JSON, and problem details (RFC 9457) for what goes wrong. Nothing of it may be stored."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from assetserver.bodies import LingeringResponse
from assetserver.errors import AssetServerError, BusyError, UnauthorisedError
from assetserver.problems import NO_TYPE, TYPES, type_of

RETRY_S = 2
"""When to come again, in seconds, where nothing better is known."""

BLOBS_MISSING = TYPES + "blobs-missing"

_NAMES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "bad-request",
    HTTPStatus.NOT_FOUND: "release-missing",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "unpublishable",
    HTTPStatus.LOCKED: "locked",
    HTTPStatus.SERVICE_UNAVAILABLE: "busy",
    HTTPStatus.INSUFFICIENT_STORAGE: "no-space",
}
"""The last part of a problem's type where only the status is known: what a child process says, and the system."""

NO_STORE = {"Cache-Control": "no-store"}
_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def answer_json(content: Any, status: int = 200) -> Response:
    """Return ``content`` as JSON: problem details where ``status`` is an error's, which lingers if the body was not read."""
    body = msgspec.json.encode(content) + b"\n"
    if status < HTTPStatus.BAD_REQUEST:
        return Response(body, status, NO_STORE, "application/json")
    return LingeringResponse(body, status, NO_STORE, "application/problem+json")


def answer_problem(status: int, detail: str, fields: Mapping[str, str] | None = None, **members: Any) -> Response:
    """Return an error with what ``detail`` says, and ``members`` for programs."""
    answer = answer_json(describe_problem(status, detail, **members), status)
    answer.headers.update(fields or {})
    return answer


def describe_problem(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """Return the members of problem details; the type is what the status is most likely about, unless ``members`` name it."""
    name = _NAMES.get(status, "")
    kind = {"type": TYPES + name if name else NO_TYPE}
    return {**kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}


def answer_error(error: AssetServerError, **members: Any) -> Response:
    """Return the answer that ``error`` asks for; what is the server's own fault is not told in detail."""
    fields: dict[str, str] = {}
    if isinstance(error, UnauthorisedError):
        fields["WWW-Authenticate"] = error.challenge
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields["Retry-After"] = str(error.retry_after_s if isinstance(error, BusyError) else RETRY_S)
    return answer_problem(error.status, str(error), fields, type=type_of(error), **members)


def status_of(error: OSError) -> tuple[int, str]:
    """Return the status and the words for an error of the disk; paths of this machine are not told."""
    if error.errno in _IS_FULL:
        return HTTPStatus.INSUFFICIENT_STORAGE, "the server's disk is full; what was live stays live"
    reason = (error.strerror or "error").lower()
    if error.errno in _READ_ONLY:
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"the server cannot write to its data folder: {reason}"
    return HTTPStatus.INTERNAL_SERVER_ERROR, f"the server's disk failed: {reason}"

"""Resumable uploads of the IETF as text: what the fields of a request say, and how the state of an upload is told.

Decides what a request asks for; knows no body, no store and no clock. Experimental: an Internet-Draft may change.
Source: draft-ietf-httpbis-resumable-upload-05 to -11, which are the interop versions 6 to 8; RFC 9651 (structured fields).

Laws:
- A field whose value is not of its type is as good as absent (§4.1): ``Upload-Complete: 1`` makes no resumable upload.
- An interim answer goes only to a client that speaks the same interop version: others would not know it.
"""

from __future__ import annotations

import re

import msgspec
from starlette.datastructures import Headers

from ..errors import BadRequestError, OffsetConflictError, UnsupportedTypeError
from .intake import read_field
from .records import Upload
from .tus import LIMIT_INTEGER, parse_content_length

INTEROP_VERSIONS = frozenset({5, 6, 7, 8})
"""5 (draft -03) is tus-js-client's older mode: the same fields, without a media type for PATCH."""

UNTYPED_INTEROP = 5
CONTENT_TYPE = "application/partial-upload"
INTERIM_STATUS = 104

_PROBLEMS = "https://iana.org/assignments/http-problem-types#"

_PARAMETERS = r"(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=[^;,]*)?)*"
_BOOLEAN = re.compile(rf"\?([01]){_PARAMETERS}")
_INTEGER = re.compile(rf"([0-9]{{1,15}}){_PARAMETERS}")


class InconsistentLengthError(BadRequestError):
    """The lengths that a client has named for one upload differ (§4.3)."""

    problem_type = _PROBLEMS + "inconsistent-upload-length"


class CompletedUploadError(BadRequestError):
    """The upload is complete, and nothing may be appended to it, not even nothing (§5.4)."""

    problem_type = _PROBLEMS + "completed-upload"


class MismatchingOffsetError(OffsetConflictError):
    """The upload goes on at ``offset``, not at the one ``provided`` (§7.1)."""

    problem_type = _PROBLEMS + "mismatching-upload-offset"

    def __init__(self, offset: int, provided: int) -> None:
        super().__init__(f"the upload is at {offset}, not {provided}", offset)
        self.members = {"expected-offset": offset, "provided-offset": provided}


class Creation(msgspec.Struct, frozen=True):
    """What a creation asks for. ``completes``: its content is all there is. ``length``: of the whole, if it is known."""

    completes: bool
    length: int | None
    content_length: int | None
    interop: int | None


class Append(msgspec.Struct, frozen=True):
    """What a PATCH asks for. ``length``: of the whole, if this request tells it."""

    offset: int
    completes: bool
    length: int | None
    content_length: int | None


def parse_complete(headers: Headers) -> bool | None:
    """Return what ``Upload-Complete`` says, or None if it is not there or no boolean."""
    match = _BOOLEAN.fullmatch(read_field(headers, "upload-complete") or "")
    return match[1] == "1" if match else None


def parse_interop(headers: Headers) -> int | None:
    """Return the interop version that a client speaks, or None if it speaks none of ours."""
    version = _parse_integer(headers, "upload-draft-interop-version")
    return version if version in INTEROP_VERSIONS else None


def parse_creation(headers: Headers) -> Creation:
    """Return what a request with ``Upload-Complete`` asks for.

    Raises ``InconsistentLengthError`` if its lengths differ, ``BadRequestError`` without a boolean in ``Upload-Complete``.
    """
    completes = _require_complete(headers)
    content_length = parse_content_length(headers)
    return Creation(completes, _select_length(headers, 0, content_length, completes), content_length, parse_interop(headers))


def parse_append(headers: Headers) -> Append:
    """Return what a PATCH asks for.

    Raises ``UnsupportedTypeError``, ``BadRequestError`` for a field that is missing, ``InconsistentLengthError``.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != CONTENT_TYPE and parse_interop(headers) != UNTYPED_INTEROP:
        raise UnsupportedTypeError(f"the content must be {CONTENT_TYPE}, not {media_type[:80] or 'untyped'}")
    offset = _parse_integer(headers, "upload-offset")
    if offset is None:
        raise BadRequestError("PATCH needs an Upload-Offset")
    completes = _require_complete(headers)
    content_length = parse_content_length(headers)
    return Append(offset, completes, _select_length(headers, offset, content_length, completes), content_length)


def check_length(upload: Upload, append: Append) -> None:
    """Raise ``InconsistentLengthError`` if an append names a length other than the one known, or goes beyond it."""
    if upload.size is None:
        return
    if append.length is not None and append.length != upload.size:
        raise InconsistentLengthError(f"the upload has {upload.size} bytes, not {append.length}")
    if append.content_length is not None and append.offset + append.content_length > upload.size:
        raise InconsistentLengthError(f"the upload ends at {upload.size}, before this content does")


def _require_complete(headers: Headers) -> bool:
    completes = parse_complete(headers)
    if completes is None:
        raise BadRequestError("Upload-Complete must be ?1 or ?0")
    return completes


def _parse_integer(headers: Headers, name: str) -> int | None:
    match = _INTEGER.fullmatch(read_field(headers, name) or "")
    return int(match[1]) if match else None


def _select_length(headers: Headers, offset: int, content_length: int | None, completes: bool) -> int | None:
    """Return the length of the whole: as declared, or as it follows from content that is the rest of it (§4.3)."""
    declared = _parse_integer(headers, "upload-length")
    follows = offset + content_length if completes and content_length is not None else None
    if declared is not None and follows is not None and declared != follows:
        raise InconsistentLengthError(f"Upload-Length is {declared}, but the content ends at {follows}")
    length = follows if declared is None else declared
    if length is not None and length > LIMIT_INTEGER:
        raise BadRequestError(f"an upload cannot have {length} bytes")
    return length


def format_boolean(value: bool) -> str:
    """Return a boolean as a structured field (RFC 9651 §4.1.9)."""
    return "?1" if value else "?0"


def format_limits(max_size: int, remaining_s: int | None = None) -> dict[str, str]:
    """Return ``Upload-Limit``: the largest size in bytes, and the seconds for which an upload is kept."""
    limits = [f"max-size={max_size}"]
    if remaining_s is not None:
        limits.append(f"max-age={max(0, remaining_s)}")
    return {"Upload-Limit": ", ".join(limits)}


def format_progress(upload: Upload) -> dict[str, str]:
    """Return how far an upload is, for any answer."""
    return {"Upload-Offset": str(upload.offset), "Upload-Complete": format_boolean(upload.state == "complete")}


def format_state(upload: Upload) -> dict[str, str]:
    """Return what a HEAD is answered with, limits apart."""
    length = {} if upload.size is None else {"Upload-Length": str(upload.size)}
    return format_progress(upload) | length | {"Cache-Control": "no-store"}

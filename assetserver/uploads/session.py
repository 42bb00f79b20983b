"""What an append to an upload may be, and whether it completes it. Pure: values in, a plan or an error out.

The three protocols differ in when an upload is complete: a form or a raw body when it ends; tus when the last byte of the
declared length is there; resumable uploads of the IETF when the client says so (``completes``), never before.
Source: tus 1.0 (PATCH), draft-ietf-httpbis-resumable-upload-11 §4.4.
"""

from __future__ import annotations

import msgspec

from assetserver.errors import (
    BadRequestError,
    OffsetConflictError,
    PreconditionFailedError,
    TooLargeError,
    UploadGoneError,
)
from assetserver.semantics.etags import ETag, parse_etag_list, strong_match

from .records import NewUpload, Upload


class Append(msgspec.Struct, frozen=True):
    """An append that may begin: ``start`` is where its first byte goes, ``stop`` what its last one must not lie beyond.

    ``exact``: where it must end to be whole, or None if it may end anywhere before ``stop``.
    """

    start: int
    stop: int
    exact: int | None = None


def limit_of(max_size: int, agreed: int | None) -> int:
    """Return the largest size that is allowed, of the server's and what was ``agreed`` with this client."""
    return max_size if agreed is None else min(max_size, agreed)


def check_length(length: int | None, limit: int) -> None:
    """Raise ``TooLargeError`` for a declared length above ``limit``, ``BadRequestError`` for one below nothing."""
    if length is None:
        return
    if length < 0:
        raise BadRequestError(f"{length} is not a length")
    if length > limit:
        raise TooLargeError(f"{length} bytes are more than the {limit} that are allowed")


def plan_receipt(new: NewUpload, max_size: int) -> Append:
    """Return how a whole file is received. Raises what ``check_length`` does."""
    limit = limit_of(max_size, new.max_size)
    check_length(new.length, limit)
    return Append(0, limit if new.length is None else new.length, new.length)


def plan_append(upload: Upload, offset: int, content_length: int | None, completes: bool | None, max_size: int) -> Append:
    """Return how far an append at ``offset`` may go.

    ``content_length``: of this request, None if it does not say. ``completes``: whether the client calls the upload complete
    after it, None if the length decides. Raises ``UploadGoneError`` for one that failed, ``OffsetConflictError``,
    ``TooLargeError`` if it is known to go beyond the end, ``BadRequestError`` if it is known to end elsewhere than it should.
    """
    if upload.state == "failed":
        raise UploadGoneError(f"upload {upload.id} failed; begin anew")
    if offset != upload.offset:
        raise OffsetConflictError(f"the upload goes on at {upload.offset}, not at {offset}", upload.offset)
    stop = limit_of(max_size, upload.max_size) if upload.size is None else upload.size
    if content_length is not None and offset + content_length > stop:
        raise TooLargeError(f"{content_length} bytes from {offset} on go beyond {stop}")
    exact = upload.size if completes else None
    if content_length is not None and exact is not None and offset + content_length != exact:
        raise BadRequestError(f"{content_length} bytes from {offset} on do not end at {exact}, the declared length")
    return Append(offset, stop, exact)


def final_size(upload: Upload, offset: int, completes: bool | None, is_whole: bool) -> int | None:
    """Return the length of ``upload`` once an append has come to ``offset``, or None while it is open.

    ``is_whole``: the request came to its end. What a client calls complete has the length that it has then.
    """
    if completes and is_whole and upload.size is None:
        return offset
    return upload.size


def is_complete(upload: Upload, completes: bool | None = None) -> bool:
    """Tell whether an upload whose last append ended well is complete, by its protocol."""
    if upload.size is None or upload.offset != upload.size:
        return False
    return completes is True or upload.kind != "resumable"


def check_end(append: Append, offset: int) -> None:
    """Raise ``BadRequestError`` if a body that came to its end stopped at ``offset``, short of where it must."""
    if append.exact is not None and offset != append.exact:
        raise BadRequestError(f"the body ended at {offset} of {append.exact} bytes")


def check_conditions(name: str, current: str | None, if_match: str | None, *, none: bool) -> None:
    """Raise ``PreconditionFailedError`` unless what is stored under ``name`` is what the request asks for.

    ``current``: its SHA-256 in hexadecimal, None if nothing is there. ``if_match``: the field's value. ``none``: nothing may be
    there (``If-None-Match: *``). Source: RFC 9110 §13.1.1, §13.1.2; the tag is that of ``semantics.representation``.
    """
    if none and current is not None:
        raise PreconditionFailedError(f"{name} is there already")
    if if_match is None:
        return
    tags = parse_etag_list(if_match)
    if current is None or (tags != "*" and not strong_match(tags, ETag(current[:32]))):
        raise PreconditionFailedError(f"{name} is not what If-Match asks for")


def can_be_part(upload: Upload, owner: str) -> bool:
    """Tell whether an upload can be concatenated by ``owner``."""
    return upload.kind == "tus-partial" and upload.state == "complete" and upload.owner == owner

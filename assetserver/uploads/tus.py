"""tus 1.0 as text: what the fields of a request say, and how the state of an upload is told.

Decides what a request asks for, and whether it can be asked at all; knows no body, no store and no clock.
Source: https://tus.io/protocols/resumable-upload (1.0.0, 2016-03-25).

Laws:
- A field that stands there twice is read as one list (RFC 9110 §5.3): an integer that is a list is none.
- Nothing is guessed. What cannot be read is a ``BadRequestError`` that says which field and why.
- What ``HEAD`` must give back is kept as it was sent, beside what it means.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers

from ..errors import BadRequestError, ChecksumMismatchError, UnsupportedTypeError, UploadError
from ..semantics.dates import format_date
from ..semantics.digestfields import format_digests
from .intake import read_field
from .metadata import CONCAT_AS_SENT, LIMIT_METADATA_BYTES, LIMIT_METADATA_KEYS, METADATA_AS_SENT
from .records import Upload

VERSION = "1.0.0"
EXTENSIONS = (
    *("creation", "creation-with-upload", "creation-defer-length"),
    *("expiration", "checksum", "termination", "concatenation"),
)
DIGEST_BYTES = {"sha1": 20, "sha256": 32, "md5": 16}
"""What a checksum may be made with, and how long it is. ``sha1`` is demanded by the specification."""

CREATION_FIELDS = frozenset({b"upload-length", b"upload-defer-length", b"upload-concat", b"upload-metadata"})
"""Whoever sends one of these means tus, or resumable uploads, which have ``Upload-Complete`` as well."""

CONTENT_TYPE = "application/offset+octet-stream"
LIMIT_PARTS = 1000
LIMIT_INTEGER = (1 << 63) - 1
"""Offsets and lengths end here, as those of files do."""

OVERRIDABLE = frozenset({"HEAD", "PATCH", "DELETE"})
"""What ``X-HTTP-Method-Override`` may turn a POST into. Not GET into DELETE: a link must stay harmless."""

_INTEGER = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[^\x00-\x20,\x7f]+")
_PART = re.compile(r"(?:.*/)?uploads/([A-Za-z0-9_-]{1,64})")


class VersionError(UploadError):
    """The client speaks another version of tus, or does not say which. ``Tus-Version`` tells what is spoken."""

    status = 412


class ChunkMismatchError(ChecksumMismatchError):
    """The content of a request is not that of its ``Upload-Checksum``. It was thrown away; the offset is what it was."""

    status = 460


class Concat(msgspec.Struct, frozen=True):
    """What an upload is to others: ``whole`` by itself, a ``partial`` one, or ``final``, made of ``parts`` (ids, in order)."""

    role: Literal["whole", "partial", "final"] = "whole"
    parts: tuple[str, ...] = ()


class Checksum(NamedTuple):
    """The digest that the content of one request must have."""

    algorithm: str
    digest: bytes


class Creation(msgspec.Struct, frozen=True):
    """What a creation asks for. ``length`` is None if it is deferred, or that of the parts of a final upload."""

    length: int | None
    concat: Concat
    metadata: dict[str, str]
    name: str
    media_type: str
    checksum: Checksum | None


class Append(msgspec.Struct, frozen=True):
    """What a PATCH asks for. ``length`` is the length of the whole, where it is declared with this request."""

    offset: int
    length: int | None
    checksum: Checksum | None
    content_length: int | None


def check_version(headers: Headers) -> None:
    """Raise ``VersionError`` unless ``Tus-Resumable`` is there and names the version spoken here."""
    version = read_field(headers, "tus-resumable")
    if version != VERSION:
        raise VersionError(f"Tus-Resumable: {version[:20]!r}" if version else "Tus-Resumable is missing")


def parse_method(method: str, headers: Headers) -> str:
    """Return the method that a request is to be treated as.

    ``X-HTTP-Method-Override`` counts on POST alone, for clients that cannot send PATCH or DELETE. Raises
    ``BadRequestError`` for a method that it may not stand for.
    """
    override = read_field(headers, "x-http-method-override")
    if method != "POST" or override is None or override == "POST":
        return method
    if override not in OVERRIDABLE:
        raise BadRequestError(f"X-HTTP-Method-Override: {override[:20]!r}; it may be one of {', '.join(sorted(OVERRIDABLE))}")
    return override


def parse_creation(headers: Headers) -> Creation:
    """Return what a POST asks for. Raises ``BadRequestError``, or ``UnsupportedTypeError`` for content of another type."""
    metadata_as_sent, concat_as_sent = read_field(headers, "upload-metadata"), read_field(headers, "upload-concat")
    metadata = parse_metadata(metadata_as_sent or "")
    concat = parse_concat(concat_as_sent)
    length = _parse_creation_length(headers, concat)
    if has_content(headers):
        if concat.role == "final":
            raise BadRequestError("a final upload has no content of its own")
        _check_type(headers)
    kept = {METADATA_AS_SENT: metadata_as_sent, CONCAT_AS_SENT: concat_as_sent}
    return Creation(
        length,
        concat,
        metadata | {key: value for key, value in kept.items() if value},
        name=metadata.get("filename") or metadata.get("name") or "",
        media_type=metadata.get("filetype") or metadata.get("type") or "",
        checksum=parse_checksum(read_field(headers, "upload-checksum")),
    )


def _parse_creation_length(headers: Headers, concat: Concat) -> int | None:
    length, deferred = _parse_integer(headers, "upload-length"), read_field(headers, "upload-defer-length")
    if deferred not in (None, "1"):
        raise BadRequestError(f"Upload-Defer-Length: {deferred[:20]!r}; it can only be 1")
    if concat.role == "final":
        if length is not None or deferred:
            raise BadRequestError("the length of a final upload is that of its parts: it takes no Upload-Length")
        return None
    if (length is None) == (deferred is None):
        raise BadRequestError("a new upload needs either Upload-Length or Upload-Defer-Length: 1")
    return length


def parse_append(headers: Headers) -> Append:
    """Return what a PATCH asks for. Raises ``UnsupportedTypeError`` or ``BadRequestError``."""
    _check_type(headers)
    offset = _parse_integer(headers, "upload-offset")
    if offset is None:
        raise BadRequestError("PATCH needs an Upload-Offset")
    return Append(
        offset,
        _parse_integer(headers, "upload-length"),
        parse_checksum(read_field(headers, "upload-checksum")),
        parse_content_length(headers),
    )


def parse_content_length(headers: Headers) -> int | None:
    """Return how many bytes a request says that it brings, or None if it comes in chunks."""
    if "transfer-encoding" in headers:
        return None
    return _parse_integer(headers, "content-length") or 0


def has_content(headers: Headers) -> bool:
    """Tell whether a request brings, or may bring, at least one byte."""
    return parse_content_length(headers) != 0


def has_upload_type(headers: Headers) -> bool:
    """Tell whether the content of a request is a piece of an upload."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == CONTENT_TYPE


def _check_type(headers: Headers) -> None:
    if not has_upload_type(headers):
        raise UnsupportedTypeError(f"the content must be {CONTENT_TYPE}, not {headers.get('content-type', 'untyped')[:80]}")


def _parse_integer(headers: Headers, name: str) -> int | None:
    text = read_field(headers, name)
    if text is None:
        return None
    if _INTEGER.fullmatch(text) is None or int(text) > LIMIT_INTEGER:
        raise BadRequestError(f"{name.title()}: {text[:20]!r} is not an integer from 0 to {LIMIT_INTEGER}")
    return int(text)


def parse_metadata(text: str) -> dict[str, str]:
    """Return the pairs of ``Upload-Metadata``, values decoded; bytes that are no UTF-8 become U+FFFD.

    A key may stand alone: its value is empty. Raises ``BadRequestError`` for an empty or repeated key, for what is not
    base64, and beyond 4 KiB or 32 keys.
    """
    if len(text) > LIMIT_METADATA_BYTES:
        raise BadRequestError(f"Upload-Metadata has {len(text)} bytes; {LIMIT_METADATA_BYTES} are the limit")
    result: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if _KEY.fullmatch(key) is None:
            raise BadRequestError("Upload-Metadata: a key is empty or has a sign that is none")
        if key in result:
            raise BadRequestError(f"Upload-Metadata: {key[:80]!r} stands there twice")
        result[key] = _decode(value.strip(), "Upload-Metadata").decode("utf-8", "replace")
    if len(result) > LIMIT_METADATA_KEYS:
        raise BadRequestError(f"Upload-Metadata has {len(result)} keys; {LIMIT_METADATA_KEYS} are the limit")
    return result


def _decode(text: str, name: str) -> bytes:
    try:
        return b64decode(text.encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError):
        raise BadRequestError(f"{name}: {text[:20]!r} is not base64") from None


def parse_checksum(text: str | None) -> Checksum | None:
    """Return the checksum of a request, None where there is none.

    Raises ``BadRequestError`` for an algorithm that is not known and for a digest that cannot be one of it.
    """
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in DIGEST_BYTES:
        raise BadRequestError(f"Upload-Checksum: {algorithm[:20]!r} is not one of {', '.join(DIGEST_BYTES)}")
    digest = _decode(encoded, "Upload-Checksum")
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise BadRequestError(f"Upload-Checksum: {len(digest)} bytes are no {algorithm}")
    return Checksum(algorithm, digest)


def parse_concat(text: str | None) -> Concat:
    """Return what ``Upload-Concat`` says. Raises ``BadRequestError``.

    Parts are named by URLs, absolute or relative, of which the path alone counts: it must end with ``uploads/`` and an id. None
    may be named twice.
    """
    if text is None:
        return Concat()
    if text == "partial":
        return Concat("partial")
    role, semicolon, urls = text.partition(";")
    if role != "final" or not semicolon or not urls.strip():
        raise BadRequestError("Upload-Concat can be 'partial', or 'final;' and the URLs of the parts")
    parts = tuple(_parse_part(url) for url in urls.split())
    if len(parts) > LIMIT_PARTS:
        raise BadRequestError(f"Upload-Concat has {len(parts)} parts; {LIMIT_PARTS} are the limit")
    if len(set(parts)) < len(parts):  # else a part of a megabyte would become a gigabyte with one small request
        raise BadRequestError("Upload-Concat: a part is named twice")
    return Concat("final", parts)


def _parse_part(url: str) -> str:
    try:
        match = _PART.fullmatch(urlsplit(url).path)
    except ValueError:  # "//[" is no host
        match = None
    if match is None:
        raise BadRequestError(f"Upload-Concat: {url[:80]!r} is not the URL of an upload")
    return match[1]


def format_configuration(max_size: int) -> dict[str, str]:
    """Return the fields of an answer to OPTIONS. ``max_size`` in bytes."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(DIGEST_BYTES),
        "Tus-Max-Size": str(max_size),
    }


def format_progress(upload: Upload) -> dict[str, str]:
    """Return what a POST or PATCH is answered with: how far the upload is, and until when it can go on."""
    fields = {"Upload-Offset": str(upload.offset)}
    if upload.expires is not None:
        fields["Upload-Expires"] = format_date(int(upload.expires))
    return fields


def format_state(upload: Upload) -> dict[str, str]:
    """Return what a HEAD is answered with."""
    kept = upload.metadata
    length = {"Upload-Defer-Length": "1"} if upload.size is None else {"Upload-Length": str(upload.size)}
    as_sent = {"Upload-Metadata": kept.get(METADATA_AS_SENT), "Upload-Concat": kept.get(CONCAT_AS_SENT)}
    return (
        format_progress(upload)
        | length
        | {name: value for name, value in as_sent.items() if value}
        | {"Cache-Control": "no-store"}
    )


def format_result(upload: Upload, url: str) -> dict[str, str]:
    """Return what the last answer tells of a complete upload: where it is, and its digest (RFC 9530). Clients show both."""
    if upload.state != "complete" or not upload.sha256:
        return {}
    return {"Content-Location": url, "Repr-Digest": format_digests({"sha-256": bytes.fromhex(upload.sha256)})}

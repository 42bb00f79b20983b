"""Which ``type`` problem details (RFC 9457) have, by error: stable names, which programs compare. They are no addresses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from . import errors
from .errors import AssetServerError

TYPES = "urn:assetserver:problem:"
NO_TYPE = "about:blank"
"""Where the status says all there is (RFC 9457 §4.2.1)."""

_TEXT: dict[str, Any] = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
}
"""What they are in descriptions for programs (OpenAPI)."""

NAMES: Mapping[type[AssetServerError], str] = MappingProxyType(
    {
        errors.OffsetConflictError: "offset-conflict",
        errors.ChecksumMismatchError: "checksum-mismatch",
        errors.TooLargeError: "too-large",
        errors.QuotaError: "quota",
        errors.NoSpaceError: "no-space",
        errors.UploadMissingError: "upload-missing",
        errors.UploadGoneError: "upload-gone",
        errors.PreconditionFailedError: "precondition-failed",
        errors.UnsupportedTypeError: "unsupported-type",
        errors.BadRequestError: "bad-request",
        errors.MethodNotAllowedError: "method-not-allowed",
        errors.UploadBusyError: "upload-busy",
        errors.BusyError: "busy",
        errors.StorageError: "storage",
        errors.RateError: "too-slow",
        errors.UnauthorisedError: "unauthorised",
        errors.ForbiddenError: "forbidden",
        errors.OverloadedError: "overloaded",
        errors.ReleaseMissingError: "release-missing",
        errors.PublishError: "unpublishable",
        errors.SignatureError: "signature",
        errors.ConflictError: "conflict",
        errors.LockedError: "locked",
        errors.DigestMismatchError: "digest-mismatch",
        errors.DictionaryMissingError: "dictionary-missing",
        errors.TransformError: "transform",
        errors.PictureRefusedError: "picture-refused",
        errors.PictureMissingError: "picture-missing",
        errors.PictureLateError: "picture-late",
    }
)
"""The last part of a problem's type; of a subclass not named here, that of its nearest base."""


def type_of(error: AssetServerError) -> str:
    """Return the type of an error; some have one of their own, which is a specification's."""
    name = next((NAMES[kind] for kind in type(error).__mro__ if kind in NAMES), "")
    own: str = getattr(error, "problem_type", "")
    return own or (TYPES + name if name else NO_TYPE)

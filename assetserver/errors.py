"""The error tree: every failure that this package raises on purpose.

Each class carries the HTTP ``status`` that answers it, should it reach a client, and ``retryable``: whether the same call
may succeed later with nothing changed by the caller.
"""

from __future__ import annotations

from typing import ClassVar


class AssetServerError(Exception):
    """Base of all errors of this package."""

    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class SettingsError(AssetServerError):
    """A configuration that cannot be used. The message names the place, the value and the remedy."""


class FileChangedError(AssetServerError):
    """A file was replaced or cut while it was being read. Asking again gives its new content."""

    status = 503
    retryable = True


class OverloadedError(AssetServerError):
    """The process is out of descriptors or memory, or is stopping. Asking again later may succeed."""

    status = 503
    retryable = True


class BlobMissingError(AssetServerError):
    """A blob that a record names is not in the store: the disk lost it, or someone removed it by hand."""


class DigestMismatchError(AssetServerError):
    """Bytes are not those of the digest that they came with."""

    status = 422


class PublishError(AssetServerError):
    """A folder cannot become a release as it is. The message names the file and the remedy."""

    status = 422


class SignatureError(PublishError):
    """A key or a signature is not one, or a signature is not of these bytes by a trusted key. The message says what to do."""


class ReleaseMissingError(AssetServerError):
    """There is no such release, alias or site."""

    status = 404


class ConflictError(AssetServerError):
    """Someone else changed the site meanwhile. Look again, then decide."""

    status = 409
    retryable = True


class LockedError(AssetServerError):
    """The site is locked against activation; the message says by what."""

    status = 423


class UnauthorisedError(AssetServerError):
    """Nobody knows who asks: there is no token, or one that does not count. ``challenge`` is for ``WWW-Authenticate``."""

    status = 401

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class ForbiddenError(AssetServerError):
    """Who asks is known, and may not do this. The message says what would be needed."""

    status = 403

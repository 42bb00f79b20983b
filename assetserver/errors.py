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


class DictionaryMissingError(AssetServerError):
    """A body was compressed with a dictionary that is not here. Without one it can be read."""

    status = 422


class PublishError(AssetServerError):
    """A folder cannot become a release as it is. The message names the file and the remedy."""

    status = 422


class SignatureError(PublishError):
    """A key or a signature is not one, or a signature is not of these bytes by a trusted key. The message says what to do."""


class RemoteError(AssetServerError):
    """Another server cannot be reached, or does not do what it is asked. The message says what it said, and the remedy."""

    status = 502


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


class PurgeError(AssetServerError):
    """A purge that was asked for cannot be ordered. The message says why, and what could be."""

    status = 422


class BackupError(AssetServerError):
    """A backup cannot be made, or not be restored. The message names what is wrong, and what to do."""


class AccessError(AssetServerError):
    """A token, a time or a path that a command was given is none. The message says what would be one."""

    status = 422


class UnauthorisedError(AssetServerError):
    """Nobody knows who asks: there is no token, or one that does not count. ``challenge`` is for ``WWW-Authenticate``."""

    status = 401

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class ForbiddenError(AssetServerError):
    """Who asks is known, and may not do this. The message says what would be needed."""

    status = 403


class UploadError(AssetServerError):
    """An upload cannot go on as asked. Nothing that was acknowledged is lost."""

    status = 400


class BadRequestError(UploadError):
    """What was sent makes no sense: a field, a name, a length."""


class MethodNotAllowedError(UploadError):
    """The URL does not take this method; ``allow`` is what it takes, for ``Allow``."""

    status = 405

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RateError(UploadError):
    """The body comes too slowly, or not at all. What arrived of a resumable upload is kept."""

    status = 408
    retryable = True


class UploadMissingError(UploadError):
    """There is no such upload, and as far as is known there never was."""

    status = 404


class OffsetConflictError(UploadError):
    """The bytes do not go on where the upload ends; ``offset`` is where it does."""

    status = 409
    retryable = True

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class UploadGoneError(UploadError):
    """The upload was removed, expired or failed."""

    status = 410


class PreconditionFailedError(UploadError):
    """What is stored under the name is not what ``If-Match`` or ``If-None-Match`` asks for."""

    status = 412


class TooLargeError(UploadError):
    """The file is larger than is allowed, or than was declared. Asking again does not help."""

    status = 413


class QuotaError(UploadError):
    """Unfinished uploads hold as many bytes as they may. Finish some, or remove them."""

    status = 413


class UnsupportedTypeError(UploadError):
    """The content is of a type that may not be uploaded here."""

    status = 415


class UploadBusyError(UploadError):
    """Someone else writes to the upload and did not give way in time."""

    status = 423
    retryable = True


class ChecksumMismatchError(UploadError):
    """The bytes are not those of the digest that they came with (460 is what tus answers). They were not kept."""

    status = 400


class BusyError(UploadError):
    """Too much at once, or the records are locked by someone else. ``retry_after_s`` says when to come again."""

    status = 503
    retryable = True
    retry_after_s: ClassVar[int] = 5


class StorageError(UploadError):
    """The disk refused: read-only, or broken. The log and the message say what the system said."""

    status = 503
    retryable = True


class NoSpaceError(StorageError):
    """The disk is full, or would be fuller than the reserve allows."""

    status = 507


class SchemaError(AssetServerError):
    """The records were made by a newer version of this program, or are no records. The message says what to do."""


class JobError(AssetServerError):
    """Something about a background job; the message says which, and what to do."""

    status = 409


class JobMissingError(JobError):
    """There is no such job, or it ended so long ago that it is forgotten."""

    status = 404


class JobStateError(JobError):
    """A job cannot be retried or cancelled as it is now."""


class JobFailedError(JobError):
    """An attempt of a job failed; another one may not. What a handler raises.

    ``signal``: the number of the one that ended its process, or 0. ``retry_after_s``: not before, if somebody said so.
    """

    status = 500
    retryable = True

    def __init__(self, reason: str, *, signal: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.signal = signal
        self.retry_after_s = retry_after_s


class JobRefusedError(JobFailedError):
    """An attempt of a job failed as every other one would: what it is given cannot be worked on."""

    retryable = False


class LeaseLostError(JobError):
    """The job was cancelled, or another worker has it: whatever comes of this attempt does not count."""


class TransformError(AssetServerError):
    """A picture is asked for in a way that is not offered. The message names the option and what would do."""

    status = 400


class PictureRefusedError(AssetServerError):
    """A picture will never be made smaller here. ``reason`` says why, to whoever uploaded it. Trying again does not help."""

    status = 422

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PictureMissingError(AssetServerError):
    """There is nothing to make a picture of. The message says where it was looked for."""

    status = 404


class PictureLateError(AssetServerError):
    """A picture is not made yet, and nothing may stand in for it. Asking again gives it."""

    status = 503
    retryable = True
    retry_after_s: ClassVar[int] = 1


class ChildFailedError(AssetServerError):
    """A process that worked on a picture ended without an answer. Trying again may help, a few times.

    ``reason`` is for people; ``signal`` is the number of the signal that ended it, or 0.
    """

    status = 503
    retryable = True

    def __init__(self, reason: str, signal: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.signal = signal


class ControlError(AssetServerError):
    """A running server cannot be asked to do something, or did not say what came of it. The message says what to do."""


class ListenError(AssetServerError):
    """An address cannot be listened on: it is taken, or is not to be had. The message says what to do."""

"""What is known of each upload, the changes that may be made to it, and the interface of the engine that keeps it.

A record never names bytes that are not durable: ``offset`` counts bytes that were synced, and ``complete`` is written only
once the blob and its name are. ``database.uploads`` is the engine; ``tests/contracts`` holds what every engine keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from assetserver.jobs.job import NewJob
from assetserver.pictures.records import PictureRecord
from assetserver.storage.blobs import Digest

State = Literal["uploading", "complete", "failed"]
Kind = Literal["raw", "multipart", "tus", "tus-partial", "tus-final", "resumable"]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload at one moment. Times in seconds since 1970, lengths in bytes.

    ``size`` is None while it is not known, and equals ``offset`` once complete; ``sha256`` is "" until then. ``media_type`` is
    found by content once complete, before that what was declared. ``expires`` is None for what stays. ``account``: whose quota
    its bytes count for, "" for the owner's. ``expected``,
    ``max_size`` and ``types`` are what was agreed at creation, and hold until completion: digests of the whole by algorithm,
    the largest size, and patterns of media types. ``picture``: the key of what is made of it, or "".
    """

    id: str
    state: State
    name: str
    collection: str
    owner: str
    size: int | None
    offset: int
    sha256: str
    media_type: str
    metadata: dict[str, str]
    kind: Kind
    created: float
    expires: float | None
    by_name: str = ""
    account: str = ""
    expected: dict[str, bytes] = {}
    max_size: int | None = None
    types: tuple[str, ...] = ()
    picture: str = ""

    @property
    def payer(self) -> str:
        """Whose quota the bytes count for."""
        return self.account or self.owner


class NewPicture(NamedTuple):
    """What is to be made of an upload: the picture's key, and the job that makes it."""

    key: str
    job: NewJob


class NewUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants to upload, as far as it says. ``expected``: digests of the whole by algorithm (``sha-256``).

    ``by_name``: also store it under this name. ``if_none_match``: only if nothing is there; ``if_match``: only if what is
    there has one of these entity tags (the field's value); ``only_own``: only if what is there is the same owner's. ``parts``:
    ids of the uploads to concatenate. ``account``: as that of ``Upload``.
    """

    name: str
    length: int | None = None
    declared_type: str = ""
    collection: str = ""
    owner: str = ""
    account: str = ""
    kind: Kind = "raw"
    metadata: dict[str, str] = {}
    by_name: str = ""
    expected: dict[str, bytes] = {}
    if_none_match: bool = False
    if_match: str | None = None
    only_own: bool = False
    max_size: int | None = None
    types: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def payer(self) -> str:
        """Whose quota the bytes count for."""
        return self.account or self.owner


class Quota(msgspec.Struct, frozen=True):
    """The most bytes that unfinished uploads may hold: those that count for one owner, and all."""

    per_owner: int
    in_all: int


class Held(msgspec.Struct, frozen=True):
    """The bytes that unfinished uploads hold: those that count for one owner, and all."""

    by_owner: int
    in_all: int


class Add(msgspec.Struct, frozen=True):
    """A new upload begins. ``QuotaError`` if it would hold more than ``quota`` allows."""

    upload: Upload
    quota: Quota


class Advance(msgspec.Struct, frozen=True):
    """Bytes up to ``offset`` are durable. ``size``: None leaves it as it is. Never moves an offset back.

    ``QuotaError`` if the upload would hold more than before, and that is more than ``quota`` allows: its size where that is
    known, told late or not, else what came. ``UploadGoneError`` if it is not uploading any more.
    """

    id: str
    offset: int
    size: int | None
    expires: float
    quota: Quota


class Complete(msgspec.Struct, frozen=True):
    """The blob of ``upload`` is durable, and the upload complete; ``is_new`` if there was no record of it so far.

    ``PreconditionFailedError`` if what is stored under its name is not what the two conditions ask for; ``ForbiddenError`` if
    it is another owner's, with ``only_own``: who has the name when a body ends may not be who had it when it began;
    ``BlobMissingError`` if somebody removed the blob meanwhile: store it again. ``jobs`` are queued in the same transaction,
    and ``picture_job``, which makes the picture of the upload, unless that is made already or will never be.
    """

    upload: Upload
    is_new: bool
    if_none_match: bool = False
    if_match: str | None = None
    only_own: bool = False
    jobs: tuple[NewJob, ...] = ()
    picture_job: NewJob | None = None


class Fail(msgspec.Struct, frozen=True):
    """The upload failed for good."""

    id: str


class Remove(msgspec.Struct, frozen=True):
    """The upload is removed; its id is remembered as gone since ``now``. ``UploadMissingError`` if there is none.

    If it is what a name shows, the name is also taken from what the same owner stored under it before. If no other upload has
    its picture, that goes, too, and who works on it stops. ``jobs`` are queued in the same transaction.
    """

    id: str
    now: float
    jobs: tuple[NewJob, ...] = ()


Change = Add | Advance | Complete | Fail | Remove


class UploadRecords(Protocol):
    """Records of uploads, for any number of processes. All methods block, and may be called from any thread.

    Raises ``BusyError`` where somebody else holds the records for too long, ``NoSpaceError`` and ``StorageError`` where the
    disk refuses.
    """

    def commit(self, changes: Sequence[Change], is_stored: Callable[[Digest], bool]) -> list[Exception | None]:
        """Make ``changes`` in their order in one durable transaction; return for each None, or why it was not made.

        One that is refused leaves the others alone. ``is_stored`` is asked within the transaction; see ``drop_blob``.
        """
        ...

    def find(self, upload_id: str) -> Upload:
        """Return an upload. Raises ``UploadMissingError``, or ``UploadGoneError`` for one that was removed."""
        ...

    def find_many(self, upload_ids: Iterable[str]) -> dict[str, Upload]:
        """Return those of these uploads that there are, by id."""
        ...

    def find_pictures(self, keys: Iterable[str]) -> dict[str, PictureRecord]:
        """Return those of these pictures that there are, by key."""
        ...

    def find_by_name(self, collection: str, name: str) -> Upload | None:
        """Return the newest complete upload that is stored under ``name``."""
        ...

    def list_uploads(self, owner: str | None, cursor: str, limit: int) -> tuple[list[Upload], str]:
        """Return up to ``limit`` uploads after ``cursor``, the newest first, and the cursor of the next ones or "".

        ``owner``: only its uploads. Raises ``BadRequestError`` for a cursor that is none.
        """
        ...

    def held(self, owner: str) -> Held:
        """Return the bytes that unfinished uploads hold, in all and counting for ``owner``; parts to be concatenated, too."""
        ...

    def list_expired(self, now: float) -> list[Upload]:
        """Return the uploads that may go, those whose end has come."""
        ...

    def list_stuck(self) -> list[Upload]:
        """Return uploads of which every byte is there and which nobody completed."""
        ...

    def unfinished(self, upload_ids: Iterable[str]) -> set[str]:
        """Return which of these uploads are not complete yet."""
        ...

    def referenced(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return which of these blobs a record names, of an upload or of a variant."""
        ...

    def drop_blob(self, digest: Digest, remove: Callable[[], object]) -> bool:
        """Call ``remove`` if no record names ``digest``, and return whether it did.

        Nobody completes an upload meanwhile, so that none ever names a blob that goes.
        """
        ...

    def forget_gone(self, before: float) -> int:
        """Forget the ids that are gone since before then; return their number."""
        ...

"""What nobody needs any more: unfinished uploads whose time is over, files that no record names, blobs likewise.

Any number of processes may sweep at once and at any moment: a file goes only with the right to write to it, a blob only
within a transaction in which no record names it, and nothing that is younger than the grace period.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from assetserver.errors import UploadGoneError, UploadMissingError
from assetserver.pictures.records import PictureRecord
from assetserver.storage.blobs import BlobStore, Digest, Staging
from assetserver.storage.pools import raise_if_stopping

from .records import Remove, Upload, UploadRecords

GONE_FOR_S = 7 * 86_400.0
"""How long an id that is gone is answered 410 and not 404."""

_MANY = 500


class SweepReport(msgspec.Struct, frozen=True):
    """How much was swept: uploads that had expired, files and blobs that no record named."""

    expired: int = 0
    files: int = 0
    blobs: int = 0


def sweep_leftovers(records: UploadRecords, staging: Staging, blobs: BlobStore, now: float, grace_s: float) -> SweepReport:
    """Remove what nobody needs; ``now`` in seconds since 1970. Blocks. May be repeated, and ended at any moment."""
    before = now - grace_s
    report = SweepReport(
        sum(_remove_expired(records, staging, blobs, one, now) for one in records.list_expired(now)),
        sum(_remove_files(records, staging, before)),
        sum(_remove_blobs(records, blobs, before)),
    )
    blobs.sweep(grace_s)
    records.forget_gone(now - GONE_FOR_S)
    return report


def drop_blob(records: UploadRecords, blobs: BlobStore, digest: str) -> bool:
    """Remove a blob unless a record names it; return whether it went."""
    return bool(digest) and records.drop_blob(Digest(digest), lambda: blobs.delete(Digest(digest)))


def list_digests(upload: Upload, picture: PictureRecord | None) -> list[str]:
    """Return the blobs that may go with an upload, unless other records name them."""
    return [upload.sha256, *(one.sha256 for one in picture.variants)] if picture is not None else [upload.sha256]


def _remove_expired(records: UploadRecords, staging: Staging, blobs: BlobStore, upload: Upload, now: float) -> bool:
    raise_if_stopping()
    file = staging.open(upload.id)
    try:
        return file.try_claim() and _remove_if_expired(records, staging, blobs, upload.id, now)
    finally:
        file.close()


def _remove_if_expired(records: UploadRecords, staging: Staging, blobs: BlobStore, upload_id: str, now: float) -> bool:
    """Somebody may have gone on with it since it was listed: it is looked at again now that nobody else can."""
    try:
        current = records.find(upload_id)
    except (UploadMissingError, UploadGoneError):
        staging.remove(upload_id)
        return False
    if current.expires is None or current.expires > now:
        return False
    pictures = records.find_pictures([current.picture]) if current.picture else {}
    if records.commit([Remove(upload_id, now)], lambda _: True) != [None]:
        return False
    staging.remove(upload_id)
    for digest in list_digests(current, pictures.get(current.picture)):
        drop_blob(records, blobs, digest)
    return True


def _remove_files(records: UploadRecords, staging: Staging, before: float) -> Iterator[bool]:
    old = (one.upload_id for one in staging.list_staged() if one.changed < before)
    for some in _in_pieces(old):
        unfinished = records.unfinished(some)
        for upload_id in some:
            if upload_id not in unfinished:
                yield _remove_file(staging, upload_id)


def _remove_file(staging: Staging, upload_id: str) -> bool:
    raise_if_stopping()
    file = staging.open(upload_id)
    try:
        return file.try_claim() and staging.remove(upload_id)
    finally:
        file.close()


def _remove_blobs(records: UploadRecords, blobs: BlobStore, before: float) -> Iterator[bool]:
    old = (one.digest for one in blobs.list_blobs() if one.stored < before)
    for some in _in_pieces(old):
        raise_if_stopping()
        referenced = records.referenced([Digest(one) for one in some])
        for digest in some:
            if digest not in referenced:
                yield drop_blob(records, blobs, digest)


def _in_pieces(names: Iterable[str]) -> Iterator[list[str]]:
    every = iter(names)
    while some := list(islice(every, _MANY)):
        yield some

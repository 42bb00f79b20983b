"""Pictures of uploads, as jobs: which uploads cause one, and how it is done.

What is made of a picture comes in two jobs: JPEG, WebP and the placeholder make it ready, AVIF follows when there is nothing
else to do. The second run of either changes nothing: only who holds the lease writes, and what is there stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from .errors import BlobMissingError, BusyError, ChildFailedError, JobFailedError, JobRefusedError, PictureRefusedError
from .images.plan import Picture, Plan, split_plan
from .images.studio import Studio
from .jobs.attempt import Attempt, Kind, Outcome
from .jobs.job import LATER, Lease, NewJob
from .jobs.retry import RetryPolicy
from .pictures.records import Look, Made, StoredVariant
from .pictures.scratch import Scratch
from .pictures.storing import store_files
from .settings import Settings
from .settingtables import ImageSettings
from .storage.blobs import BlobStore, Digest, LocalBlobs
from .studios import common_plan, longest_job_s
from .uploads.records import NewPicture, Upload

KIND = "image"
RETRY = RetryPolicy(attempts=3, first_s=2.0, factor=5.0, longest_s=300.0)
"""A child that crashed or was starved is tried again soon: somebody waits for the picture."""

_PAUSES_S = (0.1, 0.3, 1.0, 3.0, 10.0)
_DEVELOPED = 0.9
"""The share of the work that is done once all files are written."""

_FIRST, _LATER = "image:", "image-later:"
"""How the keys of jobs begin; see ``database.pictures``."""


class Blobs(BlobStore, LocalBlobs, Protocol):
    """Where sources are read as files, and variants stored."""


class MadePictures(Protocol):
    """What records pictures: ``database.pictures``."""

    def complete(
        self, lease: Lease, key: str, made: Made, is_stored: Callable[[Digest], bool], later: NewJob | None = None
    ) -> bool:
        """Record what was made, the end of the job, and ``later``, in one transaction; False if nobody has the picture."""
        ...


class Work(msgspec.Struct, frozen=True):
    """The payload of a job: the picture's key, the digest of its source, what to make now, and what later."""

    picture: str
    source: str
    plan: Plan
    later: Plan | None = None


def choose_plan(images: ImageSettings) -> Plan:
    """Return what is made of every picture with these settings."""
    return msgspec.structs.replace(
        common_plan(images),
        widths=tuple(sorted(set(images.widths))),
        formats=("base", *(one for one in ("webp", "avif") if one in images.formats)),
    )


def plan_pictures(settings: Settings) -> Callable[[Upload], NewPicture | None]:
    """Return what tells the picture of an upload, and the job that makes it; None for what is none.

    By the type that was found in the content. An SVG needs no other sizes.
    """
    plan = choose_plan(settings.images)
    first, later = split_plan(plan)

    def picture_of(upload: Upload) -> NewPicture | None:
        kind = upload.media_type
        if not kind.startswith("image/") or kind == "image/svg+xml" or upload.kind == "tus-partial":
            return None
        key = plan.digest(upload.sha256)
        return NewPicture(key, _to_job(Work(key, upload.sha256, first, later), _FIRST))

    return picture_of if settings.images.enabled else lambda _: None


def _to_job(work: Work, prefix: str) -> NewJob:
    payload = msgspec.json.encode(work).decode()
    priority = LATER if prefix == _LATER else 0
    return NewJob(kind=KIND, payload=payload, key=prefix + work.picture, priority=priority, max_attempts=RETRY.attempts)


class PictureMaker:
    """Makes pictures of uploads in ``studio``, ``at_once`` of them, until it is closed."""

    def __init__(
        self, studio: Studio, blobs: Blobs, scratch: str, pictures: Callable[[], MadePictures], at_once: int = 1
    ) -> None:
        self._studio = studio
        self._scratch = Scratch(scratch)
        self._blobs = blobs
        self._pictures = pictures
        self.kind = Kind(self._handle, RETRY, at_once, longest_job_s(studio))

    def close(self) -> None:
        """Remove what was written; the studio was closed before."""
        self._scratch.close()

    def _handle(self, attempt: Attempt) -> Outcome:
        work = msgspec.json.decode(attempt.job.payload, type=Work)
        try:
            with self._scratch.folder() as folder:
                picture = self._develop(attempt, work, folder)
                attempt.progress(_DEVELOPED)
                return self._record(attempt, work, picture, folder)
        except OSError as error:  # the disk is full, or there are too many files: it may pass
            attempt.raise_if_lost()
            raise JobFailedError(f"the picture could not be stored: {error.strerror}") from error

    def _develop(self, attempt: Attempt, work: Work, folder: str) -> Picture:
        source = Digest(work.source)
        if not self._is_stored(source):
            raise JobRefusedError("the upload is not there any more")
        try:
            return self._studio.make(
                self._blobs.path_of(source), work.plan, folder, is_wanted=lambda: not attempt.is_lost
            ).picture
        except PictureRefusedError as error:
            raise JobRefusedError(error.reason) from error
        except ChildFailedError as error:
            attempt.raise_if_lost()
            raise JobFailedError(error.reason, signal=error.signal) from error

    def _record(self, attempt: Attempt, work: Work, picture: Picture, folder: str) -> Outcome:
        """Store the files, then record them with the end of the job.

        A blob that goes in between is stored once more; records that are locked are waited for: the work is done.
        """
        names = [one.file for one in picture.variants]
        plan = _choose_later(work, picture)
        later = None if plan is None else _to_job(Work(work.picture, work.source, plan), _LATER)
        for pause_s in _PAUSES_S:
            made = _describe(picture, store_files(self._blobs, folder, names), plan)
            try:
                self._pictures().complete(attempt.lease, work.picture, made, self._is_stored, later)
            except BlobMissingError:
                continue
            except BusyError:
                time.sleep(pause_s)
                attempt.raise_if_lost()
                continue
            return Outcome.RECORDED
        raise JobFailedError("what was made of the picture could not be recorded: the records are in use")

    def _is_stored(self, digest: Digest) -> bool:
        return self._blobs.size_of(digest) is not None


def _choose_later(work: Work, picture: Picture) -> Plan | None:
    """Return what is still to be made: of what moves nothing, for AVIF would be a still."""
    return None if picture.frames > 1 and work.plan.transform.anim else work.later


def _describe(picture: Picture, digests: list[Digest], later: Plan | None) -> Made:
    variants = tuple(
        StoredVariant(format=one.format, width=one.width, height=one.height, size=one.size, sha256=digest)
        for one, digest in zip(picture.variants, digests, strict=True)
    )
    return Made(variants=variants, look=_look(picture), pending=() if later is None else tuple(later.formats))


def _look(picture: Picture) -> Look | None:
    if (placeholder := picture.placeholder) is None:
        return None
    return Look(
        width=picture.width,
        height=picture.height,
        has_alpha=picture.has_alpha,
        colour=placeholder.colour,
        placeholder=placeholder.url,
        thumbhash=placeholder.thumbhash,
    )

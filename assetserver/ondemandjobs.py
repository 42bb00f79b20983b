"""Pictures on demand, as jobs: what a server orders, and how a worker makes it. Both share a folder of results.

An order is decided by its content: the same picture, made the same way, is one job, whoever asks for it. Results are files
with the order's key; a worker that finds its picture there has nothing to do, so the second run changes nothing.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import msgspec

from .data import data_folder, open_library, open_media_blobs
from .delivery.variantstore import VariantStore
from .errors import ChildFailedError, JobFailedError, JobRefusedError, PictureRefusedError
from .images.plan import Plan, PlanFormat, Qualities
from .images.studio import Studio
from .images.transform import Transform
from .jobs.attempt import Attempt, Kind, Outcome
from .jobs.job import URGENT, NewJob
from .jobs.retry import RetryPolicy
from .kindnames import ON_DEMAND
from .semantics.picturetypes import PictureClass
from .settings import Settings
from .storage.blobs import Digest
from .studios import longest_job_s

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}

REFUSED_S = 3600.0
"""How long a picture that will never be made is not tried again: other limits may apply by then."""
FAILED_S = 60.0
"""The same, of one whose making failed each time."""

RETRY = RetryPolicy(attempts=3, first_s=1.0)
"""Of children that crashed: more of the same would bring the same."""

Pool = Literal["releases", "media"]
"""Whose blobs a source is among."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One picture to be made of the blob ``source`` (its SHA-256), as ``plan`` says: one width, one format."""

    pool: Pool
    source: str
    plan: Plan

    @property
    def key(self) -> str:
        """The name of the result: 64 hexadecimal digits."""
        return self.plan.digest(self.source)


class Subject(NamedTuple):
    """What a picture is made of: the blob ``source`` (its SHA-256) of ``pool``, and whether it moves."""

    pool: Pool
    source: str
    is_animated: bool = False


def order_picture(common: Plan, subject: Subject, transform: Transform, accepted: PictureClass) -> Order:
    """Return the order of what ``transform`` means for clients of a class, made as the settings say (``common_plan``).

    Of those only what counts for the picture is part of its key: another quality of AVIF makes no JPEG anew.
    """
    kind, moves = choose_format(transform, accepted, is_animated=subject.is_animated)
    plan = msgspec.structs.replace(
        common,
        transform=msgspec.structs.replace(
            transform,
            format="auto",
            onerror="",
            anim=moves or not subject.is_animated,
            metadata="copyright" if "copyright" in (transform.metadata, common.transform.metadata) else "none",
        ),
        widths=(),
        formats=(kind,),
        qualities=Qualities() if transform.quality else common.qualities.only(kind),
        has_placeholder=False,
    )
    return Order(subject.pool, subject.source, plan)


def choose_format(transform: Transform, accepted: PictureClass, *, is_animated: bool) -> tuple[PlanFormat, bool]:
    """Return the format to make for clients of a class, and whether the picture moves in it: as WebP alone it does."""
    moves = is_animated and transform.anim
    if transform.format != "auto":
        return transform.format, moves and transform.format == "webp"
    if moves and accepted == "avif":
        return "webp", True
    return accepted, moves and accepted == "webp"


def open_variants(settings: Settings) -> VariantStore:
    """Return where pictures made on demand are kept: one for each process, which counts what it adds. Opens nothing yet."""
    folder = settings.images.cache_directory or os.path.join(data_folder(settings), "cache", "images")
    return VariantStore(folder, settings.images.cache_limit_bytes)


def picture_kind(settings: Settings, studio: Studio, store: VariantStore) -> Kind:
    """Return what makes pictures in a worker, in ``studio``, for ``store``."""
    maker = _PictureMaker(settings, studio, store)
    return Kind(maker.make, retry=RETRY, at_once=settings.images.at_once, limit_s=longest_job_s(studio))


class _PictureMaker:
    """Makes what is ordered, in child processes."""

    def __init__(self, settings: Settings, studio: Studio, store: VariantStore) -> None:
        library, media = open_library(settings), open_media_blobs(settings)
        self._blobs = {"releases": library.blobs, "media": media}
        self._store = store
        self._studio = studio

    def make(self, attempt: Attempt) -> Outcome:
        """Make the picture of one job; see ``jobs.attempt.Handler``."""
        try:
            order = msgspec.json.decode(attempt.job.payload, type=Order)
        except msgspec.DecodeError as error:
            raise JobRefusedError(f"this is no order of a picture: {error}") from error
        try:
            if self._store.find(order.key) is None:
                self._develop(order, attempt)
        except OSError as error:
            raise JobFailedError(f"the picture cannot be kept: {error.strerror}: {error.filename}") from error
        return Outcome.DONE

    def _develop(self, order: Order, attempt: Attempt) -> None:
        source = self._blobs[order.pool].path_of(Digest(order.source))
        with self._store.making() as folder:
            try:
                made = self._studio.make(source, order.plan, folder, is_wanted=lambda: not attempt.is_lost)
            except FileNotFoundError as error:
                raise JobRefusedError("the picture that it is to be made of is not there any more") from error
            except PictureRefusedError as error:
                self._store.refuse(order.key, error.reason, REFUSED_S, order.source)
                raise JobRefusedError(error.reason) from error
            except ChildFailedError as error:
                if attempt.job.attempts >= attempt.job.max_attempts:
                    self._store.refuse(order.key, error.reason, FAILED_S, order.source)
                raise JobFailedError(error.reason, signal=error.signal) from error
            (variant,) = made.picture.variants
            file, seen = os.path.join(folder, variant.file), (made.picture.width, made.picture.height)
            self._store.keep(order.key, file, MEDIA_TYPES[variant.format], order.source, seen)


def job_of(order: Order) -> NewJob:
    """Return the job that makes what is ordered. Somebody waits for it."""
    payload = msgspec.json.encode(order).decode()
    return NewJob(kind=ON_DEMAND, payload=payload, key=order.key, priority=URGENT, max_attempts=RETRY.attempts)

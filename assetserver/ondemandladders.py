"""Pictures before anybody asks for them: the whole ladder of each picture of a release, decoded once, kept as if ordered.

What is made is found under the keys that orders have, so the first visitor waits for nothing. The cache may lose it all the
same; then it is made on demand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from .delivery.variantstore import VariantStore
from .errors import ChildFailedError, JobFailedError, JobRefusedError, PictureRefusedError
from .images.plan import Picture, Plan, PlanFormat, Variant
from .images.studio import Studio
from .images.transform import Transform
from .jobs.attempt import Attempt, Kind, Outcome
from .jobs.job import LATER, NewJob, content_key
from .kindnames import LADDER
from .ondemandjobs import FAILED_S, MEDIA_TYPES, REFUSED_S, RETRY, Subject, open_variants, order_picture
from .releases.library import Library
from .releases.manifest import ReleaseId
from .semantics.mediatypes import media_type_of
from .semantics.picturetypes import PictureClass
from .settings import Settings
from .storage.blobs import Digest
from .studios import common_plan, longest_job_s

_SOURCES = frozenset({*MEDIA_TYPES.values(), "image/gif"})
_PHASES: tuple[tuple[PictureClass, ...], ...] = (("base", "webp"), ("avif",))
"""What is made together: AVIF takes two thirds of the time, and comes when all else is there."""


class Ladder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The picture ``source`` (SHA-256 of a blob of releases) for these classes of clients, in these widths.

    ``common`` is what was so of every picture when it was queued.
    """

    source: str
    classes: tuple[PictureClass, ...]
    widths: tuple[int, ...]
    common: Plan = Plan()


def list_ladder_jobs(settings: Settings, library: Library, release: ReleaseId) -> list[NewJob]:
    """Return the jobs that make the ladders of the pictures of a release, of those alone that nothing is there of."""
    store, common = open_variants(settings), common_plan(settings.images)
    widths = tuple(sorted(set(settings.images.widths)))
    files = library.load_manifest(release).files
    pictures = dict.fromkeys(one.digest for path, one in files.items() if media_type_of(path) in _SOURCES)
    ladders = (
        (Ladder(source, classes, widths, common), LATER - phase) for phase, classes in enumerate(_PHASES) for source in pictures
    )
    return [_to_job(ladder, priority) for ladder, priority in ladders if not _is_begun(store, ladder)]


def ladder_kind(library: Library, studio: Studio, store: VariantStore) -> Kind:
    """Return what makes ladders in a worker, in ``studio``, for ``store``."""
    return Kind(_LadderMaker(library, studio, store).make, retry=RETRY, limit_s=longest_job_s(studio))


class _LadderMaker:
    def __init__(self, library: Library, studio: Studio, store: VariantStore) -> None:
        self._library = library
        self._store = store
        self._studio = studio

    def make(self, attempt: Attempt) -> Outcome:
        """Make one ladder; see ``jobs.attempt.Handler``."""
        try:
            ladder = msgspec.json.decode(attempt.job.payload, type=Ladder)
        except msgspec.DecodeError as error:
            raise JobRefusedError(f"this is no ladder of pictures: {error}") from error
        source = self._library.blobs.path_of(Digest(ladder.source))
        try:
            moves = self._studio.look(source).frames > 1
            if moves and ladder.classes == _PHASES[-1]:
                return Outcome.DONE  # what moves is WebP, which was made before
            with self._store.making() as folder:
                plan = _plan_of(ladder, moves=moves)
                made = self._studio.make(source, plan, folder, is_wanted=lambda: not attempt.is_lost)
                for key, variant in assign_variants(ladder, made.picture):
                    file, seen = os.path.join(folder, variant.file), (made.picture.width, made.picture.height)
                    self._store.keep(key, file, MEDIA_TYPES[variant.format], ladder.source, seen)
        except PictureRefusedError as error:
            self._remember(ladder, error.reason, REFUSED_S)
            raise JobRefusedError(error.reason) from error
        except ChildFailedError as error:
            if attempt.job.attempts >= attempt.job.max_attempts:
                self._remember(ladder, error.reason, FAILED_S)
            raise JobFailedError(error.reason, signal=error.signal) from error
        except FileNotFoundError as error:
            raise JobRefusedError("the picture is not there any more; its release was removed") from error
        except OSError as error:
            raise JobFailedError(f"the pictures cannot be kept: {error.strerror}: {error.filename}") from error
        return Outcome.DONE

    def _remember(self, ladder: Ladder, reason: str, keep_s: float) -> None:
        """Note why there is no ladder: visitors are told for ``keep_s``, and it counts as begun."""
        with suppress(OSError):  # then it is tried again
            self._store.refuse(_first_key_of(ladder, moves=False), reason, keep_s, ladder.source)


def assign_variants(ladder: Ladder, picture: Picture) -> Iterator[tuple[str, Variant]]:
    """Yield the keys under which variants would be ordered: up to the first width that is not smaller than the picture's."""
    for accepted in ladder.classes:
        kind, is_still = _format_of(accepted, moves=picture.frames > 1)
        for width in ladder.widths:
            of_width = [one for one in picture.variants if one.width == min(width, picture.width)]
            fits = [one for one in of_width if _is_of(one, kind) and (one.frames == 1) == is_still]
            if fits:
                yield _key_of(ladder, accepted, width, moves=picture.frames > 1), fits[0]
            if width >= picture.width:
                break


def _is_of(variant: Variant, kind: PlanFormat) -> bool:
    return variant.format in ("jpeg", "png") if kind == "base" else variant.format == kind


def _format_of(accepted: PictureClass, *, moves: bool) -> tuple[PlanFormat, bool]:
    """Return the format of a class of clients, and whether it is a still."""
    plan = order_picture(Plan(), Subject("releases", "", moves), Transform(), accepted).plan
    return plan.formats[0], not (moves and plan.transform.anim)


def _plan_of(ladder: Ladder, *, moves: bool) -> Plan:
    formats = tuple(dict.fromkeys(_format_of(accepted, moves=moves)[0] for accepted in ladder.classes))
    return msgspec.structs.replace(ladder.common, widths=ladder.widths, formats=formats, has_placeholder=False)


def _key_of(ladder: Ladder, accepted: PictureClass, width: int, *, moves: bool) -> str:
    subject = Subject("releases", ladder.source, moves)
    return order_picture(ladder.common, subject, Transform(width=width), accepted).key


def _is_begun(store: VariantStore, ladder: Ladder) -> bool:
    """Tell whether there is anything of a ladder, if only why there is none: what the cache lost is made on demand."""
    return any(store.is_known(_first_key_of(ladder, moves=moves)) for moves in (False, True))


def _first_key_of(ladder: Ladder, *, moves: bool) -> str:
    return _key_of(ladder, ladder.classes[0], ladder.widths[0], moves=moves)


def _to_job(ladder: Ladder, priority: int) -> NewJob:
    payload = msgspec.json.encode(ladder).decode()
    key = content_key(LADDER, payload)
    return NewJob(kind=LADDER, payload=payload, key=key, priority=priority, max_attempts=RETRY.attempts)

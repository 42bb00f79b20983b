"""Background work joined: which kinds of jobs these settings know, and which ones a complete upload causes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .baseurl import base_url
from .data import open_library
from .errors import SettingsError
from .jobs.attempt import Kind
from .jobs.job import NewJob
from .kindnames import IMAGE, LADDER, ON_DEMAND
from .purging.orders import KIND as PURGE
from .settings import Settings
from .uploads.answers import describe_upload
from .uploads.records import Upload
from .webhooks.events import KIND as WEBHOOK
from .webhooks.events import tell_event
from .webhooks.sending import webhook_kind
from .webhooks.signing import parse_secret

if TYPE_CHECKING:
    from .delivery.variantstore import VariantStore
    from .images.studio import Studio
    from .picturejobs import PictureMaker
    from .uploads.depot import AfterRemoval, FollowUp, PictureOf

UPLOAD_COMPLETED = "upload.completed"


def kind_names(settings: Settings) -> list[str]:
    """Return which kinds of jobs these settings cause, and a worker with them can do."""
    return [name for name, is_caused in _kinds(settings).items() if is_caused]


def _kinds(settings: Settings) -> dict[str, bool]:
    return {
        IMAGE: settings.images.enabled,
        WEBHOOK: bool(settings.webhooks.url),
        ON_DEMAND: settings.images.on_demand,
        LADDER: settings.images.on_demand,
        PURGE: bool(settings.purge),
    }


def job_kinds(settings: Settings, studio: Studio, maker: PictureMaker | None, store: VariantStore | None) -> dict[str, Kind]:
    """Return what a worker with these settings can do. Jobs of other kinds wait for one that can.

    Pictures are made in ``studio``, those of uploads by ``maker``, those on demand for ``store``.
    """
    kinds: dict[str, Kind] = {}
    if maker is not None:
        kinds[IMAGE] = maker.kind
    if settings.webhooks.url:
        secrets = [parse_secret(text) for text in settings.webhooks.secrets]
        kinds[WEBHOOK] = webhook_kind(settings.webhooks.url, secrets, settings.webhooks.timeout_s)
    if store is not None:
        from . import ondemandjobs, ondemandladders  # noqa: PLC0415 - who makes no pictures starts without

        kinds[ON_DEMAND] = ondemandjobs.picture_kind(settings, studio, store)
        kinds[LADDER] = ondemandladders.ladder_kind(open_library(settings), studio, store)
    if settings.purge:
        from .purgejobs import purge_jobs  # noqa: PLC0415 - as above

        kinds[PURGE] = purge_jobs(settings)
    return kinds


def choose_kinds(settings: Settings, wanted: str) -> list[str]:
    """Return those of the kinds that ``wanted`` names, separated by commas, that ``settings`` cause; all if it names none.

    Raises ``SettingsError`` for a name that is no kind's.
    """
    names = [name for name in map(str.strip, wanted.split(",")) if name]
    if unknown := [name for name in names if name not in _kinds(settings)]:
        raise SettingsError(f"--kinds: there is no kind of job {unknown[0]!r}; there are {', '.join(_kinds(settings))}")
    return [name for name in kind_names(settings) if not names or name in names]


def follow_ups(settings: Settings) -> FollowUp:
    """Return what tells the jobs that a complete upload causes; they are recorded with it, in one transaction."""

    def follow_up(upload: Upload) -> Sequence[NewJob]:
        if upload.kind == "tus-partial":  # a part is told of with the whole
            return ()
        told = [tell_event(UPLOAD_COMPLETED, describe_upload(upload, origin), time.time())] if settings.webhooks.url else []
        return [*told, *purges(upload)]

    origin = settings.uploads.media_url or base_url(settings)
    purges = _purges(settings)
    return follow_up


def _purges(settings: Settings) -> FollowUp:
    if not settings.purge:
        return lambda _: ()
    from .purgeuploads import purges_of_upload  # noqa: PLC0415 - who has no cache in front starts without

    return purges_of_upload(settings)


def removal_follow_ups(settings: Settings) -> AfterRemoval:
    """Return what tells the jobs that the removal of an upload causes; they are recorded with it, in one transaction."""
    if not settings.purge:
        return lambda _, __: ()
    from .purgeuploads import purges_of_removal  # noqa: PLC0415 - as above

    return purges_of_removal(settings)


def pictures_of(settings: Settings) -> PictureOf:
    """Return what tells the picture of a complete upload, if these settings have any made."""
    if not settings.images.enabled:
        return lambda _: None
    from .picturejobs import plan_pictures  # noqa: PLC0415 - who has none made need not know how

    return plan_pictures(settings)

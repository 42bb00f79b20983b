"""Background work joined: which kinds of jobs these settings know, and which ones a complete upload causes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .addresses import base_url
from .data import open_library
from .jobs.attempt import Kind
from .jobs.job import NewJob
from .settings import Settings
from .uploads.answers import describe_upload
from .uploads.records import Upload
from .webhooks.events import KIND as WEBHOOK
from .webhooks.events import tell_event
from .webhooks.sending import webhook_kind
from .webhooks.signing import parse_secret

if TYPE_CHECKING:
    from .uploads.depot import FollowUp

UPLOAD_COMPLETED = "upload.completed"


def job_kinds(settings: Settings) -> dict[str, Kind]:
    """Return what a worker with these settings can do. Jobs of other kinds wait for one that can."""
    kinds: dict[str, Kind] = {}
    if settings.webhooks.url:
        secrets = [parse_secret(text) for text in settings.webhooks.secrets]
        kinds[WEBHOOK] = webhook_kind(settings.webhooks.url, secrets, settings.webhooks.timeout_s)
    if settings.images.on_demand:
        from . import ondemandjobs, ondemandladders  # noqa: PLC0415 - who makes no pictures starts without

        kinds[ondemandjobs.KIND] = ondemandjobs.picture_kind(settings)
        kinds[ondemandladders.KIND] = ondemandladders.ladder_kind(settings, open_library(settings))
    return kinds


def follow_ups(settings: Settings) -> FollowUp:
    """Return what tells the jobs that a complete upload causes; they are recorded with it, in one transaction."""

    def follow_up(upload: Upload) -> Sequence[NewJob]:
        if not settings.webhooks.url or upload.kind == "tus-partial":  # a part is told of with the whole
            return ()
        return (tell_event(UPLOAD_COMPLETED, describe_upload(upload, origin), time.time()),)

    origin = settings.uploads.media_url or base_url(settings)
    return follow_up

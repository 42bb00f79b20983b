"""Jobs by which others hear of pictures; they are recorded with what they tell of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .baseurl import base_url
from .jobs.job import NewJob
from .pictures.records import PictureRecord
from .settings import Settings
from .uploads.answers import describe_upload
from .uploads.records import Upload
from .webhooks.events import tell_event

IMAGE_READY, IMAGE_FAILED = "image.ready", "image.failed"

Announce = Callable[[Upload, PictureRecord], Sequence[NewJob]]


def announcements(settings: Settings) -> Announce:
    """Return what tells the jobs by which others hear that a picture is ready, or has failed."""

    def announce(upload: Upload, picture: PictureRecord) -> Sequence[NewJob]:
        if not settings.webhooks.url:
            return ()
        name = IMAGE_FAILED if picture.state == "failed" else IMAGE_READY
        return (tell_event(name, describe_upload(upload, origin, picture), time.time()),)

    origin = settings.uploads.media_url or base_url(settings)
    return announce

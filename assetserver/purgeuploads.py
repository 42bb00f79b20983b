"""What an upload owes caches in front: the URL of its name, when it takes it or gives it up, and all that were its own.

The jobs are recorded with the upload or its removal, in one transaction: killed at any moment, nothing is forgotten. What only
signed URLs show is kept by no cache, and owes nothing. Of a URL with an id the bytes never change: only a removal
purges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from .data import served_sites
from .delivery.mediafolder import BY_NAME
from .jobs.job import NewJob
from .mediaroutes import MOUNT, public_collections
from .pictures.naming import format_variant_name
from .pictures.records import PictureRecord
from .purgeorders import Wanted, places_of
from .settings import Settings
from .settingtables import PurgeSettings
from .uploads.authorising import DEFAULT_COLLECTION
from .uploads.records import Upload


def purges_of_upload(settings: Settings) -> Callable[[Upload], Sequence[NewJob]]:
    """Return what tells the jobs that purge what a complete upload takes the place of: what its name showed, if anything."""
    public = public_collections(settings)

    def purge(upload: Upload) -> Sequence[NewJob]:
        if not upload.by_name or (upload.collection or DEFAULT_COLLECTION) not in public:
            return ()
        return _order(settings, list(_named(upload)), f"upload {upload.id}")

    return purge


def purges_of_removal(settings: Settings) -> Callable[[Upload, PictureRecord | None], Sequence[NewJob]]:
    """Return what tells the jobs that purge what a removed upload was shown as, and what was made of it."""
    public = public_collections(settings)

    def purge(upload: Upload, picture: PictureRecord | None) -> Sequence[NewJob]:
        if upload.state != "complete" or (upload.collection or DEFAULT_COLLECTION) not in public:
            return ()
        variants = picture.variants if picture else ()
        names = [upload.name, *(format_variant_name(upload.name, one) for one in variants)]
        return _order(settings, [*_named(upload), *(f"{upload.id}/{name}" for name in names)], f"removal {upload.id}")

    return purge


def _named(upload: Upload) -> Iterator[str]:
    """Yield the paths below the mount at which the name of an upload is found."""
    if upload.by_name:
        yield f"{BY_NAME}/{upload.collection or DEFAULT_COLLECTION}/{upload.by_name}"
        if not upload.collection:
            yield f"{BY_NAME}/{upload.by_name}"


def _order(settings: Settings, paths: Sequence[str], cause: str) -> list[NewJob]:
    jobs: list[NewJob] = []
    for one in settings.purge:
        wanted = Wanted(one)
        wanted.add_elsewhere(settings, *_origins(settings, one), [f"{MOUNT[1:]}/{path}" for path in paths])
        jobs += wanted.list_jobs(cause, one.delay_s)
    return jobs


def _origins(settings: Settings, one: PurgeSettings) -> tuple[list[str], list[str]]:
    """Return where visitors of a cache find uploads, and where pictures made of them: uploads may have a host of their own."""
    everywhere = list(one.origins or ([settings.server.public_url] if settings.server.public_url else []))
    everywhere += [place.origin for site in served_sites(settings) for _, place in places_of(settings, site.name, one)]
    everywhere = list(dict.fromkeys(everywhere))
    media = settings.uploads.media_url
    if not media:
        return everywhere, everywhere
    is_cached = not one.origins or any(urlsplit(origin).netloc == urlsplit(media).netloc for origin in one.origins)
    return [media] if is_cached else [], everywhere

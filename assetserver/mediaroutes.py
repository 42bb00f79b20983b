"""Where uploads are served: ``/media`` beside everything else, or alone on a host of its own."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, request_response
from starlette.types import Scope

from .data import Records, open_changes, open_media_blobs
from .delivery.mediafiles import MediaFiles
from .delivery.mediafolder import Medium, parse_media_path
from .delivery.requests import query_suffix, raw_path
from .delivery.resources import Resources
from .errors import AssetServerError, OverloadedError, UploadGoneError, UploadMissingError
from .monitoring import answer_healthy
from .pictures.naming import MEDIA_TYPES, find_variant, may_name_variant
from .pictures.records import StoredVariant
from .routes import cache_table, public_fields
from .semantics.caching import REDIRECT, CacheTable
from .settings import Settings
from .storage.blobs import Digest
from .uploads.authorising import DEFAULT_COLLECTION, Authority
from .uploads.records import Upload, UploadRecords

logger = logging.getLogger(__name__)

MOUNT = "/media"

T = TypeVar("T")


def media_routes(settings: Settings, resources: Resources, records: Records, authority: Authority) -> list[BaseRoute]:
    """Return the routes of what was uploaded; they come before all others, since a media host has no others.

    With ``uploads.media_url``, ``/media`` of every other host leads there: what strangers wrote is never in the origin of pages
    that somebody logs in to.
    """
    files = _open_media(settings, resources, records, authority)
    own = urlsplit(settings.uploads.media_url).hostname
    if not own:
        return [_UploadsMount(MOUNT, files, name="media")]
    routes = [Mount(MOUNT, files, name="media"), Route("/-/healthy", answer_healthy), Route("/{rest:path}", _nothing)]
    leads_to = request_response(_leads_to(settings.uploads.media_url))
    return [Host(own, Router(routes, redirect_slashes=False)), _UploadsMount(MOUNT, leads_to)]


class _UploadsMount(Mount):
    """Takes paths that an upload can have, and no others: a site may well have a folder of the same name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE or parse_media_path(scope["path"].removeprefix(child["root_path"]).lstrip("/")) is None:
            return Match.NONE, {}
        return match, child


@dataclass(frozen=True)
class _Variant:
    """A variant as delivery sees it: of the upload's collection, and never other bytes."""

    id: str
    name: str
    collection: str
    size: int
    sha256: str
    media_type: str


def _to_medium(upload: Upload, name: str, variant: StoredVariant) -> _Variant:
    media_type = MEDIA_TYPES[variant.format]
    return _Variant(upload.id, name, upload.collection, variant.size, variant.sha256, media_type)


class _Uploads:
    """The records of uploads, as delivery looks them up. ``records`` are opened by the first look, if there are any."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def find(self, upload_id: str, name: str) -> Medium | None:
        upload = self._ask(lambda uploads: uploads.find(upload_id))
        if upload is None or upload.kind == "tus-partial":  # a part is nobody's file
            return None
        if name == upload.name or not upload.picture or not may_name_variant(name):
            return upload
        pictures = self._ask(lambda uploads: uploads.find_pictures([upload.picture])) or {}
        variants = pictures[upload.picture].variants if upload.picture in pictures else ()
        found = find_variant(upload.name, variants, name)
        return upload if found is None else _to_medium(upload, name, found)

    def find_by_name(self, name: str, collection: str) -> Medium | None:
        own = "" if collection == DEFAULT_COLLECTION else collection
        name = unicodedata.normalize("NFC", name)  # as names are stored, however they are written
        return self._ask(lambda uploads: uploads.find_by_name(own, name))

    def _ask(self, look: Callable[[UploadRecords], T | None]) -> T | None:
        """Return what ``look`` finds. Raises ``OverloadedError`` where the records cannot be read; the log says why."""
        if not self._records.are_there():
            return None
        try:
            return look(self._records.uploads())
        except (UploadMissingError, UploadGoneError):
            return None
        except AssetServerError as error:
            logger.error("uploads cannot be looked up: %s", error)  # noqa: TRY400
            raise OverloadedError("uploads cannot be looked up") from error


def _open_media(settings: Settings, resources: Resources, records: Records, authority: Authority) -> MediaFiles:
    public = public_collections(settings)
    table = cache_table(settings)
    blobs = open_media_blobs(settings)
    return MediaFiles(
        _Uploads(records),
        lambda digest: blobs.path_of(Digest(digest)),
        is_signed=lambda collection: (collection or DEFAULT_COLLECTION) not in public,
        load_keys=authority.load_keys,
        read_mark=open_changes(settings).read,
        cache=CacheTable(table.rules, profile=table.profile, prefix=MOUNT.strip("/") + "/"),
        fields=public_fields(settings.headers),
        cache_status=settings.headers.cache_status,
        resources=resources,
    )


def public_collections(settings: Settings) -> frozenset[str]:
    """Return the collections that everybody may read: those that the settings name so, and the default one if not named.

    What was uploaded into a collection that the settings name no more, or by another name, stays where it was: closed.
    """
    access = {DEFAULT_COLLECTION: "public"} | {one.name: one.access for one in settings.collections}
    signed = {one.name for one in settings.collections if one.access == "signed"}
    return frozenset(name for name, value in access.items() if value == "public") - signed


def _leads_to(origin: str) -> Any:
    async def redirect(request: Request) -> Response:
        location = origin + raw_path(request.scope) + query_suffix(request.scope)
        return Response(None, 308, {"Location": location, "Cache-Control": REDIRECT})

    return redirect


async def _nothing(_: Request) -> Response:
    raise HTTPException(404)

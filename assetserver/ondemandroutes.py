"""Pictures on demand joined: where they are served, whose files they are made of, and what orders them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope

from .access.keys import KeyRing
from .data import Records, load_signing_keys, open_records
from .delivery.assetfiles import AssetFiles
from .delivery.mediafiles import MediaFiles
from .delivery.mediafolder import parse_media_path
from .delivery.releasefiles import ReleaseFiles
from .delivery.requests import encoded_prefix, raw_path
from .delivery.resources import Resources
from .errors import SettingsError
from .mediaroutes import MOUNT as MEDIA
from .ondemand import PictureFiles
from .ondemandiiif import MOUNT as IIIF
from .ondemandiiif import IiifFiles
from .ondemandjobs import Pool, open_variants
from .ondemandorders import Orders, Workshop
from .ondemandurls import MOUNT, PictureUrls
from .routes import public_fields
from .semantics.targets import Target
from .settings import Settings
from .storage.pools import wait_future
from .studios import open_studio


class OnDemand:
    """Pictures on demand of one application, made of what ``routes`` serve. Nothing is opened before the first is ordered.

    ``records`` are those of uploads, if there are any. Raises ``SettingsError`` for a preset that is none, and
    for IIIF where everything wants a signature.
    """

    def __init__(
        self, settings: Settings, resources: Resources, routes: Sequence[BaseRoute], records: Records | None = None
    ) -> None:
        self._settings = settings
        self._resources = resources
        self._own = open_records(settings)
        if settings.images.iiif and settings.images.signed:
            place = settings.locate("images", "iiif")
            raise SettingsError(f"{place}: images.iiif serves everybody, images.signed signed URLs alone; choose one")
        used, images, store = records or self._own, settings.images, open_variants(settings)
        orders = Orders(used.jobs, lambda key: store.find(key) is not None, images.queue_limit)
        self._workshop = Workshop(store, orders, resources.files, images.patience_s)
        self._load_keys = lru_cache(maxsize=1)(partial(load_signing_keys, settings))
        self._sites = routes
        self._media = next((app for app in _list_apps(routes) if isinstance(app, MediaFiles)), None)
        self._urls = PictureUrls(settings)

    def routes(self) -> list[BaseRoute]:
        """Return the routes, which come before those of sites."""
        settings = self._settings
        parts = (self._workshop, open_studio(settings.images))
        keywords: dict[str, Any] = {
            "load_keys": self._load_ring,
            "wants_signature": settings.images.signed,
            "keeps_apart": bool(settings.uploads.media_url),
            "fields": public_fields(settings.headers),
            "cache_status": settings.headers.cache_status,
            "resources": self._resources,
        }
        files = PictureFiles(self._urls, partial(self._find_files, MOUNT), *parts, **keywords)
        routes: list[BaseRoute] = [_PicturesMount(files, self._urls)]
        if settings.images.iiif:
            keywords["public_url"] = settings.server.public_url
            routes.append(Mount(IIIF, IiifFiles(self._urls, partial(self._find_files, IIIF), *parts, **keywords), name="iiif"))
        return routes

    def close(self) -> None:
        """End what orders."""
        self._workshop.close()
        self._own.close()

    async def _load_ring(self) -> KeyRing:
        return await wait_future(self._resources.files.submit(self._load_keys))

    def _find_files(self, mount: str, scope: Scope, target: Target) -> tuple[AssetFiles, Pool, Scope] | None:
        """Return who serves a path that is named below ``mount``, as it would be asked for at its own URL."""
        root = scope.get("root_path", "").removesuffix(mount)
        path = "/" + target.path
        asked = {
            **scope,
            "method": "GET",
            "path": root + path,
            "raw_path": (root + target.canonical).encode(),
            "root_path": root,
        }
        asked["query_string"] = b""
        below = path.removeprefix(MEDIA + "/")
        if self._media is not None and below != path and parse_media_path(below) is not None:
            return self._media, "media", {**asked, "root_path": root + MEDIA}
        found = _match(self._sites, asked)
        return (found[0], "releases", found[1]) if found else None


class _PicturesMount(Mount):
    """Takes paths that begin with options, and no others: a site may well have a folder of the same name."""

    def __init__(self, files: PictureFiles, urls: PictureUrls) -> None:
        super().__init__(MOUNT, files, name="image")
        self._urls = urls

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE:
            segment, _, rest = raw_path(scope)[len(encoded_prefix({**scope, **child})) + 1 :].partition("/")
            if not rest or not self._urls.are_options(segment):
                return Match.NONE, {}
        return match, child


def _match(routes: Iterable[BaseRoute], scope: Scope) -> tuple[ReleaseFiles, Scope] | None:
    """Return the site that answers, and the scope that it gets; None if something else does."""
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.NONE:
            continue
        if isinstance(route, Host):
            return _match(route.routes, {**scope, **child})
        app = route.app if isinstance(route, Mount) else None
        return (app, {**scope, **child}) if isinstance(app, ReleaseFiles) else None
    return None


def _list_apps(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    for route in routes:
        if isinstance(route, Host):
            yield from _list_apps(route.routes)
        elif isinstance(route, Mount):
            yield route.app

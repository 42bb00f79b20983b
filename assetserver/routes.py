"""Which URLs lead where: sites, mounted folders and previews, each a ``Mount`` of its own, the longest prefix first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router

from . import console
from .data import open_library, served_sites
from .delivery.assetfiles import AssetFiles
from .delivery.deltas import SiteDeltas
from .delivery.pins import Pins
from .delivery.previews import PREVIEW_CACHE, PREVIEW_FIELDS, Found, PreviewFiles, Previews
from .delivery.releasefiles import ReleaseFiles
from .delivery.releasefolder import OpenIndex
from .delivery.requests import FRONT_PAGE, query_suffix
from .delivery.resources import Resources
from .errors import ReleaseMissingError, SettingsError
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.serving import ActiveIndex, open_release
from .releases.sites import alias_for
from .semantics.caching import PAGE, REDIRECT, CachePolicy, CacheRule, CacheTable, check_cache_control, compile_glob
from .semantics.targets import format_target
from .settings import Settings
from .settingtables import HeadersSettings, MountSettings, SiteSettings
from .storage.blobs import Digest

_ID_BEGINS = re.compile(r"[0-9A-Fa-f]+")

_Served = tuple[MountSettings | SiteSettings, AssetFiles]


def site_routes(settings: Settings, resources: Resources) -> list[BaseRoute]:
    """Return the mounts, those of named hosts first; a host falls back on the mounts for any host."""
    mounts: list[_Served] = [(mount, _open_mount(settings, index, resources)) for index, mount in enumerate(settings.mounts)]
    mounts += [(site, _open_site(settings, site, resources)) for site in served_sites(settings)]
    general = [(mount, files) for mount, files in mounts if not mount.host]
    routes: list[BaseRoute] = []
    for host in sorted({mount.host for mount, _ in mounts if mount.host}):
        own = [(mount, files) for mount, files in mounts if mount.host == host]
        taken = {mount.prefix for mount, _ in own}
        shared = [(mount, files) for mount, files in general if mount.prefix not in taken]
        routes.append(Host(host, Router(_mount_routes([*own, *shared]), redirect_slashes=False)))
    return [*routes, *_mount_routes(general)]


def introduce(routes: Iterable[BaseRoute]) -> None:
    """Tell each site at the root of its hosts what others answer there; ``routes`` are all that there are."""
    known = list(_walk(routes))
    segments = frozenset(path.strip("/").partition("/")[0] for path, _ in known)
    if not any("{" in segment for segment in segments):
        for path, app in known:
            if isinstance(app, ReleaseFiles) and not path:
                app.neighbours = segments


def _walk(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, Any]]:
    """Yield path and application of all routes, those of hosts included, but for what takes all of a host."""
    for route in routes:
        if isinstance(route, Host):
            yield from (found for found in _walk(route.routes) if not found[0].startswith("/{"))
        elif isinstance(route, Mount | Route):
            yield route.path, route.app


def _mount_routes(mounts: Iterable[_Served]) -> list[BaseRoute]:
    routes: list[BaseRoute] = []
    for mount, files in sorted(mounts, key=lambda pair: len(pair[0].prefix), reverse=True):
        if mount.prefix != "/":
            routes.append(Route(mount.prefix, _to_folder, methods=["GET", "HEAD"]))
        routes.append(Mount(mount.prefix, files, name=mount.prefix.strip("/") or "root"))
    return routes


def _open_mount(settings: Settings, index: int, resources: Resources) -> AssetFiles:
    mount = settings.mounts[index]
    if (mount.prefix + "/").startswith("/-/"):
        place = settings.locate("mounts", index, "prefix")
        raise SettingsError(f"{place}: {mount.prefix!r} cannot be served: /- is the server's own; choose another prefix")
    if not os.path.isdir(mount.directory):
        place, path = settings.locate("mounts", index, "directory"), os.path.normpath(mount.directory)
        problem = f"{path} is a file; name the folder that it is in" if os.path.isfile(path) else f"there is no folder {path}"
        raise SettingsError(f"{place}: {problem}")
    return AssetFiles(
        directory=mount.directory,
        html=mount.html,
        follow_symlink=mount.follow_symlink,
        cache=cache_table(settings, mount),
        fields=public_fields(settings.headers),
        fallback=mount.fallback or None,
        clean_urls=mount.clean_urls,
        listing=mount.listing,
        dotfiles=mount.dotfiles,
        patience_s=settings.compression.patience_s,
        cache_status=settings.headers.cache_status,
        resources=resources,
    )


def _open_site(settings: Settings, site: SiteSettings, resources: Resources) -> ReleaseFiles:
    library = open_library(settings)
    return _release_files(
        settings,
        site,
        library,
        resources,
        ActiveIndex(library, library.site(site.name)),
        deltas=_open_deltas(settings, site, library, resources),
        pins=_open_pins(settings, site, library, resources) if site.pins else None,
    )


def _release_files(
    settings: Settings,
    site: SiteSettings,
    library: Library,
    resources: Resources,
    open_index: OpenIndex,
    **more: Any,
) -> ReleaseFiles:
    """Return what serves the release that ``open_index`` gives, by the settings of its site."""
    return ReleaseFiles(
        open_index,
        lambda digest: library.blobs.path_of(Digest(digest)),
        cache=cache_table(settings, site),
        fields=public_fields(settings.headers),
        fallback=site.fallback or None,
        clean_urls=site.clean_urls,
        cache_status=settings.headers.cache_status,
        resources=resources,
        links=site.links,
        tells_release=site.tell_release,
        **more,
    )


def _open_pins(settings: Settings, site: SiteSettings, library: Library, resources: Resources) -> Pins:
    def resolve(name: str) -> str:
        state = library.site(site.name).read()
        is_id = _ID_BEGINS.fullmatch(name) and len(name) >= SHORT
        if not is_id and not settings.previews.enabled:
            return ""  # an alias can be guessed, and may name what nobody is to see yet
        release = state.resolve(name if is_id else "@" + alias_for(name))
        return "" if release == state.active else release

    def open_pinned(release: str) -> ReleaseFiles:
        index = open_release(library, ReleaseId(release), library.site(site.name))
        return _release_files(settings, site, library, resources, lambda: (release, index))

    return Pins(site.pins, resolve, open_pinned)


def _open_deltas(settings: Settings, site: SiteSettings, library: Library, resources: Resources) -> SiteDeltas | None:
    if settings.deltas.mode == "off":
        return None
    makers = resources.makers if settings.deltas.mode == "on-demand" else None
    prefix = site.prefix.strip("/") + "/" if site.prefix != "/" else ""
    return SiteDeltas(
        library,
        prefix=prefix,
        files=resources.files,
        makers=makers,
        links=site.links,
        is_everywhere=site.fallback == FRONT_PAGE,
    )


def preview_routes(settings: Settings, resources: Resources) -> list[BaseRoute]:
    """Return where kept releases of the served sites can be looked at; see ``delivery.previews``."""
    if not settings.previews.enabled:
        return []
    previews = Previews(lambda name, host: _find_preview(settings, resources, name, host))
    routes: list[BaseRoute] = [
        Route("/-/releases/{release}", _to_preview, methods=["GET", "HEAD"]),
        Mount("/-/releases/{release}", previews),
    ]
    if settings.previews.host:
        routes.insert(0, Host("{release}." + settings.previews.host, previews))
    return routes


def _find_preview(settings: Settings, resources: Resources, name: str, host: str | None) -> Found:
    """Find a release of the sites that answer for ``host``. Its first digits do only if there are too many to be guessed."""
    if _ID_BEGINS.fullmatch(name) and len(name) < SHORT:
        raise ReleaseMissingError(f"{name} is too short; write at least {SHORT} digits")
    library = open_library(settings)
    for site in served_sites(settings):
        if host is not None and site.host not in ("", host):
            continue
        with suppress(ReleaseMissingError):  # another site may have it
            release = library.site(site.name).read().resolve(name)
            return Found(release, partial(_open_preview, settings, site, resources, library, release))
    raise ReleaseMissingError(f"no site keeps a release {name}")


def _open_preview(
    settings: Settings, site: SiteSettings, resources: Resources, library: Library, release: ReleaseId
) -> ReleaseFiles:
    index = open_release(library, release)
    return PreviewFiles(
        lambda: (release, index),
        lambda digest: library.blobs.path_of(Digest(digest)),
        cache=PREVIEW_CACHE,
        fields=public_fields(settings.headers) | PREVIEW_FIELDS,
        fallback=site.fallback or None,
        clean_urls=site.clean_urls,
        cache_status=settings.headers.cache_status,
        resources=resources,
        links=False,
        tells_release=site.tell_release,
    )


def console_routes(resources: Resources) -> list[BaseRoute]:
    """Return where the page for people is; see ``console``."""
    cache = CacheTable(rules=(CacheRule("**", CachePolicy(PAGE)),))
    files = AssetFiles(directory=console.PAGE, html=True, fields=console.FIELDS, cache=cache, resources=resources)
    return [Route("/-/console", _to_folder, methods=["GET", "HEAD"]), Mount("/-/console", files, name="console")]


def cache_table(settings: Settings, mount: MountSettings | SiteSettings | None = None) -> CacheTable:
    """Return the policy of a mount or site, or of all else. Raises ``SettingsError`` for a rule that says nothing."""
    rules = []
    for index, rule in enumerate(settings.cache):
        policy = CachePolicy(rule.browser, rule.cdn, rule.tags)
        _check(settings, index, "match", compile_glob, rule.match)
        _check(settings, index, "browser", check_cache_control, rule.browser)
        _check(settings, index, "cdn", check_cache_control, rule.cdn, targeted=True)
        rules.append(CacheRule(rule.match, policy))
    if mount is None:
        return CacheTable(tuple(rules), profile=settings.cdn.profile)
    return CacheTable(
        tuple(rules),
        immutable=mount.immutable,
        versioned=isinstance(mount, MountSettings) and mount.cache == "immutable",
        profile=settings.cdn.profile,
        prefix=mount.prefix.strip("/") + "/" if mount.prefix != "/" else "",
    )


def _check(settings: Settings, index: int, key: str, check: Any, value: str, **options: bool) -> None:
    try:
        check(value, **options)
    except ValueError as error:
        raise SettingsError(f"{settings.locate('cache', index, key)}: cache[{index}].{key}: {error}") from error


def public_fields(headers: HeadersSettings) -> dict[str, str]:
    """Return the fields that every file carries."""
    fields = {
        "Access-Control-Allow-Origin": headers.cors,
        "Timing-Allow-Origin": "*" if headers.timing else "",
        "Cross-Origin-Resource-Policy": headers.resource_policy,
        "X-Content-Type-Options": "nosniff" if headers.nosniff else "",
    }
    return {name: value for name, value in fields.items() if value}


async def _to_preview(request: Request) -> Response:
    """Redirect to the address with "/"; not to be kept, since an alias moves."""
    answer = await _to_folder(request)
    answer.headers.update({"Cache-Control": PAGE, **PREVIEW_FIELDS})
    return answer


async def _to_folder(request: Request) -> Response:
    """Redirect ``/static/v1`` to ``/static/v1/``, by path alone: behind a proxy, host and scheme are not ours to know."""
    location = format_target(request.scope["path"].strip("/")) + "/" + query_suffix(request.scope)
    return Response(None, 308, {"Location": location, "Cache-Control": REDIRECT})

"""The application: engines and parts joined as the settings say. ``uvicorn assetserver.app:app`` runs it.

Reads from the outside in: access log, exactly one Host, cache policy for whatever has none, then routes: health, and one
mount for each folder, the longest prefix first.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.types import Receive, Scope, Send

from .data import open_library, served_sites
from .delivery.assetfiles import AssetFiles
from .delivery.cacheheaders import CacheHeaders
from .delivery.encodings import Encodings
from .delivery.errorpages import render_error
from .delivery.files import FilePool
from .delivery.intake import ExactHost
from .delivery.memory import MemoryCache
from .delivery.releasefiles import ReleaseFiles
from .delivery.requests import query_suffix
from .delivery.resources import Resources
from .errors import SettingsError
from .observe import AccessLog, LogWriter
from .releases.serving import ActiveIndex
from .semantics.caching import ERROR, REDIRECT, CachePolicy, CacheRule, CacheTable, check_cache_control, compile_glob
from .semantics.targets import format_target
from .settings import Settings, load_settings
from .settingtables import HeadersSettings, MountSettings, SiteSettings
from .storage.blobs import Digest

CONFIG_FILE = "assetserver.toml"
"""Read from the working directory if nothing else names a file."""


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application for ``settings``; without, those of the environment (``find_settings``).

    Raises ``SettingsError`` for a setting that cannot work: a folder that is not there, a cache policy that says nothing.
    """
    settings = settings or find_settings()
    resources = _resources(settings)
    writer = None if settings.server.access_log == "off" else LogWriter(settings.server.access_log)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        resources.close()
        if writer is not None:
            writer.close()

    return Starlette(
        routes=[*_service_routes(), *_site_routes(settings, resources)],
        middleware=[
            Middleware(AccessLog, writer, request_id=settings.server.request_id),
            Middleware(ExactHost),
            Middleware(CacheHeaders, _cache_table(settings)),
        ],
        exception_handlers={HTTPException: _render_http_exception, Exception: _render_exception},
        lifespan=lifespan,
    )


def find_settings() -> Settings:
    """Return the settings of the environment, and of ``assetserver.toml`` in the working directory if it is there."""
    return load_settings(default_config(), os.environ)


def default_config() -> str | None:
    """Return the file to read where none is named: ``assetserver.toml`` if it is there and the environment names no other."""
    return CONFIG_FILE if os.path.isfile(CONFIG_FILE) and "ASSETSERVER_CONFIG" not in os.environ else None


_Served = tuple[MountSettings | SiteSettings, AssetFiles]


def _service_routes() -> list[BaseRoute]:
    """Return the server's own routes; nothing else under ``/-/`` is a site's."""
    return [Route("/-/healthy", _healthy, methods=["GET"]), Route("/-/{rest:path}", _nothing)]


def _site_routes(settings: Settings, resources: Resources) -> list[BaseRoute]:
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
        cache=_cache_table(settings, mount),
        fields=_public_fields(settings.headers),
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
    return ReleaseFiles(
        ActiveIndex(library, library.site(site.name)),
        lambda digest: library.blobs.path_of(Digest(digest)),
        cache=_cache_table(settings, site),
        fields=_public_fields(settings.headers),
        fallback=site.fallback or None,
        clean_urls=site.clean_urls,
        cache_status=settings.headers.cache_status,
        resources=resources,
    )


def _cache_table(settings: Settings, mount: MountSettings | SiteSettings | None = None) -> CacheTable:
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


def _public_fields(headers: HeadersSettings) -> Mapping[str, str]:
    fields = {
        "Access-Control-Allow-Origin": headers.cors,
        "Timing-Allow-Origin": "*" if headers.timing else "",
        "Cross-Origin-Resource-Policy": headers.resource_policy,
        "X-Content-Type-Options": "nosniff" if headers.nosniff else "",
    }
    return {name: value for name, value in fields.items() if value}


def _resources(settings: Settings) -> Resources:
    compression = settings.compression
    directory = compression.cache_directory or os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    encodings = Encodings(
        enabled=compression.enabled,
        directory=directory or None,
        minimum_bytes=compression.minimum_bytes,
        limit_bytes=compression.limit_bytes,
        cache_limit_bytes=compression.cache_limit_bytes,
    )
    return Resources(
        memory=MemoryCache(settings.memory.limit_bytes, settings.memory.file_limit_bytes),
        encodings=encodings,
        compressors=FilePool("assetserver-compress", compression.threads, niceness=10),
    )


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok\n", headers={"Cache-Control": ERROR})


async def _nothing(_: Request) -> Response:
    raise HTTPException(404)


async def _to_folder(request: Request) -> Response:
    """Redirect ``/static/v1`` to ``/static/v1/``, by path alone: behind a proxy, host and scheme are not ours to know."""
    location = format_target(request.scope["path"].strip("/")) + "/" + query_suffix(request.scope)
    return Response(None, 308, {"Location": location, "Cache-Control": REDIRECT})


async def _render_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return render_error(request, error.status_code, error.detail, error.headers)


async def _render_exception(request: Request, _: Exception) -> Response:
    return render_error(request, 500, "Internal Server Error")


class _DefaultApp:
    """The application that the environment describes, made at its first call: importing this module opens nothing.

    A server that starts with settings that cannot work is told so in its own protocol, and exits with the message.
    """

    def __init__(self) -> None:
        self._make = lru_cache(maxsize=1)(create_app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI."""
        try:
            application = self._make()
        except SettingsError as error:
            if scope["type"] != "lifespan":
                raise
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await application(scope, receive, send)


app = _DefaultApp()

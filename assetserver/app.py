"""The application: engines and parts joined as the settings say. ``uvicorn assetserver.app:app`` runs it.

Reads from the outside in: access log, exactly one Host, cache policy for whatever has none, then routes: health,
previews, uploads, and one mount for each site and folder.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from .delivery.cacheheaders import CacheHeaders
from .delivery.encodings import Encodings
from .delivery.errorpages import render_error
from .delivery.gate import GATE, Gate
from .delivery.hotcache import HOT, HotCache
from .delivery.intake import ExactHost
from .delivery.memory import MemoryCache
from .delivery.openfiles import OpenFiles
from .delivery.resources import Resources
from .delivery.sendfile import stop_senders
from .entrance import Entrance
from .errors import SettingsError
from .metrics.board import Board
from .metrics.requests import Measured
from .metrics.work import UploadCounts
from .monitoring import Monitoring
from .routes import cache_table, console_routes, introduce, preview_routes, site_routes
from .settings import Settings, default_config, load_settings
from .settingtables import ServerSettings
from .storage.pools import FilePool

if TYPE_CHECKING:
    from .ondemandroutes import OnDemand
    from .uploading import Uploading

IDLE_FILES_S = 10.0
"""A file that nobody asks for is closed after once or twice this long."""


ADMIN = "admin"
"""Under this name the ``state`` of an application holds that of the admin listener, if there is one: a part of it, which lives
as long as it does."""


def create_app(settings: Settings | None = None, board: Board | None = None, *, has_admin: bool | None = None) -> Starlette:
    """Return the application for ``settings``; without, those of the environment (``find_settings``).

    ``board`` is where the processes of one server count; without, this one counts for itself. ``has_admin``: what
    stands under ``/-/`` is served apart; without, as the settings say.

    Raises ``SettingsError`` for a setting that cannot work: a folder that is not there, a cache policy that says nothing.
    """
    settings = settings or find_settings()
    parts = _open_parts(settings, board or Board())
    monitoring, uploading, resources = parts.monitoring, parts.uploading, parts.resources
    media = uploading.media_routes() if uploading else []
    sites = site_routes(settings, resources)
    pictures = _open_pictures(settings, resources, [*media, *sites], uploading)
    has_admin = bool(settings.admin.listen) if has_admin is None else has_admin
    tools = [*(uploading.routes() if uploading else ()), *(console_routes(resources) if uploading else ())]
    nothing = Route("/-/{rest:path}", _nothing)  # nothing else under it is a site's
    routes = [
        *media,
        *(filter(_is_for_visitors, tools) if has_admin else tools),  # before what is asked less: they are tried in order
        *(() if has_admin else monitoring.routes(is_apart=False)),
        *preview_routes(settings, resources),
        nothing,
        *(pictures.routes() if pictures else ()),
        *sites,
    ]
    introduce(routes)
    admin_routes = [*media, *monitoring.routes(is_apart=True), *tools, nothing] if has_admin else []
    monitoring.name_handlers([*routes, *admin_routes])
    middleware = [
        Middleware(Measured, monitoring.counts, monitoring.tells_timing()),
        *parts.entrance.middleware(),
        Middleware(ExactHost),
        Middleware(CacheHeaders, cache_table(settings)),
    ]
    handlers: Any = {HTTPException: _render_http_exception, Exception: _render_exception}
    lifespan = partial(_live, settings, parts, pictures)
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
    if has_admin:
        setattr(app.state, ADMIN, Starlette(routes=admin_routes, middleware=middleware, exception_handlers=handlers))
    return app


class _Parts(NamedTuple):
    """What an application is made of, beside its routes."""

    resources: Resources
    uploading: Uploading | None
    monitoring: Monitoring
    entrance: Entrance


def _open_parts(settings: Settings, board: Board) -> _Parts:
    resources = _resources(settings)
    entrance = Entrance(settings)
    uploading = _open_uploading(settings, resources, UploadCounts(board.claim()))
    records, authority = (uploading.records, uploading.authority) if uploading else (None, None)
    return _Parts(resources, uploading, Monitoring(settings, board, records, authority, entrance.writer), entrance)


def _open_uploading(settings: Settings, resources: Resources, counts: UploadCounts) -> Uploading | None:
    if not (settings.uploads.enabled or settings.publish.remote):
        return None
    from .uploading import Uploading  # noqa: PLC0415 - who takes no bytes starts without

    return Uploading(settings, resources, lambda upload: counts.note(upload.offset))


@asynccontextmanager
async def _live(settings: Settings, parts: _Parts, pictures: OnDemand | None, _: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Run what runs beside requests, as long as the server does; then close everything."""
    resources, uploading, monitoring, entrance = parts.resources, parts.uploading, parts.monitoring, parts.entrance
    hot = HotCache(
        entrance.ids,
        entrance.writer,
        settings.memory.hot_limit_bytes,
        proxies=entrance.proxies,
        counts=monitoring.counts,
    )
    gate = _gate(settings.server)
    pulse = monitoring.pulse(hot, gate)
    entrance.open()
    async with uploading.running() if uploading else nullcontext(), anyio.create_task_group() as tasks:
        tasks.start_soon(_close_idle_files, resources.open_files)
        pulse.start()
        more = uploading.state() if uploading else {}
        yield {HOT: hot, GATE: gate, **monitoring.state(), **entrance.state(), **more}
        pulse.stop()
        tasks.cancel_scope.cancel()
    stop_senders()
    if pictures is not None:
        pictures.close()
    resources.close()
    monitoring.close()
    await entrance.close()


def _is_for_visitors(route: BaseRoute) -> bool:
    return not getattr(route, "path", "").startswith("/-/")


def find_settings() -> Settings:
    """Return the settings of the environment, and of ``assetserver.toml`` in the working directory if it is there."""
    return load_settings(default_config(), os.environ)


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


def _open_pictures(
    settings: Settings, resources: Resources, routes: list[BaseRoute], uploading: Uploading | None
) -> OnDemand | None:
    if not settings.images.on_demand:
        return None
    from .ondemandroutes import OnDemand  # noqa: PLC0415 - who makes no pictures starts without

    return OnDemand(settings, resources, routes, uploading.records if uploading else None)


async def _close_idle_files(files: OpenFiles) -> None:
    while True:
        await anyio.sleep(IDLE_FILES_S)
        files.expire()


def _gate(server: ServerSettings) -> Gate:
    speaks_for_many = server.trusted_proxies or server.uds
    address_limit = 0 if speaks_for_many else server.address_connection_limit
    return Gate(server.connection_limit, address_limit, server.minimum_send_bytes_per_s)


async def _nothing(_: Request) -> Response:
    raise HTTPException(404)


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

"""What takes bytes from clients, joined: uploads, releases over HTTP, and what was uploaded; how it runs and ends.

Nothing is opened before it is needed: who serves releases and never takes an upload imports no database.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any

import anyio
import msgspec
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Scope

from .access.grants import GrantRequest
from .admission import open_authority
from .announcing import announcements
from .bodies import Pace
from .complaints import explain
from .data import open_records, open_uploads
from .delivery.draining import ON_STOP
from .delivery.mediafolder import parse_media_path
from .delivery.resources import Resources
from .delivery.upgrades import UPGRADES
from .errors import AssetServerError, BadRequestError, ForbiddenError
from .jobkinds import follow_ups, pictures_of, removal_follow_ups
from .mediaroutes import media_routes
from .remoteroutes import LateReleases
from .settings import Settings
from .uploads.answers import Handler, Places, render_json
from .uploads.authorising import DEFAULT_COLLECTION, Guarded, authorise
from .uploads.desk import Desk
from .uploads.endpoint import UploadEndpoint
from .uploads.grantendpoint import GrantEndpoint
from .uploads.live import LiveEndpoint
from .uploads.protocols import UploadProtocols
from .uploads.records import Upload
from .uploads.resource import Resource, answer_missing
from .uploads.watching import Watching

logger = logging.getLogger(__name__)

SWEEP_S = 3600.0
"""How often what nothing refers to is looked for."""
FIRST_SWEEP_S = 5.0
"""When for the first time, after the start: it opens the records, and the first answers need not wait for that."""

_LIVE = re.compile(rb"/uploads/[A-Za-z0-9_-]{16,64}/live(?:\?.*)?")
_ITEM_METHODS = ("OPTIONS", "HEAD", "PATCH", "POST", "DELETE")
_ALL_METHODS = ("POST", "PUT", "PATCH", "DELETE")


class Uploading:
    """Uploads, and releases over HTTP, of one application: its routes, and what runs beside them.

    ``on_complete`` hears of each upload that is durable, on a thread.
    """

    def __init__(self, settings: Settings, resources: Resources, on_complete: Callable[[Upload], None]) -> None:
        self._settings = settings
        self._resources = resources
        self.records = open_records(settings, announcements(settings))
        """The records of uploads, tokens and jobs."""
        self.authority = open_authority(settings, self.records)
        """Who knows its tokens."""
        self._service = open_uploads(
            settings, self.records, follow_ups(settings), pictures_of(settings), on_complete, removal_follow_ups(settings)
        )
        self._desk = self._open_desk()
        self._plain = UploadEndpoint(self._desk, settings.uploads.files_per_request)
        self._watching = Watching(self._desk)
        self._live = LiveEndpoint(self._service.find, self._watching)
        self._releases = LateReleases(settings) if settings.publish.remote else None

    def routes(self) -> list[BaseRoute]:
        """Return the routes of ``/uploads`` and ``/-/api``: those that the settings do not switch off."""
        guard = Middleware(Guarded, self.authority, self._settings.uploads.origins)
        resources = self._resources_by_path() if self._settings.uploads.enabled else {}
        routes: list[BaseRoute] = [_UploadRoute(path, one, middleware=[guard]) for path, one in resources.items()]
        if resources:
            routes.append(WebSocketRoute("/uploads/{id}/live", self._live.socket, middleware=[guard]))
        if self._releases is not None:
            routes += self._releases.routes(self.authority)
        return routes

    def media_routes(self) -> list[BaseRoute]:
        """Return the routes of what was uploaded. They come first: a host for media alone has no others."""
        if not self._settings.uploads.enabled:
            return []
        return media_routes(self._settings, self._resources, self.records, self.authority)

    def state(self) -> dict[str, Any]:
        """Return what the protocol and the server are to know."""
        return {ON_STOP: self._watching.stop, UPGRADES: _LIVE}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep now and then, as long as the server runs; close everything when it stops."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sweep_forever)
                tasks.start_soon(self._watching.run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            await self._plain.close()
            await self._service.close()
            if self._releases is not None:
                self._releases.close()
            self.authority.close()
            self.records.close()

    async def _sweep_forever(self) -> None:
        """Sweep soon after the start and every hour; where nothing was ever uploaded, the service opens nothing."""
        await anyio.sleep(FIRST_SWEEP_S)
        while True:
            try:
                await self._service.sweep()
                await self.authority.forget_expired()
            except (AssetServerError, OSError) as error:
                logger.warning("what uploads left was not swept: %s", error)
            except Exception:  # whatever it is, the next sweep may do better, and the server goes on
                logger.exception("what uploads left was not swept")
            await anyio.sleep(SWEEP_S)

    def _resources_by_path(self) -> dict[str, Resource]:
        plain = self._plain
        protocols = UploadProtocols(self._desk, speaks_resumable=self._settings.uploads.resumable)
        first = _first_of(protocols, plain)
        return {
            "/uploads": Resource({"GET": plain.show_all, "POST": first, "OPTIONS": first}),
            "/uploads/by-name/{name}": Resource({"GET": plain.show_by_name, "PUT": plain.put}),
            "/uploads/{id}": Resource({"GET": plain.show, **dict.fromkeys(_ITEM_METHODS, protocols.item)}),
            "/uploads/{id}/events": Resource({"GET": self._live.stream}),
            "/uploads/{rest:path}": Resource(dict.fromkeys(_ALL_METHODS, answer_missing)),
            "/-/api/grants": Resource({"POST": _in_our_words(GrantEndpoint(self.authority).create, GrantRequest)}),
            "/-/api/collections": Resource({"GET": _collections(self._settings)}),
            "/-/api/openapi.json": Resource({"GET": _description(self._settings)}),
        }

    def _open_desk(self) -> Desk:
        uploads, server = self._settings.uploads, self._settings.server
        return Desk(
            self._service,
            Places(server.public_url, trusts_proxy=bool(server.trusted_proxies)),
            uploads.max_size,
            Pace(uploads.idle_s, uploads.minimum_rate_bytes_s),
            uploads.media_url,
        )


class _UploadRoute(Route):
    """Leaves a GET of what can be no upload to the site, which may well have a folder of that name, as at ``/media``."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and scope["method"] in ("GET", "HEAD"):
            found = child["path_params"]
            if "rest" in found or ("id" in found and parse_media_path(f"{found['id']}/a") is None):
                return Match.NONE, {}
        return match, child


def _first_of(protocols: UploadProtocols, plain: UploadEndpoint) -> Handler:
    """Return the handler of what a protocol of resumable uploads may ask of ``/uploads``, and else is a plain upload."""

    async def handle(request: Request) -> Response:
        return await protocols.collection(request) or await plain.create(request)

    return handle


def _collections(settings: Settings) -> Handler:
    """Return the handler that lists the collections, for who has a token: a page with a grant need not know them."""
    access = {DEFAULT_COLLECTION: "public"} | {one.name: one.access for one in settings.collections}
    content = {"collections": [{"name": name, "access": how} for name, how in access.items()]}

    async def answer(request: Request) -> Response:
        if (await authorise(request, "upload", "read")).grant is not None:
            raise ForbiddenError("a grant cannot list collections; this needs a token")
        return render_json(content)

    return answer


def _in_our_words(handler: Handler, shape: type) -> Handler:
    """Return ``handler``, whose refusals of a body that is no ``shape`` say what is wrong with it as people would."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except BadRequestError as error:
            if not isinstance(error.__cause__, (msgspec.MsgspecError, UnicodeError)):
                raise
            detail = f"this is not what a grant is made of: {explain(error.__cause__, shape)}"
            raise BadRequestError(detail) from error.__cause__

    return handle


def _description(settings: Settings) -> Handler:
    """Return the handler that tells programs of all of this; made when somebody asks for it."""
    describe = lru_cache(maxsize=1)(partial(_describe, settings))

    async def answer(_: Request) -> Response:
        return render_json(describe())

    return answer


def _describe(settings: Settings) -> dict[str, Any]:
    from .ondemandapi import describe_pictures  # noqa: PLC0415 - seldom asked for
    from .remote.openapi import describe_releases  # noqa: PLC0415 - as above
    from .uploads.openapi import describe_api  # noqa: PLC0415 - as above

    described = describe_api(settings.server.public_url)
    if settings.publish.remote:
        described["paths"] |= describe_releases()
    if settings.images.on_demand:
        described["paths"] |= describe_pictures()
    return described

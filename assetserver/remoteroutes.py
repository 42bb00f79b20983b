"""The API of releases joined: what the settings say, who lets pass, and that it is there once somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .addresses import live_url, preview_url
from .baseurl import base_url
from .data import check_signature, choose_site, open_library, publish_options
from .releases.library import Library
from .releases.manifest import ReleaseId
from .settings import Settings
from .storage.durable import replace_durably
from .storage.pools import FilePool, wait_future
from .uploads.authorising import Authority, Guarded, authorise

if TYPE_CHECKING:
    from .remote.endpoint import Authorise, ReleasesApi

PATHS = ("releases", "releases/{id}/manifest", "releases/{id}/signature", "blobs/{digest}", "activate")
"""Below ``/-/api/``: those of ``ReleasesApi.resources``, without importing what publishes."""


def open_releases_api(settings: Settings, let_pass: Authorise | None = None) -> ReleasesApi:
    """Return the API of releases for the data folder of ``settings``; the caller closes it.

    ``let_pass``: who may; without, ``authorise_publishing``.
    """
    from .remote.endpoint import ReleasesApi  # noqa: PLC0415 - what publishes is not loaded before somebody does
    from .remote.home import Home  # noqa: PLC0415 - as above

    library = open_library(settings)
    home = Home(
        library,
        choose_site=partial(choose_site, settings),
        options_of=partial(publish_options, settings),
        live_url=lambda site: _seen_from_outside(settings, live_url(settings, site)),
        preview_url=lambda site, release, alias: _seen_from_outside(settings, preview_url(settings, site, release, alias)),
        keep_signature=partial(_keep_signature, settings, library),
        check=check_signature(settings, library),
        blob_limit_bytes=settings.publish.blob_limit_bytes,
        reserve_bytes=settings.uploads.reserve_bytes,
        keeps_secrets=settings.publish.secrets == "publish",
        owes_purge=bool(settings.purge),
    )
    return ReleasesApi(home, let_pass or authorise_publishing)


class LateReleases:
    """The API of releases for the data folder of ``settings``, opened by the first request: a start does not wait for it.

    Raises ``SignatureError`` for trusted keys that are none.
    """

    def __init__(self, settings: Settings) -> None:
        check_signature(settings, open_library(settings))  # keys are told of at the start
        self._settings = settings
        self._pool = FilePool("assetserver-remote-open", 1)
        self._api: ReleasesApi | None = None
        self._resources: Mapping[str, ASGIApp] = {}

    def routes(self, authority: Authority) -> list[BaseRoute]:
        """Return its routes, for who has a token that ``authority`` knows; pages of other origins are not let in."""
        guard = Middleware(Guarded, authority, ())
        return [Route(f"/-/api/{path}", _LateResource(self, path), middleware=[guard]) for path in PATHS]

    async def find(self, path: str) -> ASGIApp:
        """Return what answers at one of ``PATHS``."""
        if not self._resources:
            await wait_future(self._pool.submit(self._open))
        return self._resources[path]

    def close(self) -> None:
        """End what goes on."""
        self._pool.close()
        if self._api is not None:
            self._api.close()

    def _open(self) -> None:
        if self._api is None:  # on the one thread: nobody else opens it meanwhile
            self._api = open_releases_api(self._settings)
            self._resources = self._api.resources()


class _LateResource:
    """What is at one path: an ASGI application."""

    def __init__(self, releases: LateReleases, path: str) -> None:
        self._releases = releases
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        resource = await self._releases.find(self._path)
        await resource(scope, receive, send)


async def authorise_publishing(request: Request) -> None:
    """Let who has the scope ``publish`` pass. Raises ``UnauthorisedError`` or ``ForbiddenError``."""
    await authorise(request, "publish")


def _seen_from_outside(settings: Settings, url: str) -> str:
    """Return ``url``, or its path alone where it begins with the address that is listened on: clients know a better one."""
    return url if settings.server.public_url else url.removeprefix(base_url(settings))


def _keep_signature(settings: Settings, library: Library, release: ReleaseId, content: bytes) -> None:
    """Keep a signature beside its manifest, durably.

    Raises ``SignatureError`` for what is none, or, where ``data.trusted_keys`` are configured, by none of these.
    """
    from .releases.signing import SUFFIX, parse_public_key, parse_signature, verify_signature  # noqa: PLC0415 - as above

    manifest = library.load_manifest(release).encode()
    text = content.decode(errors="surrogateescape")
    if settings.data.trusted_keys:
        verify_signature([parse_public_key(one) for one in settings.data.trusted_keys], manifest, text)
    else:
        parse_signature(text)
    replace_durably(library.manifest_path(release) + SUFFIX, content)

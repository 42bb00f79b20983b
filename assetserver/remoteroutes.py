"""The API of releases joined: what the settings say, and who lets pass."""

from __future__ import annotations

from functools import partial

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute

from .addresses import live_url, preview_url
from .baseurl import base_url
from .data import check_signature, choose_site, open_library, publish_options
from .releases.library import Library
from .releases.manifest import ReleaseId
from .releases.signing import SUFFIX, parse_public_key, parse_signature, verify_signature
from .remote.endpoint import Authorise, ReleasesApi
from .remote.home import Home
from .settings import Settings
from .storage.durable import replace_durably
from .uploads.authorising import Authority, Guarded, authorise


def open_releases_api(settings: Settings, let_pass: Authorise | None = None) -> ReleasesApi:
    """Return the API of releases for the data folder of ``settings``; the caller closes it.

    ``let_pass``: who may; without, ``authorise_publishing``.
    """
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


def release_routes(api: ReleasesApi, authority: Authority) -> list[BaseRoute]:
    """Return the routes of ``api``, for who has a token that ``authority`` knows; pages of other origins are not let in."""
    return api.routes([Middleware(Guarded, authority, ())])


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
    manifest = library.load_manifest(release).encode()
    text = content.decode(errors="surrogateescape")
    if settings.data.trusted_keys:
        verify_signature([parse_public_key(one) for one in settings.data.trusted_keys], manifest, text)
    else:
        parse_signature(text)
    replace_durably(library.manifest_path(release) + SUFFIX, content)

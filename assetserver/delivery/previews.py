"""Any kept release at an address of its own: ``/-/releases/{id}/`` and ``/-/releases/@staging/``, or by host.

A preview is its release alone, by all of its own rules, and is neither indexed by search engines nor stored by caches: an alias
moves, and a release that is collected is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.semantics.caching import ERROR, PAGE, CachePolicy, CacheRule, CacheTable

from .claims import OFFER
from .releasefiles import ReleaseFiles
from .requests import host_of

LIMIT_OPEN = 16

PREVIEW_CACHE = CacheTable(rules=(CacheRule("**", CachePolicy(PAGE)),))
PREVIEW_FIELDS = {"X-Robots-Tag": "noindex"}


class PreviewFiles(ReleaseFiles):
    """A release alone, at an address that is neither indexed nor stored, whatever its own rules say."""

    redirect_cache = PAGE
    own_fields = frozenset(
        {b"cache-control", b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"surrogate-control", b"x-robots-tag"}
    )


class Found(NamedTuple):
    """A release that can be looked at: its id, and how to open an application that serves it."""

    release: str
    open: Callable[[], ASGIApp]


Resolve = Callable[[str, str | None], Found]
"""Returns what a name means at a host: an id, at least 12 digits of it, an alias with or without ``@``.

The host is None where the name itself was one. Raises ``ReleaseMissingError``.
"""


class Previews:
    """Serves the release that the path parameter ``release`` names. At most 16 are held open, the last used."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._open: OrderedDict[str, ASGIApp] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        scope.pop(OFFER, None)  # what a name means may change, and the hot path would not notice
        host = host_of(scope) if scope.get("root_path") else None
        await self._find(scope["path_params"]["release"], host)(scope, receive, send)

    def _find(self, name: str, host: str | None) -> ASGIApp:
        try:
            found = self._resolve(name, host)
            if found.release not in self._open:
                self._open[found.release] = found.open()
        except (ReleaseMissingError, PublishError) as error:
            raise HTTPException(404, str(error), {"Cache-Control": ERROR, **PREVIEW_FIELDS}) from error
        self._open.move_to_end(found.release)
        while len(self._open) > LIMIT_OPEN:
            self._open.popitem(last=False)
        return self._open[found.release]

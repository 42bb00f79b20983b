"""CORS for uploads: pages of other origins may send them, and read what tus clients need of the answers.

There are no cookies: whoever has a token may use it from anywhere, and nobody else gains anything by being allowed to ask. So
``*`` is safe as the default; ``origins`` narrows it. Source: the Fetch standard, §3.2.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Scope

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

EXPOSED = (
    "Location, Content-Location, ETag, Retry-After, WWW-Authenticate, Repr-Digest, X-Request-ID, "
    "Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, "
    "Upload-Offset, Upload-Length, Upload-Defer-Length, Upload-Metadata, Upload-Expires, Upload-Concat, "
    "Upload-Complete, Upload-Limit, Upload-Draft-Interop-Version, Accept-Patch"
)
"""What scripts may read of an answer."""

ALLOWED = (
    "Authorization, Content-Type, Content-Disposition, Content-Digest, Repr-Digest, If-Match, If-None-Match, "
    "Tus-Resumable, Upload-Offset, Upload-Length, Upload-Defer-Length, Upload-Metadata, Upload-Checksum, Upload-Concat, "
    "Upload-Complete, Upload-Draft-Interop-Version, X-HTTP-Method-Override, X-Requested-With, X-Request-ID"
)
"""What scripts may send, if they do not say. ``Authorization`` is never part of ``*``."""

_MAX_AGE_S = "86400"
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_LIMIT_NAMES = 2048


class CrossOrigin:
    """Which origins may ask: ``("*",)`` is all of them, ``()`` none but our own."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._is_open = "*" in self._origins

    def answer_preflight(self, scope: Scope) -> Response | None:
        """Return the answer to a preflight, which comes without a token (Fetch §3.2.2), or None if this is none."""
        asked = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or "origin" not in asked or "access-control-request-method" not in asked:
            return None
        response = Response(None, 204)
        names = asked.get("access-control-request-headers", "")
        wanted = names if len(names) <= _LIMIT_NAMES and _NAMES.fullmatch(names) else ALLOWED
        if self._allow(asked["origin"], response.headers):
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = wanted
            response.headers["Access-Control-Max-Age"] = _MAX_AGE_S
        response.headers["Cache-Control"] = "no-store"
        return response

    def mark(self, scope: Scope, headers: MutableHeaders) -> None:
        """Let the page that sent the request of ``scope`` read the answer that has ``headers``."""
        if self._allow(Headers(scope=scope).get("origin", ""), headers):
            headers["Access-Control-Expose-Headers"] = EXPOSED

    def lets_connect(self, scope: Scope) -> bool:
        """Tell whether the page that opens the WebSocket of ``scope`` may. Browsers only name it (RFC 6455 §10.2)."""
        asked = Headers(scope=scope)
        origin = asked.get("origin", "")
        is_own = origin.partition("://")[2] == asked.get("host", "")
        return self._is_open or not origin or is_own or origin in self._origins

    def _allow(self, origin: str, headers: MutableHeaders) -> bool:
        if self._is_open:
            headers["Access-Control-Allow-Origin"] = "*"
            return True
        headers.add_vary_header("Origin")
        if origin not in self._origins:
            return False
        headers["Access-Control-Allow-Origin"] = origin
        return True

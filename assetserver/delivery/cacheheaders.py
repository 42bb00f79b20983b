"""``CacheHeaders``: middleware that gives every answer of an app an explicit cache policy.

Pure ASGI: no task, no stream in between, nothing buffered. An answer that says itself what may be kept is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assetserver.semantics.caching import ERROR, MISSING_PAGE, REDIRECT, CachePolicy, CacheTable
from assetserver.semantics.mediatypes import has_known_extension
from assetserver.semantics.representation import Field

_FIRST_ERROR = 400
_NOT_MODIFIED = 304
_OK = frozenset({200, 203, 206, 304})
_REDIRECTS = frozenset({301, 308})
"""The permanent ones. Where a temporary one leads may depend on the visitor: to the login, or past it."""
_MISSING = frozenset({404, 410})
_SILENT = frozenset({100, 101, 103, 204})
"""Statuses that no cache stores."""
_PERSONAL = "private, no-cache"
"""For one visitor: ``public`` would lift what protects it in shared caches (RFC 9111 §3.5, §7.3)."""


class CacheHeaders:
    """Adds ``Cache-Control``, the CDN's own field and tags to answers that carry no ``Cache-Control``.

    ``cache`` is the policy table, matched against the URL path without its leading "/". Only GET and HEAD are looked at. By
    status: 200, 203, 206 and 304 get the policy of their path alike; permanent redirects five minutes; 404 and 410 may be kept
    but not reused without asking; temporary redirects and every other error are not to be stored. An answer that sets a cookie,
    or to a request with ``Authorization``, is one visitor's.
    """

    def __init__(self, app: ASGIApp, cache: CacheTable | None = None) -> None:
        self.app = app
        self.cache = cache or CacheTable()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] not in _SILENT:
                self._complete(message, scope)
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def _complete(self, message: Message, scope: Scope) -> None:
        given = message.get("headers", ())
        for name, _ in given:
            if name == b"cache-control" or name.lower() == b"cache-control":
                return
        personal = any(name == b"authorization" for name, _ in scope["headers"])
        message["headers"] = [*given, *self._fields(scope["path"], message["status"], given, personal=personal)]

    def _fields(self, path: str, status: int, fields: Iterable[Field], *, personal: bool) -> tuple[Field, ...]:
        given = {name.lower(): value for name, value in fields}
        if personal or b"set-cookie" in given:
            return self.cache.fields_of(CachePolicy(ERROR if status >= _FIRST_ERROR else _PERSONAL))
        if status in _OK:
            page = given.get(b"content-type", b"").startswith(b"text/html") or path.endswith(("/", ".html"))
            if status == _NOT_MODIFIED and b"content-type" not in given and not has_known_extension(path):
                page = True  # it cannot tell, and must not make a page fresh
            return self.cache.fields_of(self.cache.select_policy(path.lstrip("/"), page=page))
        if status in _REDIRECTS:
            return self.cache.fields_of(CachePolicy(REDIRECT))
        return self.cache.fields_of(CachePolicy(MISSING_PAGE if status in _MISSING else ERROR))

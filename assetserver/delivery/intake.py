"""What a request must be before anything looks at it. Pure ASGI middleware."""

from __future__ import annotations

import re

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""``uri-host [ ":" port ]``; it may be empty (RFC 9110 §7.2, RFC 3986 §3.2.2)."""


_FINAL_DOT = re.compile(rb"(?<=[0-9A-Za-z])\.(:[0-9]*)?\Z")


class ExactHost:
    """Answers 400 to a request without Host, with several, or with one that is none (RFC 9112 §3.2).

    Caches in front may have read another one.

    Uvicorn with httptools passes both through (measured 2026-11-22). HTTP/1.0 may omit it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "http" and scope["http_version"] in ("1.1", "1.0"):
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if wrong := _what_is_wrong(hosts, scope["http_version"]):
                response = PlainTextResponse(wrong, 400, {"Cache-Control": "no-store", "Connection": "close"})
                await response(scope, receive, send)
                return
            if scope["path"] == "*":  # OPTIONS about the server as a whole (RFC 9110 §9.3.7); nothing else may ask for it
                allowed = scope["method"] == "OPTIONS"
                answer = Response(None, 204 if allowed else 400, {"Allow": "GET, HEAD, OPTIONS", "Cache-Control": "no-store"})
                await answer(scope, receive, send)
                return
            scope = _without_final_dot(scope)
        await self.app(scope, receive, send)


def _without_final_dot(scope: Scope) -> Scope:
    """Return the scope with the Host that ``www.example.com.`` is another spelling of (RFC 1034 §3.1)."""
    if not any(name == b"host" and _FINAL_DOT.search(value) for name, value in scope["headers"]):
        return scope
    fields = [(name, _FINAL_DOT.sub(rb"\1", value) if name == b"host" else value) for name, value in scope["headers"]]
    return {**scope, "headers": fields}


def _what_is_wrong(hosts: list[bytes], version: str) -> str:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return f"A request needs exactly one Host field; this one has {len(hosts)}.\n"
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        return "The Host field is not a host name or address with an optional port.\n"
    return ""

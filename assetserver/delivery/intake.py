"""What a request must be before anything looks at it. Pure ASGI middleware."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class ExactHost:
    """Answers 400 to a request without Host, or with several (RFC 9112 §3.2): caches in front may have read another one.

    Uvicorn with httptools passes both through (measured 2026-11-22). HTTP/1.0 may omit it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "http" and scope["http_version"] in ("1.1", "1.0"):
            hosts = sum(1 for name, _ in scope["headers"] if name == b"host")
            if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
                text = f"A request needs exactly one Host field; this one has {hosts}.\n"
                response = PlainTextResponse(text, 400, {"Cache-Control": "no-store", "Connection": "close"})
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

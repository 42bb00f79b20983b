"""A URL with a handler for each method, as an ASGI app: the routes of uploads, with their errors told as problems.

Not Starlette's ``Route``: that answers 405 in the form of the site's pages, and before CORS has seen the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assetserver.errors import MethodNotAllowedError, UploadMissingError

from .answers import Handler, answering


class Resource:
    """Calls the handler of the request's method; HEAD is GET's where it has none of its own, and OPTIONS says what there is."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        known = {"OPTIONS": self._options, **handlers}
        if "GET" in handlers:
            known.setdefault("HEAD", handlers["GET"])
        self._handlers = {method: answering(handler) for method, handler in known.items()}
        self._refused = answering(self._refuse)
        self.allow = ", ".join(sorted(self._handlers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        request = Request(scope, receive, send)
        response = await self._handlers.get(request.method, self._refused)(request)
        await response(scope, receive, send)

    async def _options(self, _: Request) -> Response:
        return Response(None, 204, {"Allow": self.allow, "Cache-Control": "no-store"})

    async def _refuse(self, request: Request) -> Response:
        raise MethodNotAllowedError(f"{request.method[:40]} is not for this URL; it takes {self.allow}", self.allow)


async def answer_missing(_: Request) -> Response:
    """Answer 404, as a problem: there is nothing at this URL."""
    raise UploadMissingError("there is nothing at this address")

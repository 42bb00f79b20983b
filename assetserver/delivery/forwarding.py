"""Requests that proxies passed on, as their clients sent them. Pure ASGI middleware around ``semantics.forwarding``."""

from __future__ import annotations

from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from assetserver.observe import GIVEN, PEER, REQUEST_ID
from assetserver.semantics.forwarding import OF_PROXIES, Address, Believed, TrustedProxies, find_client, find_told
from assetserver.semantics.tracecontext import is_request_id

_NOT_TRUSTED = OF_PROXIES | {REQUEST_ID}
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class Proxies(NamedTuple):
    """Who is trusted, what with; ``believes_host``: also of the host that was asked for."""

    trusted: TrustedProxies = TrustedProxies()
    believed: Believed = "either"
    believes_host: bool = False

    def find_client(self, peer: Address | None, x_forwarded_for: bytes | None, forwarded: bytes | None) -> Address | None:
        """Return the client of a request, given the values of two fields; None for one that is not there."""
        return find_client(peer, x_forwarded_for, forwarded, self.trusted, self.believed)


class Forwarding:
    """Gives a request the client, scheme and host that trusted proxies tell, and the identifier that they gave it.

    Of any other peer the fields that could tell are taken away: nothing behind this believes them.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self.app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI."""
        if scope["type"] in ("http", "websocket"):
            peer = scope.get("client")
            if self._proxies.trusted.trusts(peer):
                self._believe(scope, peer)
            elif any(name in _NOT_TRUSTED for name, _ in scope["headers"]):
                scope["headers"] = [field for field in scope["headers"] if field[0] not in _NOT_TRUSTED]
        await self.app(scope, receive, send)

    def _believe(self, scope: Scope, peer: Address | None) -> None:
        fields: list[tuple[bytes, bytes]] = scope["headers"]
        told = find_told(peer, fields, self._proxies.trusted, self._proxies.believed)
        scope["client"], scope[PEER] = told.client, peer
        if told.scheme:
            scope["scheme"] = _WEBSOCKET_SCHEMES[told.scheme] if scope["type"] == "websocket" else told.scheme
        if told.host and self._proxies.believes_host:
            scope["headers"] = [(b"host", told.host.encode("latin-1")), *(one for one in fields if one[0] != b"host")]
        given = [value for name, value in fields if name == REQUEST_ID]
        if len(given) == 1 and is_request_id(given[0]):
            scope[GIVEN] = given[0].decode()

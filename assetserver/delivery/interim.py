"""Interim answers (1xx), which ASGI cannot say: an extension of the scope writes them before the answer begins.

``scope["extensions"]["assetserver.interim"] = {"write": write}``; ``write(status, fields)`` may be called any number of times.
Source: RFC 9110 §15.2 (one request, any number of interim answers; none to an HTTP/1.0 client).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from starlette.types import Scope

INTERIM = "assetserver.interim"

_REASONS = {103: b"Early Hints", 104: b"Upload Resumption Supported"}


class Exchange(Protocol):
    """What is known of the answer to one request."""

    response_started: bool
    disconnected: bool


def offer_interim(scope: Scope, exchange: Any, transport: asyncio.Transport) -> None:
    """Let the application write interim answers to the request of ``scope``, if its client can understand them."""
    if scope["http_version"] == "1.1":
        write: Callable[..., None] = partial(_write, exchange, transport)
        scope["extensions"] = {**scope.get("extensions", {}), INTERIM: {"write": write}}


def _write(exchange: Exchange, transport: asyncio.Transport, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Write an interim answer; nothing where it would stand in the answer or behind it, or nobody reads it."""
    if exchange.response_started or exchange.disconnected or transport.is_closing():
        return
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _REASONS.get(status, b""), lines))

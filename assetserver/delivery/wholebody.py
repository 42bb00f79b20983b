"""Bodies that came whole with their header: an extension of the scope gives them at once, where ASGI has a message to wait for.

Small files come so. Nobody waits for their client then: no deadline to set, no task to be ended when it goes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from starlette.types import Scope

from assetserver.bodies import WHOLE

_WITH_BODIES = frozenset({"POST", "PUT", "PATCH"})


class Exchange(Protocol):
    """What is known of one request: the bytes of its body that nobody has taken, and whether more will come."""

    body: bytes | bytearray
    more_body: bool
    disconnected: bool


def offer_whole_body(scope: Scope, exchange: Any) -> None:
    """Let the application take the body of the request of ``scope`` at once, if all of it is there when it asks."""
    if scope["method"] in _WITH_BODIES:
        scope["extensions"] = {**scope.get("extensions", {}), WHOLE: {"take": partial(_take, exchange)}}


def _take(exchange: Exchange, limit_bytes: int) -> bytes | None:
    """Return the whole body, or None if more is to come, it is longer than that, or its client has gone already."""
    if exchange.more_body or exchange.disconnected or len(exchange.body) > limit_bytes:
        return None
    body, exchange.body = bytes(exchange.body), bytearray()
    return body

"""``Upgrade`` fields of requests, which a server may ignore (RFC 9110 §7.8), and this one does, but where WebSockets are.

The parser stops after the header of a request that asks for an upgrade; its body, if it has one, would be read as a request.
"""

from __future__ import annotations

import re
from typing import Any

UPGRADES = "assetserver.upgrades"
"""Under this name the application's state has the pattern of the targets that are WebSockets, if there are any."""

_ASKS = re.compile(rb"upgrade:", re.IGNORECASE)
_FIELD = re.compile(rb"\r\nupgrade:[\t\x20-\x7e\x80-\xff]*(?=\r\n(?![ \t])|\Z)", re.IGNORECASE)
"""A sound field line: one that is not is left to the parser to refuse."""
_TARGET = re.compile(rb"GET ([!-~]+) HTTP/1\.1\r\n")
_WEBSOCKET = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*(\r\n|\Z)", re.IGNORECASE)


def without_upgrade(data: bytes, targets: re.Pattern[bytes] | None) -> bytes:
    """Return the beginning of a request without ``Upgrade`` fields. Left are a WebSocket's at ``targets``, and a cut header."""
    end_of_header = data.find(b"\r\n\r\n")
    if _ASKS.search(data, 0, len(data) if end_of_header < 0 else end_of_header) is None:  # a body may be long
        return data
    header, end, rest = data.partition(b"\r\n\r\n")
    if not end or (_WEBSOCKET.search(header) and leads_to_websocket(data, targets)):
        return data
    return _FIELD.sub(b"", header) + end + rest


def leads_to_websocket(data: bytes, targets: re.Pattern[bytes] | None) -> bool:
    """Tell whether a request that begins with ``data`` is a GET of one of ``targets``."""
    found = _TARGET.match(data)
    return targets is not None and found is not None and targets.fullmatch(found[1]) is not None


def make_live_socket(**keywords: Any) -> Any:
    """Return the protocol of a connection that becomes a WebSocket, a ``LiveSocket``; what it takes is loaded by the first."""
    from .livesockets import LiveSocket  # noqa: PLC0415 - wsproto and h11 take 20 ms, and most servers never meet one

    return LiveSocket(**keywords)

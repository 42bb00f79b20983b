"""``Upgrade`` fields of requests, which a server may ignore (RFC 9110 §7.8), and this one does. Pure.

The parser stops after the header of a request that asks for an upgrade; its body, if it has one, would be read as a request.
"""

from __future__ import annotations

import re

_ASKS = re.compile(rb"upgrade:", re.IGNORECASE)
_FIELD = re.compile(rb"\r\nupgrade:[\t\x20-\x7e\x80-\xff]*(?=\r\n(?![ \t])|\Z)", re.IGNORECASE)
"""A sound field line: one that is not is left to the parser to refuse."""
_WEBSOCKET = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*(\r\n|\Z)", re.IGNORECASE)


def without_upgrade(data: bytes, is_websocket_known: bool) -> bytes:
    """Return the beginning of a request without its ``Upgrade`` fields. Left are a known WebSocket's, and a cut header."""
    end_of_header = data.find(b"\r\n\r\n")
    if _ASKS.search(data, 0, len(data) if end_of_header < 0 else end_of_header) is None:  # a body may be long
        return data
    header, end, rest = data.partition(b"\r\n\r\n")
    if not end or (is_websocket_known and _WEBSOCKET.search(header)):
        return data
    return _FIELD.sub(b"", header) + end + rest

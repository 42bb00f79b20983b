"""The header of the PROXY protocol: who really connected, told before the first byte by a proxy that only passes bytes on.

Decides whether what came is a header, and what it says; waits for nothing.
Source: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, §2.1 (version 1, a line of text), §2.2 (version 2, binary).

Laws:
- A connection has a header or it is none: whether one is there is never guessed from what came (§2).
- A header is exact: what could be read in two ways is no header.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from enum import Enum
from typing import Literal, NamedTuple

Version = Literal["v1", "v2", "any"]

LIMIT_V1_BYTES = 107
"""The longest line of version 1, with its end (§2.1)."""

LIMIT_V2_BYTES = 4096
"""Longer headers are none: what stands behind the addresses is not read here, and nobody sends so much of it."""

_LINE = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: [ -~]*)?|(?:(?P<four>TCP4)|TCP6)"
    rb" (?P<source>[0-9A-Fa-f.:]+) (?P<target>[0-9A-Fa-f.:]+) (?P<port>0|[1-9][0-9]{0,4}) (?P<own>0|[1-9][0-9]{0,4}))"
)
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_LAYOUTS = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}
"""Of TCP over IPv4 and IPv6: addresses of client and proxy, and their ports."""

_UNSPECIFIED, _PATHS = 0x00, 0x31
_LAST_PORT = 65535


class Found(NamedTuple):
    """A whole header: who connected, None if it does not say, as of the proxy's own connections; and its bytes."""

    source: tuple[str, int] | None
    length: int


class Incomplete(Enum):
    """What is not a whole header."""

    MORE = "more may come"
    WRONG = "none"


def parse_proxy_header(data: bytes, version: Version) -> Found | Incomplete:
    """Return the header that ``data`` begins with, ``MORE`` if it may be the beginning of one, ``WRONG`` if it is none."""
    if version != "v1" and data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _parse_v2(data)
    return Incomplete.WRONG if version == "v2" else _parse_v1(data)


def _parse_v1(data: bytes) -> Found | Incomplete:
    line, end, _ = data[:LIMIT_V1_BYTES].partition(b"\r\n")
    if not end:
        is_begun = len(data) < LIMIT_V1_BYTES and data[: len(b"PROXY ")] == b"PROXY "[: len(data)] and b"\n" not in data
        return Incomplete.MORE if is_begun else Incomplete.WRONG
    match = _LINE.fullmatch(line)
    if match is None:
        return Incomplete.WRONG
    length = len(line) + len(end)
    if match["unknown"]:
        return Found(None, length)
    version = 4 if match["four"] else 6
    source, target = (_parse_address(match[name].decode(), version) for name in ("source", "target"))
    if source is None or target is None or max(int(match["port"]), int(match["own"])) > _LAST_PORT:
        return Incomplete.WRONG
    return Found((source, int(match["port"])), length)


def _parse_address(text: str, version: int) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return _write(address) if address.version == version else None


def _write(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


def _parse_v2(data: bytes) -> Found | Incomplete:
    if len(data) < _HEAD_BYTES:
        return Incomplete.MORE
    command, family, rest = struct.unpack_from("!BBH", data, len(_SIGNATURE))
    length = _HEAD_BYTES + rest
    if command not in (_LOCAL, _PROXY) or length > LIMIT_V2_BYTES:
        return Incomplete.WRONG
    if command == _LOCAL or family in (_UNSPECIFIED, _PATHS):
        found: Found | Incomplete = Found(None, length)
    elif family in _LAYOUTS:
        found = _parse_pair(data, _LAYOUTS[family], length)
    else:  # datagrams, and what is not known yet (§2.2): no connection has it
        found = Incomplete.WRONG
    return found if found is Incomplete.WRONG or len(data) >= length else Incomplete.MORE


def _parse_pair(data: bytes, layout: str, length: int) -> Found | Incomplete:
    size = struct.calcsize(layout)
    if length < _HEAD_BYTES + size:
        return Incomplete.WRONG
    if len(data) < _HEAD_BYTES + size:
        return Incomplete.MORE
    source, _, port, _ = struct.unpack_from(layout, data, _HEAD_BYTES)
    return Found((_write(ipaddress.ip_address(source)), port), length)

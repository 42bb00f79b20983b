"""How many connections there may be: in all, and from one address. Who is beyond it is told so, and not left waiting.

Counted per process. All that is here runs once for a connection, nothing for a request.

Source: RFC 9110 §15.6.4 (503), §10.2.3 (Retry-After); RFC 6585 §4 (429).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable

logger = logging.getLogger(__name__)

GATE = "assetserver.gate"
"""Under this name the lifespan state of an application holds its ``Gate``."""

RETRY_S = 5
ANSWER_S = 2.0
"""How long somebody who was turned away may take to ask, in order to be told."""

LIMIT_TURNED_AWAY = 256
"""Most of those who are told; the rest are only closed."""

PRESSED_S = 5.0
PRESSED_IDLE_S = 2.0
"""How long a connection may idle while others are turned away, and for ``PRESSED_S`` afterwards."""

TELL_EVERY_S = 60.0

_V4_MAPPED = bytes(10) + b"\xff\xff"


class Gate:
    """The limits of one process, and who is inside; an ``address_limit`` of 0 is none. ``Pace`` is given the last one."""

    def __init__(self, limit: int, address_limit: int = 0, minimum_bytes_per_s: int = 0) -> None:
        self.pace = minimum_bytes_per_s
        self.on_descriptor: Callable[[int], None] | None = None
        """Is told the descriptor of each connection that comes in."""
        self._limit = limit
        self._address_limit = address_limit
        self.inside = 0
        """How many connections were let in, and have not left."""
        self._inside: dict[bytes, int] = {}
        self._turned_away: set[_TurnedAway] = set()
        self._pressed_until_s = self._told_s = float("-inf")

    def admits(
        self, transport: asyncio.Transport, client: tuple[str, int] | None, count: int, loop: asyncio.AbstractEventLoop
    ) -> bool:
        """Let in a connection, the ``count``-th that is open, and count it until it leaves; else take it over, return False."""
        if self.on_descriptor is not None:
            self.on_descriptor(transport.get_extra_info("socket").fileno())
        if count > self._limit:
            self.press(loop.time())
            self._tell(loop.time(), f"{self._limit} connections are open: others are answered 503")
            self._turn_away(transport, _FULL, loop)
            return False
        address = self._address_of(client)
        if address is None:
            self.inside += 1
            return True
        inside = self._inside.get(address, 0)
        if inside >= self._address_limit:
            self._tell(loop.time(), f"{client and client[0]} has {inside} connections: others of it are answered 429")
            self._turn_away(transport, _TOO_MANY, loop)
            return False
        self._inside[address] = inside + 1
        self.inside += 1
        return True

    def leaves(self, client: tuple[str, int] | None) -> None:
        """Count one less that was let in."""
        self.inside -= 1
        address = self._address_of(client)
        if address is None:
            return
        inside = self._inside.pop(address, 0) - 1
        if inside > 0:
            self._inside[address] = inside

    def press(self, now_s: float) -> None:
        """Have idle connections closed from now on, for a while: others wait for what they take."""
        self._pressed_until_s = now_s + PRESSED_S

    def idle_limit_s(self, now_s: float, usual_s: float) -> float:
        """Return how long a connection may idle."""
        return min(usual_s, PRESSED_IDLE_S) if now_s < self._pressed_until_s else usual_s

    def _address_of(self, client: tuple[str, int] | None) -> bytes | None:
        return find_address(client[0]) if self._address_limit and client else None

    def _turn_away(self, transport: asyncio.Transport, answer: bytes, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._turned_away) >= LIMIT_TURNED_AWAY:
            transport.set_protocol(asyncio.Protocol())  # nobody leaves who was not let in
            transport.abort()
        else:
            end = loop.call_later(ANSWER_S, transport.abort)
            self._turned_away.add(_TurnedAway(transport, answer, end, self._turned_away))

    def _tell(self, now_s: float, text: str) -> None:
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            logger.warning("%s", text)


def find_address(host: str) -> bytes | None:
    """Return what of an address one client has for itself: all of IPv4, 64 bits of IPv6, as a customer gets; else None.

    None also for loopback: from this machine, as over a Unix socket, come proxies, which speak for many.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.partition("%")[0])
    except OSError:
        return None
    if packed.startswith(_V4_MAPPED):
        packed = packed[12:]
    if ipaddress.ip_address(packed).is_loopback:
        return None
    return packed[:8]


class _TurnedAway(asyncio.Protocol):
    """Answers the first that comes on a connection, and ends it.

    Not before: who still sends when a connection is closed may lose the answer with the reset.
    """

    def __init__(self, transport: asyncio.Transport, answer: bytes, end: asyncio.TimerHandle, others: set[_TurnedAway]) -> None:
        self._transport = transport
        self._answer = answer
        self._others = others
        self._end = end
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Say why, once."""
        del data
        self._transport.write(self._answer)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._end.cancel()
        self._others.discard(self)


def _render(line: bytes, text: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nretry-after: %d\r\ncache-control: no-store\r\nconnection: close\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b" % (line, RETRY_S, len(text), text)
    )


_FULL = _render(b"503 Service Unavailable", b"Too many connections; try again later.\n")
_TOO_MANY = _render(b"429 Too Many Requests", b"Too many connections from your address.\n")

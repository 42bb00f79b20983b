"""One timer for all connections of a server: each is looked at once a second, as long as there are any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

SWEEP_S = 1.0

_NEXT = "assetserver_sweep"


class Server(Protocol):
    """What is known of a server's connections. Those with a ``check_deadline(now_s)`` are asked to."""

    @property
    def connections(self) -> Iterable[Any]:
        """All that are open."""


def watch(server: Server, loop: asyncio.AbstractEventLoop) -> None:
    """Look at all connections from now on."""
    if getattr(server, _NEXT, None) is None:
        setattr(server, _NEXT, loop.call_later(SWEEP_S, _sweep, server, loop))


def _sweep(server: Server, loop: asyncio.AbstractEventLoop) -> None:
    setattr(server, _NEXT, None)
    now_s = loop.time()
    for connection in list(server.connections):
        if (check := getattr(connection, "check_deadline", None)) is not None:
            check(now_s)
    if server.connections:
        watch(server, loop)

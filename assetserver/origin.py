"""Uvicorn's server as this program runs it: alone, or as one of several workers of a master.

It says when it serves, ends when its master is gone, and accepts no more connections than it has descriptors for. Without any
left, uvloop accepts and closes at once whatever waits; asyncio writes 5,000 lines a second into the log (2026-11-27). Here they
wait in the kernel's queue, where another worker may take them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import uvicorn

from .delivery.gate import GATE, Gate
from .descriptors import Descriptors
from .monitoring import READINESS
from .uploading import ON_STOP
from .workers import READY

logger = logging.getLogger(__name__)

TELL_EVERY_S = 60.0


class Apart(NamedTuple):
    """What is served on listeners of its own, beside the application whose part it is."""

    config: uvicorn.Config
    listeners: list[socket.socket]


class OriginServer(uvicorn.Server):
    """A server that accepts on ``sockets``; ``channel`` leads to the master, if there is one; ``admin`` is served beside it."""

    def __init__(self, config: uvicorn.Config, channel: socket.socket | None = None, admin: Apart | None = None) -> None:
        super().__init__(config)
        self._channel = channel
        self._admin = admin
        self._admin_servers: list[asyncio.Server] = []
        self._listeners: list[socket.socket] = []
        self._descriptors = Descriptors()
        self._is_paused = False
        self._told_s = float("-inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        self._listeners = sockets or []
        await super().startup(sockets=[one.dup() for one in self._listeners])
        if self._gate is not None:
            self._gate.on_descriptor = self._note_descriptor
        if self._admin is not None:
            await self._open_admin(self._admin)
        if self._channel is not None:
            self._channel.settimeout(0)
            asyncio.get_running_loop().add_reader(self._channel, self._on_word)
            self._say(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, finish what runs, end."""
        if (stop_streams := self.lifespan.state.get(ON_STOP)) is not None:
            stop_streams()
        if (readiness := self.lifespan.state.get(READINESS)) is not None:
            readiness.is_draining = True
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
        self.servers += self._admin_servers
        await super().shutdown(sockets=sockets)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second; return whether to end."""
        if self._is_paused:
            await self._accept_again()
        elif self._descriptors.are_scarce():
            self._pause()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; one of several workers takes those of its master alone."""
        if self._channel is None or sig != signal.SIGINT:
            super().handle_exit(sig, frame)

    async def _open_admin(self, admin: Apart) -> None:
        """Accept on listeners whose connections are none of the gate's, and get no answers of the hot path."""
        admin.config.load()
        loop = asyncio.get_running_loop()
        for listener in admin.listeners:
            make = partial(self._make_protocol, admin.config, {})
            self._admin_servers.append(await loop.create_server(make, sock=listener.dup(), backlog=self.config.backlog))

    def _say(self, word: bytes) -> None:
        assert self._channel is not None  # noqa: S101 - asked by the caller
        try:
            self._channel.send(word)
        except OSError:
            self.should_exit = True

    def _on_word(self) -> None:
        """Hear of the master's end; it says nothing else yet."""
        assert self._channel is not None  # noqa: S101 - or nobody would listen to it
        try:
            is_gone = not self._channel.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            is_gone = True
        if is_gone:
            asyncio.get_running_loop().remove_reader(self._channel)
            self.should_exit = True

    # Descriptors

    @property
    def _gate(self) -> Gate | None:
        found: Gate | None = self.lifespan.state.get(GATE)
        return found

    def _note_descriptor(self, number: int) -> None:
        """Look at the descriptor of a connection that was just made."""
        if self._descriptors.is_high(number) and not self._is_paused:
            self._pause()

    def _pause(self) -> None:
        """Leave those who come now in the queue. It is the kernel's, and a duplicate of the listening socket keeps it."""
        self._is_paused = True
        for server in self.servers:
            server.close()
        self.servers = []
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            limit = self._descriptors.limit
            logger.warning("nearly all of the %d descriptors that are allowed are in use: new connections wait", limit)

    async def _accept_again(self) -> None:
        """Go on accepting if there are descriptors again; else have idle connections closed."""
        loop = asyncio.get_running_loop()
        if not self._descriptors.are_plenty():
            if self._gate is not None:
                self._gate.press(loop.time())
            return
        for listener in self._listeners:
            make = partial(self._make_protocol, self.config, self.lifespan.state)
            server = await loop.create_server(make, sock=listener.dup(), backlog=self.config.backlog)
            self.servers.append(server)
        self._is_paused = False

    def _make_protocol(self, config: uvicorn.Config, state: dict[str, Any]) -> asyncio.Protocol:
        make: Any = config.http_protocol_class
        made: asyncio.Protocol = make(config=config, server_state=self.server_state, app_state=state)
        return made

"""Uvicorn's server as this program runs it: alone, or as one of several workers of a master.

It says when it serves, ends when its master is gone, and accepts no more connections than it has descriptors for. Without any
left, uvloop accepts and closes at once whatever waits; asyncio writes 5,000 lines a second into the log (2026-11-27). Here they
wait in the kernel's queue, where another worker may take them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from email.utils import formatdate
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import uvicorn

from .certificates import Certificates
from .delivery.draining import ON_STOP, close_after_answers
from .delivery.gate import GATE, Gate
from .delivery.hotcache import HOT, HotCache
from .descriptors import Descriptors
from .listening import leaves_machine
from .monitoring import READINESS
from .observe import LOG, LogWriter
from .supervision.words import DRAIN, READY, beat

logger = logging.getLogger(__name__)

TELL_EVERY_S = 60.0
TICKS_A_SECOND = 10
"""How often Uvicorn's main loop turns."""

IDLE_S = 0.5
"""How long a stop waits for connections that ask for nothing: who comes meanwhile waits for the next start."""


class Apart(NamedTuple):
    """What is served on listeners of its own, beside the application whose part it is."""

    config: uvicorn.Config
    listeners: list[socket.socket]


class OriginServer(uvicorn.Server):
    """A server that accepts on ``sockets``; ``channel`` leads to the master, if there is one; ``admin`` is served beside it."""

    def __init__(
        self,
        config: uvicorn.Config,
        channel: socket.socket | None = None,
        certificates: Certificates | None = None,
        admin: Apart | None = None,
    ) -> None:
        super().__init__(config)
        self._certificates = certificates
        self._channel = channel
        self._admin = admin
        self._admin_servers: list[asyncio.Server] = []
        self._listeners: list[socket.socket] = []
        self._descriptors = Descriptors()
        self._is_paused = False
        self._is_succeeded = False
        self._told_s = float("-inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        self._listeners = sockets or []
        await super().startup(sockets=[one.dup() for one in self._listeners])
        if self._gate is not None:
            self._gate.on_descriptor = self._note_descriptor
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._reopen_log)
        if self._admin is not None:
            await self._open_admin(self._admin)
        if self._channel is not None:
            self._channel.settimeout(0)
            asyncio.get_running_loop().add_reader(self._channel, self._on_word)
            self._say(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, finish what runs, end: all within the time that a stop may take."""
        begun_s = time.monotonic()
        await self._drain(begun_s)
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
        left_s = (self.config.timeout_graceful_shutdown or 0) - (time.monotonic() - begun_s)
        self.config.timeout_graceful_shutdown = max(0, math.ceil(left_s))
        await super().shutdown(sockets=sockets)

    async def _drain(self, begun_s: float) -> None:
        """Accept no more, and answer those who are here: each answer says that it is the last on its connection.

        A connection that was accepted and is silent may have a request on its way, and closing it would lose that. Where other
        workers accept, half of the time of a stop is spent waiting for such; else a moment.
        """
        for server in (*self.servers, *self._admin_servers):
            server.close()
        self.servers = []
        if (readiness := self.lifespan.state.get(READINESS)) is not None:
            readiness.is_draining = True
        if (stop_streams := self.lifespan.state.get(ON_STOP)) is not None:
            stop_streams()
        hot: HotCache | None = self.lifespan.state.get(HOT)
        if hot is not None:
            hot.close()
        close_after_answers(self.server_state.connections)
        while self.server_state.connections and not self.force_exit:
            grace_s = self.config.timeout_graceful_shutdown or 0
            patience_s = max(grace_s / 2, IDLE_S) if self._is_succeeded else IDLE_S
            if time.monotonic() - begun_s >= min(patience_s, grace_s):
                break
            date = formatdate(time.time(), usegmt=True).encode()
            self.server_state.default_headers = [(b"date", date), *self.config.encoded_headers, (b"connection", b"close")]
            await asyncio.sleep(0.05)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second; return whether to end."""
        if self._is_paused:
            await self._accept_again()
        elif self._descriptors.are_scarce():
            self._pause()
        if counter % TICKS_A_SECOND == 0:
            beat(self._channel)
            if self._certificates is not None:
                self._certificates.refresh()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; one of several workers takes those of its master alone."""
        if self._channel is None or sig != signal.SIGINT:
            self._is_succeeded = False  # nobody accepts any more: there is no time to wait for the silent
            super().handle_exit(sig, frame)

    def _reopen_log(self) -> None:
        """Open the log anew: whoever rotates it has renamed it."""
        log: LogWriter | None = self.lifespan.state.get(LOG)
        if log is not None:
            log.reopen()

    async def _open_admin(self, admin: Apart) -> None:
        """Accept on listeners whose connections are none of the gate's, and get no answers of the hot path.

        Where there is a certificate, what leaves the machine is encrypted: tokens travel here.
        """
        admin.config.load()
        loop = asyncio.get_running_loop()
        for listener in admin.listeners:
            make = partial(self._make_protocol, admin.config, {})
            context = self.config.ssl if leaves_machine(listener) else None
            server = await loop.create_server(make, sock=listener.dup(), ssl=context, backlog=self.config.backlog)
            self._admin_servers.append(server)

    def _say(self, word: bytes) -> None:
        assert self._channel is not None  # noqa: S101 - asked by the caller
        try:
            self._channel.send(word)
        except OSError:
            self.should_exit = True

    def _on_word(self) -> None:
        """Hear what the master says, or that it is gone."""
        assert self._channel is not None  # noqa: S101 - or nobody would listen to it
        try:
            word = self._channel.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if DRAIN in word:
            self._is_succeeded = self.should_exit = True
        if not word:
            asyncio.get_running_loop().remove_reader(self._channel)
            self.should_exit = True
            self._is_succeeded = False

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
            server = await loop.create_server(make, sock=listener.dup(), ssl=self.config.ssl, backlog=self.config.backlog)
            self.servers.append(server)
        self._is_paused = False

    def _make_protocol(self, config: uvicorn.Config, state: dict[str, Any]) -> asyncio.Protocol:
        make: Any = config.http_protocol_class
        made: asyncio.Protocol = make(config=config, server_state=self.server_state, app_state=state)
        return made

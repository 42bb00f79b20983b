"""Uvicorn's server as this program runs it: alone, or as one of several workers of a master.

What it adds stands here and not in the protocol, since it is about the process: that it serves, and for whom.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType

import uvicorn

from .workers import READY


class OriginServer(uvicorn.Server):
    """A server that says on its ``channel`` to the master when it serves, and ends when the master is gone."""

    def __init__(self, config: uvicorn.Config, channel: socket.socket | None = None) -> None:
        super().__init__(config)
        self._channel = channel

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets=sockets)
        if self._channel is not None:
            self._channel.settimeout(0)
            asyncio.get_running_loop().add_reader(self._channel, self._on_word)
            self._say(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, finish what runs, end."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; one of several workers takes those of its master alone."""
        if self._channel is None or sig != signal.SIGINT:
            super().handle_exit(sig, frame)

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

"""What a master leaves to the one that it becomes: sockets, and workers that serve on.

A master re-executes itself in place: the same process, with the same children and descriptors, runs the program and reads the
settings anew. What cannot be found out is passed in a variable of the environment.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from .control import Control
from .worker import NEVER, TOLD, Worker

_VARIABLE = "_ASSETSERVER_HANDOVER"
_NONE = -1

UNIX = "unix:"
"""What the place of a Unix socket begins with that we have bound."""


class Listener(NamedTuple):
    """A listening socket; ``role``: what for; ``place``: where the settings, or whoever passed it, have it."""

    role: str
    place: str
    socket: socket.socket

    def close(self) -> None:
        """Close it; the path of a Unix socket that was ours goes, too."""
        self.socket.close()
        if self.place.startswith(UNIX):
            with suppress(OSError):
                os.unlink(self.place.removeprefix(UNIX))


class _Socket(msgspec.Struct):
    role: str
    place: str
    descriptor: int


class _Process(msgspec.Struct):
    """A worker. JSON has no infinity: without a deadline, that is -1."""

    pid: int
    descriptor: int
    serves: bool
    is_ready: bool
    started_s: float
    deadline_s: float


class _State(msgspec.Struct):
    sockets: list[_Socket]
    workers: list[_Process]
    leaving: list[_Process]
    control: int
    control_folder: str
    client: int
    memory: int


class Handover:
    """Sockets and processes that are ours already. ``client``: who wants to know what comes of it.

    ``memory`` is the descriptor of what all workers share, -1 if there is none.
    """

    def __init__(self, state: _State) -> None:
        self._state = state
        self.listeners = [Listener(one.role, one.place, _adopt(one.descriptor)) for one in state.sockets]
        control = _take(state.control)
        self.control = Control(control, state.control_folder) if control else None
        self.client = _take(state.client)
        self.memory = state.memory

    def take_workers(self, like: Callable[[bool], Worker]) -> list[Worker]:
        """Return the places of workers that were not told to end; each is ``like`` one that serves, or not. Once."""
        return [_fill(one, like(one.serves)) for one in self._state.workers]

    def take_leaving(self, like: Callable[[bool], Worker]) -> list[Worker]:
        """Return the places of workers that were told to end, likewise."""
        return [_fill(one, like(one.serves)) for one in self._state.leaving]


def take_handover(environ: MutableMapping[str, str]) -> Handover | None:
    """Return what a master left to this process, or None at a first start; a second call finds nothing."""
    text = environ.pop(_VARIABLE, None)
    return None if text is None else Handover(msgspec.json.decode(text, type=_State))


def hand_over(
    listeners: Sequence[Listener],
    workers: Sequence[Worker],
    leaving: Sequence[Worker],
    control: Control | None,
    client: socket.socket | None,
    memory: int = _NONE,
) -> None:
    """Become the next master. Returns only by raising ``OSError``: then nothing has changed."""
    kept = [one.socket for one in listeners] + [one.channel for one in (*workers, *leaving) if one.channel is not None]
    kept += [one for one in (control and control.socket, client) if one is not None]
    state = _State(
        [_Socket(one.role, one.place, one.socket.fileno()) for one in listeners],
        [_describe(one) for one in workers],
        [_describe(one) for one in leaving],
        _number(control and control.socket),
        control.folder if control else "",
        _number(client),
        memory,
    )
    os.environ[_VARIABLE] = msgspec.json.encode(state).decode()
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # what is sent meanwhile waits for the next one's handlers
    try:
        for one in kept:
            one.set_inheritable(True)
        _pass_on(memory, is_passed=True)
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - as we were started
    finally:
        for one in kept:
            one.set_inheritable(False)
        _pass_on(memory, is_passed=False)
        del os.environ[_VARIABLE]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)


def _pass_on(descriptor: int, *, is_passed: bool) -> None:
    if descriptor != _NONE:
        os.set_inheritable(descriptor, is_passed)


def _adopt(descriptor: int) -> socket.socket:
    adopted = socket.socket(fileno=descriptor)
    adopted.set_inheritable(False)
    return adopted


def _take(descriptor: int) -> socket.socket | None:
    return _adopt(descriptor) if descriptor != _NONE else None


def _number(one: socket.socket | None) -> int:
    return _NONE if one is None else one.fileno()


def _describe(worker: Worker) -> _Process:
    deadline_s = _NONE if worker.deadline_s == NEVER else worker.deadline_s
    return _Process(worker.pid, _number(worker.channel), worker.serves, worker.is_ready, worker.started_s, deadline_s)


def _fill(process: _Process, place: Worker) -> Worker:
    place.pid, place.channel = process.pid, _take(process.descriptor)
    place.is_ready, place.started_s = process.is_ready, process.started_s
    place.deadline_s = NEVER if process.deadline_s == _NONE else process.deadline_s
    return place

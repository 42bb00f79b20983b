"""Listening sockets that whoever started us has opened: systemd's socket activation.

They stay open while the service is restarted, and who connects meanwhile waits; and a service that opens none needs no network
of its own. Source: sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from assetserver.errors import SettingsError

FIRST = 3
"""The number of the first descriptor that is passed."""

LIMIT = 64
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Passed(NamedTuple):
    """A descriptor that was passed, and the name that it was given."""

    descriptor: int
    name: str


def parse_passed(environ: Mapping[str, str], pid: int) -> list[Passed]:
    """Return what is passed to process ``pid``: nothing if it is for another one.

    Raises ``SettingsError`` for numbers that are none, or more names than descriptors.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and int(text) <= LIMIT):
        raise SettingsError(f"LISTEN_FDS is {text[:20]!r}; it must be a number of sockets, at most {LIMIT}")
    count = int(text)
    names = environ.get("LISTEN_FDNAMES", "")
    parts = names.split(":") if names else []
    if len(parts) > count:
        raise SettingsError(f"LISTEN_FDNAMES has {len(parts)} names for {count} sockets")
    parts += ["unknown"] * (count - len(parts))
    return [Passed(FIRST + index, name) for index, name in enumerate(parts)]


def take_passed(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """Return the listening sockets that were passed to this process, each with its name; a second call finds none.

    Family and protocol are the socket's own: without the protocol, asyncio leaves Nagle's algorithm on, and every keep-alive
    answer waits 44 ms (measured 2026-11-22). Raises ``SettingsError`` for what is no listening stream socket.
    """
    passed = parse_passed(environ, os.getpid())
    for name in _VARIABLES:  # they are not for children
        environ.pop(name, None)
    return [(name, adopt_listener(descriptor, f"the socket {name!r} that was passed")) for descriptor, name in passed]


def adopt_listener(descriptor: int, what: str) -> socket.socket:
    """Return the listening socket with this descriptor, which children do not inherit from now on.

    Raises ``SettingsError``, which begins with ``what``, if it is none.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise SettingsError(f"{what} (descriptor {descriptor}) is no socket")
        listener = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SettingsError(f"{what} (descriptor {descriptor}) cannot be used: {error.strerror}") from error
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise SettingsError(f"{what} (descriptor {descriptor}) does not listen for connections; it needs ListenStream=")
    listener.set_inheritable(False)
    return listener

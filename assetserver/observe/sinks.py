"""Where the access log goes: a stream, a file that can be opened anew, or the journal.

A sink is used by one thread. ``write`` raises ``OSError`` or ``ValueError`` where nothing can be written now; it may be called
again at any time, and what could not be written is not kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Protocol, TextIO

JOURNAL = "/run/systemd/journal/socket"
MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Not blocking: what is named may be a pipe that nobody reads."""

_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE})


class Sink(Protocol):
    """Takes records as UTF-8: each ends with a line break, and between two of several lines stands an empty one."""

    name: str

    def open(self) -> None:
        """Find out whether anything can be written."""
        ...

    def write(self, turns: Sequence[bytes]) -> int:
        """Write records, any number in each turn; return how many were dropped because nobody takes them fast enough."""
        ...

    def close(self) -> None:
        """Let go of what was opened; the next records open it anew, by its path."""
        ...


class _Descriptor:
    """Writes lines by the kernel's hand: no copy is made of them, and none is begun behind the half of another one."""

    def __init__(self) -> None:
        self._is_torn = False

    def write(self, descriptor: int, turns: Sequence[bytes]) -> None:
        """Write all of them, or raise ``OSError``; what is there of a line by then is ended before the next one."""
        left: list[bytes | memoryview] = [b"\n", *turns] if self._is_torn else [*turns]
        with _alone(descriptor):
            while left:
                done = os.writev(descriptor, left)
                self._is_torn = True
                rest = sum(map(len, left)) - done
                left = [memoryview(b"".join(left))[-rest:]] if rest else []
        self._is_torn = False


class StreamSink:
    """A stream of text: standard output, unless another is given."""

    name = "standard output"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._descriptor = _Descriptor()
        if isinstance(self._stream, TextIOWrapper):  # a character that the locale has not must not cost a line
            self._stream.reconfigure(errors="backslashreplace")

    def open(self) -> None:
        """Do nothing: it is open."""

    def write(self, turns: Sequence[bytes]) -> int:
        """Write lines; past the stream where it would write the same bytes."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):  # in memory
            descriptor = -1
        if descriptor >= 0 and self._stream.encoding.lower() == "utf-8":
            self._stream.flush()
            self._descriptor.write(descriptor, turns)
            return 0
        with _alone(descriptor):
            self._stream.write(b"".join(turns).decode())
            self._stream.flush()
        return 0

    def close(self) -> None:
        """Do nothing: it is whoever's who opened it."""


class FileSink:
    """A file at ``path``, to which lines are appended. It is made with mode 0640 where it is not there."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._opened = -1
        self._descriptor = _Descriptor()

    def open(self) -> None:
        """Open the file, if it is not open."""
        if self._opened < 0:
            self._opened = os.open(self.name, _FLAGS, MODE)

    def write(self, turns: Sequence[bytes]) -> int:
        """Append lines: all of them, or none of another process stands behind the half of one."""
        self.open()
        try:
            self._descriptor.write(self._opened, turns)
        except OSError:
            self.close()
            raise
        return 0

    def close(self) -> None:
        """Close the file."""
        descriptor, self._opened = self._opened, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


class JournalSink:
    """The journal of systemd: one datagram for each record, and none waits for its turn.

    Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
    """

    def __init__(self, path: str = JOURNAL) -> None:
        self.name = path
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect, if that was not done."""
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                made.connect(self.name)
            except OSError:
                made.close()
                raise
            self._socket = made

    def write(self, turns: Sequence[bytes]) -> int:
        """Send entries; those that the journal has no room for are dropped."""
        self.open()
        assert self._socket is not None  # noqa: S101 - opened
        dropped = 0
        for entry in b"".join(turns).removesuffix(b"\n\n").split(b"\n\n"):
            try:
                self._socket.send(entry + b"\n")
            except OSError as error:
                if error.errno not in _FULL:
                    self.close()
                    raise
                dropped += 1
        return dropped

    def close(self) -> None:
        """End the connection."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """Keep other processes that write to the same file, pipe or socket waiting: their lines must not stand within ours.

    A lock of the process and not of the open file, which all workers share: the kernel takes it back from one that dies.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except (OSError, ValueError):  # in memory, or what cannot be locked
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # closed meanwhile, which unlocked it
            fcntl.lockf(descriptor, fcntl.LOCK_UN)

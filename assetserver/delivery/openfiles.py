"""Files that stay open between requests: opening one takes a thread and as long as sending 100 KiB of it.

A file is closed when the last who holds it lets go. Whoever asks says by signature which state of the file is meant, so that
another file at the same path, or the same one written to, is never taken for it.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from contextlib import suppress

from assetserver.errors import FileChangedError, OverloadedError
from assetserver.storage.signatures import Signature, sign

from .files import open_regular, raise_if_overloaded

_SHARE = 8
_LIMIT = 256

AtHand = dict[int, float]
"""Blocks of a file that were in memory when somebody looked, and the loop's time until which that is believed."""


class OpenedFile:
    """An open file, and what it was when it was opened. Closed with the last reference to it."""

    __slots__ = ("__weakref__", "at_hand", "descriptor", "path", "signature")

    def __init__(self, path: str, descriptor: int, signature: Signature) -> None:
        self.path = path
        self.descriptor = descriptor
        self.signature = signature
        self.at_hand: AtHand = {}

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)

    def is_same(self) -> bool:
        """Tell whether nobody wrote to the file, or removed it: its status is what it was."""
        status, signature = os.fstat(self.descriptor), self.signature
        return (status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev) == (
            signature.ctime_ns,
            signature.mtime_ns,
            signature.size,
            signature.inode,
            signature.device,
        )

    def check(self, position: int) -> None:
        """Raise ``FileChangedError`` if somebody has written to the file; that it was removed meanwhile is no harm."""
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.signature.size, self.signature.mtime_ns):
            raise FileChangedError(f"{self.path} changed while it was sent, at byte {position}; the connection is closed")


class OpenFiles:
    """The open files of one process; what was not asked for of late is let go of."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit or min(_LIMIT, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE))
        self._files: dict[str, OpenedFile] = {}
        self._idle: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of files that are kept open."""
        return len(self._files)

    def get(self, path: str, expected: Signature) -> OpenedFile | None:
        """Return the file at ``path`` if it is open, and still what ``expected`` signs. Does not wait for a disk."""
        with self._lock:
            file = self._files.pop(path, None)
            if file is None or file.signature != expected or not file.is_same():
                return None
            self._files[path] = file  # at the end: the last to go
            self._idle.discard(path)
            return file

    def open(self, path: str, expected: Signature) -> OpenedFile | None:
        """Return the file at ``path``, opened if need be, or None if it is not what ``expected`` signs. Blocks.

        Raises ``OverloadedError`` when there is no descriptor left.
        """
        if (file := self.get(path, expected)) is not None:
            return file
        try:
            descriptor, status = open_regular(path)
        except OSError as error:
            try:
                raise_if_overloaded(error, "open a file")
            except OverloadedError:
                self.clear()  # descriptors are what is missing, and these may be idle
                raise
            return None
        file = OpenedFile(path, descriptor, sign(status))
        if file.signature != expected:
            return None
        with self._lock:
            while len(self._files) >= self._limit:
                self._files.pop(next(iter(self._files)))
            self._files[path] = file
        return file

    def finder(self, path: str, expected: Signature) -> Callable[[], OpenedFile | None]:
        """Return what finds this file again, as long as it is kept open."""
        return lambda: self.get(path, expected)

    def expire(self) -> None:
        """Let go of what nobody asked for since this was called last: a removed file takes its room until it is closed."""
        with self._lock:
            for path in self._idle & self._files.keys():
                del self._files[path]
            self._idle = set(self._files)

    def clear(self) -> None:
        """Let go of all files."""
        with self._lock:
            self._files.clear()

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
_BELIEVED_S = 0.1
"""How long an open file is taken to be the one that was opened before its status is looked at again; what is sent of it is
looked at afterwards, too."""

AtHand = dict[int, float]
"""Blocks of a file that were in memory when somebody looked, and the loop's time until which that is believed."""


class OpenedFile:
    """An open file, and what it was when it was opened. Closed with the last reference to it."""

    __slots__ = ("__weakref__", "_until_s", "at_hand", "descriptor", "path", "signature")

    def __init__(self, path: str, descriptor: int, signature: Signature) -> None:
        self.path = path
        self.descriptor = descriptor
        self.signature = signature
        self.at_hand: AtHand = {}
        self._until_s = 0.0

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

    def was_same(self, now_s: float) -> bool:
        """As ``is_same``, or that it was a moment ago. ``now_s`` is a monotonic clock's."""
        if now_s < self._until_s:
            return True
        if not self.is_same():
            return False
        self._until_s = now_s + _BELIEVED_S
        return True

    def check(self, position: int) -> None:
        """Raise ``FileChangedError`` if somebody has written to the file; that it was removed meanwhile is no harm."""
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.signature.size, self.signature.mtime_ns):
            self._until_s = 0.0
            raise FileChangedError(f"{self.path} changed while it was sent, at byte {position}; the connection is closed")


Find = Callable[[float], OpenedFile | None]
"""Finds a file that stays open, given the time of a monotonic clock in seconds."""


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
                self._files.pop(next((one for one in self._files if one in self._idle), next(iter(self._files))))
            self._files[path] = file
        return file

    def finder(self, path: str, expected: Signature) -> Find:
        """Return what finds this file again, as long as it is kept open and was the same a moment ago. Waits for nobody."""
        files, idle = self._files, self._idle

        def find(now_s: float) -> OpenedFile | None:
            file = files.get(path)
            if file is None or file.signature != expected:
                return None
            if not file.was_same(now_s):
                files.pop(path, None)
                return None
            idle.discard(path)
            return file

        return find

    def expire(self) -> None:
        """Let go of what nobody asked for since this was called last: a removed file takes its room until it is closed."""
        with self._lock:
            for path in self._idle & self._files.keys():
                del self._files[path]
            self._idle.clear()
            self._idle.update(self._files)

    def clear(self) -> None:
        """Let go of all files."""
        with self._lock:
            self._files.clear()

"""A mark that changes when something does, seen by every process of this machine at the price of one ``pread``.

For what is kept in memory and must never be shown once it is out of date: who changes it moves the mark afterwards; who reads
it takes the mark before, and trusts what was read as long as the mark stands.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .durable import named_errors

_MARK_BYTES = 16


class ChangeMark:
    """The mark in the file at ``path``, which is made when it first moves. Both methods may be called from any thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """Return the mark as it is now (0.5 µs once the file is open); empty while it never moved.

        A mark that is being written may be read in half: then it is another one than before and after, which is safe.
        """
        if self._descriptor is None:
            with suppress(FileNotFoundError):
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return b"" if self._descriptor is None else os.pread(self._descriptor, _MARK_BYTES, 0)

    def move(self) -> None:
        """Change the mark. Blocks; nothing of it need survive a crash."""
        os.makedirs(os.path.dirname(self.path) or os.curdir, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with named_errors(self.path):
                os.pwrite(descriptor, os.urandom(_MARK_BYTES), 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file. It is opened again if the mark is read again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

"""A mark that changes when something does, seen by every process of this machine at the price of a look into shared memory.

For what is kept in memory and must never be shown once it is out of date: who changes it moves the mark afterwards; who reads
it takes the mark before, and trusts what was read as long as the mark stands.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .durable import named_errors

_MARK_BYTES = 16
_MADE = os.O_RDWR | os.O_CREAT


class ChangeMark:
    """The mark in the file at ``path``, which is made when it is first read or moved. Both may be called from any thread.

    The file is mapped: to read it would let go of the interpreter, and among threads at work that costs a turn of theirs.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mapped: mmap.mmap | None = None

    def read(self) -> bytes:
        """Return the mark as it is now; empty while it never moved and could not be made. Raises ``OSError``.

        A mark that is being written may be read in half: then it is another one than before and after, which is safe.
        """
        mapped = self._mapped
        if mapped is None:
            self._mapped = mapped = self._map()
        return b"" if mapped is None else mapped[:]

    def move(self) -> None:
        """Change the mark. Blocks; nothing of it need survive a crash."""
        os.makedirs(os.path.dirname(self.path) or os.curdir, exist_ok=True)
        with named_errors(self.path), self._opened(_MADE) as descriptor:
            os.pwrite(descriptor, os.urandom(_MARK_BYTES), 0)

    def close(self) -> None:
        """Close the file. It is opened again if the mark is read again."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()

    def _map(self) -> mmap.mmap | None:
        with suppress(OSError), self._opened(_MADE) as descriptor:  # it may be somebody else's, or the disk read-only
            os.ftruncate(descriptor, _MARK_BYTES)
        with suppress(FileNotFoundError), self._opened(os.O_RDONLY) as descriptor:
            if os.fstat(descriptor).st_size == _MARK_BYTES:  # what is mapped must be there
                return mmap.mmap(descriptor, _MARK_BYTES, prot=mmap.PROT_READ)
        return None

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

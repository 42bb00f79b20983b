"""A file read here and there, without mapping it: one that is cut short while it is read ends early, and kills nobody."""

from __future__ import annotations

import os
import re

_WINDOW_BYTES = 1 << 16


class Source:
    """The bytes behind a descriptor. Reads go through one window of 64 KiB, so that small steps cost no system call."""

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._start = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes, at most 64 KiB; fewer at the end of the file."""
        if not self._start <= offset or offset + length > self._start + len(self._window):
            self._load(offset)
        return self._window[offset - self._start : offset - self._start + length]

    def number(self, offset: int, length: int) -> int:
        """Return ``length`` bytes as a number, most significant first. Raises ``EOFError`` where the file has ended."""
        found = self.read(offset, length)
        if len(found) < length:
            raise EOFError
        return int.from_bytes(found, "big")

    def search(self, pattern: re.Pattern[bytes], offset: int) -> int:
        """Return where ``pattern``, one that ends with the two bytes it is about, ends next, or -1."""
        while offset < self.size:
            if not self._start <= offset < self._start + len(self._window) - 1:
                self._load(offset)
            if found := pattern.search(self._window, offset - self._start):
                return self._start + found.end()
            if (reached := self._start + len(self._window)) >= self.size or not self._window:
                return -1
            offset = max(offset + 1, reached - 1)
        return -1

    def _load(self, offset: int) -> None:
        self._start, self._window = offset, os.pread(self._descriptor, _WINDOW_BYTES, offset)

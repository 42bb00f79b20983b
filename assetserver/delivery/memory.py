"""File content held in memory: bounded by bytes, the least recently used leaves first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class MemoryCache:
    """Content by key; a key names its bytes for ever (it holds a digest or a file's signature), so nothing goes stale.

    ``limit_bytes`` bounds the whole, ``file_limit_bytes`` what is admitted at all.
    """

    def __init__(self, limit_bytes: int = 64 << 20, file_limit_bytes: int = 256 << 10) -> None:
        self.limit_bytes = limit_bytes
        self.file_limit_bytes = min(file_limit_bytes, limit_bytes)
        self.size_bytes = 0
        self._contents: OrderedDict[Hashable, bytes] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._contents)

    def get(self, key: Hashable) -> bytes | None:
        """Return the content of ``key`` and mark it used, or None."""
        content = self._contents.get(key)
        if content is not None:
            self._contents.move_to_end(key)
        return content

    def put(self, key: Hashable, content: bytes) -> bool:
        """Admit ``content``, dropping what was used least recently; False if it is too large to be admitted."""
        if len(content) > self.file_limit_bytes:
            return False
        self.size_bytes += len(content) - len(self._contents.pop(key, b""))
        self._contents[key] = content
        while self.size_bytes > self.limit_bytes:
            _, dropped = self._contents.popitem(last=False)
            self.size_bytes -= len(dropped)
        return True

"""Which bytes of a file the kernel has in memory, and how it comes to have them: a cold file never stops the loop.

What was seen of a block is believed for a second, by all who send the same file. Source: preadv2(2), ``RWF_NOWAIT``.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .openfiles import AtHand, OpenedFile

BLOCK_BYTES = 1 << 20
_BELIEVED_S = 1.0
"""How long pages that were just seen are taken to be in memory."""

_LIMIT_BLOCKS = 8192
_PROBE_BYTES = 64 << 10
_BUFFER_BYTES = 64 << 10


class Pages:
    """The bytes from ``start`` to ``end`` of the file ``descriptor``; ``opened`` is the file, if it stays open for others."""

    __slots__ = ("_descriptor", "_end", "_opened", "_own", "_start")

    def __init__(self, descriptor: int, start: int, end: int, opened: OpenedFile | None) -> None:
        self._descriptor = descriptor
        self._start = start
        self._end = end
        self._opened = opened
        self._own: AtHand = {}

    def find_missing(self, position: int, count: int, now_s: float) -> int | None:
        """Return the first block, by number, of which something between is not in memory. ``now_s`` is a monotonic clock's."""
        for block in range(position // BLOCK_BYTES, (position + count - 1) // BLOCK_BYTES + 1):
            if not is_block_there(self._opened, block, now_s) and not self._is_there(block, now_s):
                return block
        return None

    def bounds(self, block: int) -> tuple[int, int]:
        """Return what of a block is meant: its first byte and the end."""
        return max(self._start, block * BLOCK_BYTES), min(self._end, (block + 1) * BLOCK_BYTES)

    def note(self, block: int, now_s: float) -> None:
        """Note that what is meant of a block is in memory."""
        if len(self._own) >= _LIMIT_BLOCKS:
            self._own.clear()
        self._own[block] = now_s + _BELIEVED_S

    def _is_there(self, block: int, now_s: float) -> bool:
        if self._own.get(block, 0.0) > now_s:
            return True
        first, end = self.bounds(block)
        if not is_in_memory(self._descriptor, first, end - first):
            return False
        self.note(block, now_s)
        return True


def are_there(opened: OpenedFile, position: int, count: int, now_s: float) -> bool:
    """Tell whether all blocks of which bytes are asked for are in memory, by what is known of them, and by looking."""
    first, last = position // BLOCK_BYTES, (position + count - 1) // BLOCK_BYTES
    if first == last:
        return is_block_there(opened, first, now_s)
    return all(is_block_there(opened, block, now_s) for block in range(first, last + 1))


def is_block_there(opened: OpenedFile | None, block: int, now_s: float) -> bool:
    """Tell whether all of a block is in memory: it was a moment ago, or is now."""
    if opened is None:
        return False
    at_hand = opened.at_hand
    if at_hand.get(block, 0.0) > now_s:
        return True
    start = block * BLOCK_BYTES
    if not is_in_memory(opened.descriptor, start, min(BLOCK_BYTES, opened.signature.size - start)):
        return False
    if len(at_hand) >= _LIMIT_BLOCKS:
        at_hand.clear()
    at_hand[block] = now_s + _BELIEVED_S
    return True


def is_in_memory(descriptor: int, position: int, count: int) -> bool:
    """Tell whether these bytes can be read without waiting for a disk, by a byte of each 64 KiB and the last one.

    What is kept and dropped are runs of pages, so that more samples would find little more, and reading all of it would
    cost as much as sending it. Also True where the file ends before.
    """
    sample = [bytearray(1)]
    try:
        for at in (*range(position, position + count, _PROBE_BYTES), position + count - 1):
            os.preadv(descriptor, sample, at, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not there; EOPNOTSUPP: cannot be asked
        return False
    return True


def read_now(descriptor: int, position: int, count: int) -> bytes | None:
    """Return bytes of a file if all of them are there, and in memory; else None. Never waits for a disk."""
    content = bytearray(count)
    try:
        read = os.preadv(descriptor, [content], position, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(content) if read == count else None


def read_ahead(descriptor: int, position: int, count: int) -> None:
    """Read bytes of a file so that the kernel has them in memory, and have it begin with as many that follow. Blocks."""
    with suppress(OSError):  # no more than a hint
        os.posix_fadvise(descriptor, position, 2 * count, os.POSIX_FADV_WILLNEED)
    buffer, end = memoryview(bytearray(_BUFFER_BYTES)), position + count
    while position < end:
        read = os.preadv(descriptor, [buffer[: end - position]], position)
        if not read:
            return
        position += read


def read_ahead_of(opened: OpenedFile, position: int, count: int) -> None:
    """Read bytes of a file as ``read_ahead`` does, and hold it open meanwhile. Blocks."""
    read_ahead(opened.descriptor, position, count)

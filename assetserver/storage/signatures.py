"""What tells one state of a file from another without reading it."""

from __future__ import annotations

import os

import msgspec


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """A state of a file: where it lies, how long it is, when it changed (nanoseconds since 1970).

    ``ctime_ns`` cannot be set by anybody: it moves even when content changes under a preserved size and mtime (``rsync -t``).
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def sign(status: os.stat_result) -> Signature:
    """Return the signature of a file's status."""
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

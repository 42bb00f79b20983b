"""What tells one state of a file from another without reading it; and files read only as long as they are in one state."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import msgspec

from assetserver.errors import FileChangedError

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
"""O_NONBLOCK: opening a FIFO must not wait for a writer. It means nothing on regular files."""

_NOT_A_FILE = frozenset({errno.ELOOP, errno.ENXIO})
"""What ``open(2)`` says of a symbolic link (O_NOFOLLOW), and of a socket."""


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


def open_signed(path: str, signature: Signature) -> int:
    """Open the regular file at ``path``, which is in the state ``signature``, to read; the caller closes it.

    Never waits for what is no file. ``path`` is a real one: a link in its last part is not followed. Raises ``OSError`` as
    ``open(2)`` does, and ``FileChangedError`` for any other state, and for what is a link, a FIFO or a socket by now.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise FileChangedError(f"{path} is no file any more") from error
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and sign(status) == signature:
        return descriptor
    os.close(descriptor)
    raise FileChangedError(f"{path} changed")


def read_signed(path: str, signature: Signature, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
    """Yield the content of the regular file at ``path``, which is in the state ``signature`` from the first piece to the end.

    Raises as ``open_signed`` does, ``FileChangedError`` also at the end.
    """
    descriptor = open_signed(path, signature)
    try:
        while piece := os.read(descriptor, piece_bytes):
            yield piece
        if sign(os.fstat(descriptor)) != signature:
            raise FileChangedError(f"{path} changed")
    finally:
        os.close(descriptor)

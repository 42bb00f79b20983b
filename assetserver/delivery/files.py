"""Blocking file work, in one place: open, sign, hash, read. It runs on the threads of a ``FilePool``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from assetserver.errors import OverloadedError
from assetserver.storage.pools import raise_if_stopping
from assetserver.storage.signatures import Signature, sign

PIECE_BYTES = 1 << 20
"""What is read at once. 1 MiB: a thread hop costs about 60 µs, a tenth of what reading it from the page cache does."""

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: opening a FIFO must not wait for a writer. It means nothing on regular files."""

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def raise_if_overloaded(error: OSError, what: str) -> None:
    """Raise ``OverloadedError`` where ``error`` says that the process is out of descriptors or memory: nothing about a file."""
    if error.errno in _OUT_OF_DESCRIPTORS:
        raise OverloadedError(f"cannot {what}: {error.strerror}") from error


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file and return its descriptor and status; the caller closes it.

    Raises ``OSError`` as ``open(2)`` does, and ``IsADirectoryError`` for a folder, ``FileNotFoundError`` for anything that is
    neither (FIFO, socket, device): for a web server those do not exist.
    """
    descriptor = os.open(path, OPEN_FLAGS)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(path)
    raise FileNotFoundError(path)


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the content of a file from its current position to its end, 1 MiB at a time.

    Raises ``InterruptedError`` on a pool's thread when the pool is closed.
    """
    while piece := os.read(descriptor, PIECE_BYTES):
        raise_if_stopping()
        yield piece


def read_whole(path: str, expected: Signature, digest: bytes | None = None) -> bytes | None:
    """Return the content of ``path``, or None if it is not, or stopped being, what ``expected`` signs.

    One descriptor, checked before and after: never a mixture of two versions. Where its SHA-256 ``digest`` is known, the
    content is that: a signature alone does not tell two writes within one tick of the file system's clock apart, and what is
    kept in memory under a digest is taken for it wherever it occurs.
    """
    try:
        descriptor, status = open_regular(path)
    except OSError:
        return None
    try:
        if sign(status) != expected:
            return None
        content = b"".join(read_pieces(descriptor))
        unchanged = len(content) == expected.size and sign(os.fstat(descriptor)) == expected
        return content if unchanged and digest in (None, sha256(content).digest()) else None
    finally:
        os.close(descriptor)


def hash_pieces(pieces: Iterator[bytes]) -> tuple[bytes, int]:
    """Return the SHA-256 and the total length of ``pieces``."""
    digest = sha256()
    length = 0
    for piece in pieces:
        digest.update(piece)
        length += len(piece)
    return digest.digest(), length

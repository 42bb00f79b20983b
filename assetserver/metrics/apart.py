"""Counters of workers that run apart from their server: a board in a file, which the server adds to its own.

The file has one size for ever, whoever comes and goes: the next process takes over the block of one that died. Its blocks are
given on the disk when it is made: a page of a mapped file for which there is no room would kill who writes to it. It is read,
not mapped, by those who look: somebody may cut it. It is not synced: what is told survives a process, not always a power cut.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .board import Board, Reading, file_bytes, places_in, read_blocks, write_header

PLACES = 16
"""Workers that count at once; more of them count for nobody but themselves."""
_ATTEMPTS = 3


def open_board_file(path: str) -> Board:
    """Return the board in the file at ``path``; made if it is not there, or if it is another version's. May be repeated.

    Raises ``OSError``.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if places := places_in(descriptor):
                return Board(places, descriptor)
            os.close(descriptor)
        _make(path)
    raise OSError(f"{path} is replaced again and again")


def read_board_file(path: str) -> list[Reading]:
    """Return what the blocks of a board file hold; nothing where there is none, or another version's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return list(read_blocks(descriptor, places_in(descriptor)))
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _make(path: str) -> None:
    """Put a new board at ``path``, whole from its first moment."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    own = f"{path}.{os.getpid()}"
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, file_bytes(PLACES))
        write_header(descriptor, PLACES)
        os.replace(own, path)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(own)

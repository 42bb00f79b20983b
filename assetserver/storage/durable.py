"""Changes of a local file system that survive a crash of the machine. Everything here blocks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import mkstemp


def make_durable_folder(path: str) -> None:
    """Make a folder, and those above it; on return the names of all that were made survive a crash. May be repeated."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path) or os.curdir
    make_durable_folder(above)
    with suppress(FileExistsError):  # someone makes it too, and may not have come to sync it
        os.mkdir(path)
    sync_folder(above)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a crash of the machine (fsync of the folder, as POSIX systems want it)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: str, content: bytes) -> None:
    """Put ``content`` in the place of the file at ``path`` in one step: readers see the old bytes or the new ones."""
    folder = os.path.dirname(path) or os.curdir
    make_durable_folder(folder)
    descriptor, temporary = mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb", buffering=0):
            write_all(descriptor, content)
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def write_all(descriptor: int, piece: bytes) -> None:
    """Write all of ``piece``: one ``write(2)`` may take less."""
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock that the file at ``path`` stands for, against threads and processes; the kernel frees a dead one's."""
    make_durable_folder(os.path.dirname(path) or os.curdir)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

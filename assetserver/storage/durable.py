"""Changes of a local file system that survive a crash of the machine. Everything here blocks."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import mkstemp

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors that say so."""


def make_durable_folder(path: str, *, mode: int = 0o777) -> None:
    """Make a folder, and those above it; on return the names of all that were made survive a crash. May be repeated.

    ``mode`` is that of the folder itself, and only where it is made; the umask applies.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path) or os.curdir
    make_durable_folder(above)
    with suppress(FileExistsError):  # someone makes it too, and may not have come to sync it
        os.mkdir(path, mode)
    sync_folder(above)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a crash of the machine (fsync of the folder, as POSIX systems want it)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with named_errors(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: str, content: bytes, *, confirmed: bool = True) -> None:
    """Put ``content`` in the place of the file at ``path`` in one step: readers see the old bytes or the new ones.

    Not ``confirmed``: a crash of the machine may bring back the old ones until ``sync_folder`` of its folder.
    """
    make_durable_folder(os.path.dirname(path) or os.curdir)
    _replace(path, content, is_synced=True)
    if confirmed:
        sync_folder(os.path.dirname(path) or os.curdir)


def replace_quickly(path: str, content: bytes) -> None:
    """As ``replace_durably``, for what can be made again: a crash of the machine may leave an empty file, or none."""
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    _replace(path, content, is_synced=False)


def _replace(path: str, content: bytes, *, is_synced: bool) -> None:
    descriptor, temporary = mkstemp(dir=os.path.dirname(path) or os.curdir, prefix=".new-")
    try:
        with named_errors(path), os.fdopen(descriptor, "wb", buffering=0):
            write_all(descriptor, content)
            os.fchmod(descriptor, 0o644)
            if is_synced:
                os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_all(descriptor: int, piece: bytes) -> None:
    """Write all of ``piece``: one ``write(2)`` may take less."""
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Give an ``OSError`` that came without a file's name, as those of ``write(2)`` do, the name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


@contextmanager
def locked(path: str, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock that the file at ``path`` stands for, against threads and processes; the kernel frees a dead one's.

    ``shared``: beside others who share it, never beside one who does not. ``on_wait`` is called once if it is not free at once.
    Not reentrant, and not fair: who wants it alone waits until nobody shares it.
    """
    make_durable_folder(os.path.dirname(path) or os.curdir)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_locked(path: str) -> Iterator[bool]:
    """As ``locked``, but without waiting: give whether the lock is ours."""
    make_durable_folder(os.path.dirname(path) or os.curdir)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)

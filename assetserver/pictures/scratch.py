"""Folders for files on their way to become blobs: each of one process, which holds a lock on it, and removed by whoever comes.

What a process leaves that is killed is found by the next one: the kernel frees the lock of a dead process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory, mkdtemp


class Scratch:
    """A folder of this process below ``root``; made, and what dead processes left removed, when it is first used."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folder = ""
        self._lock = -1
        self._opening = threading.Lock()

    @contextmanager
    def folder(self) -> Iterator[str]:
        """Give an empty folder, which is removed in the end. From any thread."""
        with self._opening:
            if not self._folder:
                self._open()
        with TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as path:
            yield path

    def close(self) -> None:
        """Remove all of it. May be repeated."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder, self._lock = "", -1

    def _open(self) -> None:
        os.makedirs(self._root, 0o700, exist_ok=True)
        while not self._folder:
            folder = mkdtemp(dir=self._root)
            if (lock := _try_lock(folder)) is not None:  # or somebody sweeps it already
                self._folder, self._lock = folder, lock
        for name in os.listdir(self._root):
            _remove_abandoned(os.path.join(self._root, name))


def _try_lock(folder: str) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(folder: str) -> None:
    if (lock := _try_lock(folder)) is not None:
        with suppress(OSError):
            shutil.rmtree(folder)
        os.close(lock)

"""How processes of one machine wake each other: a FIFO for each worker, in a folder beside the database.

A byte in it wakes the worker within microseconds, where polling would wait or burn. It also tells who lives: the kernel
closes what a dead process had open, and a FIFO that nobody reads refuses to be written to (ENXIO, fifo(7)), so that the jobs of
a worker that was killed are free at once and not when their leases end.

Rings may be lost, as when who queued a job is killed between commit and ring: whoever waits here looks now and then, too.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RING = b"!"
_NEW = "."
"""How the name of a FIFO begins that is not open yet."""


class Bell:
    """The bell of this process, at ``path`` while it is open."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder, name = os.path.split(path)
        unseen = os.path.join(folder, _NEW + name)
        os.mkfifo(unseen, 0o600)
        self._descriptor = os.open(unseen, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # for writing too: it never ends
        os.rename(unseen, path)  # whoever sees it finds it read, or its reader dead
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Return when somebody rang, or the time is over."""
        if self._poll.poll(max(0.0, timeout_s) * 1000):
            with suppress(BlockingIOError):
                os.read(self._descriptor, 65536)

    def ring(self) -> None:
        """End the wait, or the next one. From any thread, and from a signal handler."""
        with suppress(OSError):  # full: it rings already; closed: nobody waits
            os.write(self._descriptor, _RING)

    def close(self) -> None:
        """Take it down. May be repeated."""
        if self._descriptor >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = -1


class Bells:
    """The bells of all workers of one database. Any process may ring them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def hang(self, worker: str) -> Bell:
        """Return the bell of a new worker."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        return Bell(os.path.join(self._folder, worker))

    def ring_all(self) -> None:
        """Wake every worker; remove the bells that nobody hears any more. Blocks nobody, and never fails."""
        for name in self._names():
            with suppress(OSError), self._opened(name) as descriptor:
                if descriptor is not None:
                    os.write(descriptor, _RING)

    def is_heard(self, worker: str) -> bool:
        """Tell whether a worker lives."""
        try:
            with self._opened(worker) as descriptor:
                return descriptor is not None
        except FileNotFoundError:
            return False
        except OSError:  # another user's, or too many descriptors: its lease will tell
            return True

    @contextmanager
    def _opened(self, name: str) -> Iterator[int | None]:
        """Give what a ring is written to, or None if nobody would hear it."""
        path = os.path.join(self._folder, name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            with suppress(OSError):
                os.unlink(path)
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _names(self) -> list[str]:
        with suppress(OSError):
            return [name for name in os.listdir(self._folder) if not name.startswith(_NEW)]
        return []

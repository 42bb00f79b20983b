"""Uploads on their way to become blobs: one file each in a folder beside the blobs, on the same file system.

A file is named by its upload. Whoever writes to one holds the right to it, against threads and processes; the kernel frees a
dead one's. Whoever wants the right leaves a wish, which the holder sees: a client that comes back need not wait until the
connection it lost is found dead. Both are OFD locks (``fcntl(2)``), of the first and the second byte: no lock file to leave
behind, no lock that another descriptor of the process drops.

The order in which a file becomes a blob: fdatasync, read-only, link without overwriting, fsync of the folder (``confirm`` of
the blobs), record, and only then ``remove``. Once it has two names nothing may write to it any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from .blobs import Digest, LocalBlobs, StagedInfo, StagedUpload
from .durable import make_durable_folder, named_errors, sync_folder

MOST_PIECES = 1024
"""``IOV_MAX`` on Linux: what one ``writev`` takes."""

PRIVATE = 0o700
READ_ONLY = 0o444
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
_RIGHT, _WISH = 0, 1


class StagedFile:
    """An open file of an upload. Not for two threads at once, but for ``is_wanted``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._wishes = False
        with named_errors(path):
            try:
                self._descriptor = os.open(path, _FLAGS, 0o600)
            except PermissionError:  # sealed, and its record not written: whoever did that died between
                os.chmod(path, 0o600)
                self._descriptor = os.open(path, _FLAGS, 0o600)

    def try_claim(self) -> bool:
        """Take the right to write, or leave a wish for it and return False. May be repeated until it is there."""
        if not self._try_lock(fcntl.F_WRLCK, _RIGHT):
            self._wishes = self._try_lock(fcntl.F_RDLCK, _WISH) or self._wishes
            return False
        if self._wishes:
            self._try_lock(fcntl.F_UNLCK, _WISH)
            self._wishes = False
        return True

    def is_wanted(self) -> bool:
        """Tell whether somebody else wishes to write. Does not block, and may be called from any thread."""
        answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _describe(fcntl.F_WRLCK, _WISH))
        return int(struct.unpack_from("h", answer)[0]) != fcntl.F_UNLCK

    def is_removed(self) -> bool:
        """Tell whether the file has lost its name: who held the right before finished the upload, or removed it."""
        return os.fstat(self._descriptor).st_nlink == 0

    def size(self) -> int:
        """Return the length in bytes, durable or not."""
        return os.fstat(self._descriptor).st_size

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        """Write ``pieces`` one after the other from ``offset`` on. Durable only after ``sync``."""
        with named_errors(self.path):
            for start in range(0, len(pieces), MOST_PIECES):
                offset = _write_some(self._descriptor, offset, pieces[start : start + MOST_PIECES])

    def cut(self, offset: int) -> None:
        """Forget whatever lies beyond ``offset``. Raises ``PermissionError`` for what is also a blob."""
        with named_errors(self.path):
            if os.fstat(self._descriptor).st_nlink > 1:
                raise PermissionError(errno.EPERM, "the file is sealed")
            os.ftruncate(self._descriptor, offset)

    def sync(self) -> None:
        """Make what was written survive a crash of the machine."""
        with named_errors(self.path):
            os.fdatasync(self._descriptor)

    def read(self, start: int, most: int) -> bytes:
        """Return up to ``most`` bytes from ``start`` on, none at the end."""
        with named_errors(self.path):
            return os.pread(self._descriptor, most, start)

    def close(self) -> None:
        """Close the file, and with it give up the right. May be repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _try_lock(self, kind: int, byte: int) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _describe(kind, byte))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True


class FileStaging:
    """A ``Staging`` in ``folder``, whose files become blobs of ``blobs``."""

    def __init__(self, folder: str, blobs: LocalBlobs) -> None:
        self.folder = folder
        self._blobs = blobs

    def open(self, upload_id: str) -> StagedFile:
        """Open the file of an upload, made if it is not there; see ``Staging.open``."""
        path = self._path_of(upload_id)
        try:
            return StagedFile(path)
        except FileNotFoundError:
            self.make()
            return StagedFile(path)

    def confirm(self) -> None:
        """Make the names of files survive a crash of the machine; their bytes do after ``sync``."""
        sync_folder(self.folder)

    def seal(self, file: StagedUpload, digest: Digest) -> None:
        """Make the file, whose bytes are those of ``digest``, also a blob; see ``Staging.seal``."""
        target = self._blobs.path_of(digest)
        file.sync()
        os.chmod(file.path, READ_ONLY)
        _link(file.path, target)

    def store(self, upload_id: str, content: bytes, digest: Digest) -> None:
        """Make the file of a new upload, and a blob of it; see ``Staging.store``. Every system call counts here."""
        path, target = self._path_of(upload_id), self._blobs.path_of(digest)
        try:
            descriptor = os.open(path, _NEW_FLAGS, READ_ONLY)
        except FileNotFoundError:
            self.make()
            descriptor = os.open(path, _NEW_FLAGS, READ_ONLY)
        try:
            with named_errors(path):
                _write_some(descriptor, 0, [content])
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        _link(path, target)

    def remove(self, upload_id: str) -> bool:
        """Remove the file of an upload; return whether it was there."""
        try:
            os.unlink(os.path.join(self.folder, upload_id))
        except FileNotFoundError:
            return False
        return True

    def list_staged(self) -> Iterator[StagedInfo]:
        """Yield every file, in any order."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in names:
            if _ID.fullmatch(name):
                with suppress(FileNotFoundError):
                    status = os.stat(os.path.join(self.folder, name))
                    yield StagedInfo(name, status.st_size, status.st_mtime)

    def make(self) -> None:
        """Make the folder, if it is not there; nobody else on this machine may look into the one that it is in."""
        make_durable_folder(os.path.dirname(self.folder) or os.curdir, mode=PRIVATE)
        make_durable_folder(self.folder)

    def is_there(self) -> bool:
        """Tell whether the folder is there: nothing was ever uploaded where it is not."""
        return os.path.isdir(self.folder)

    def free_bytes(self) -> int:
        """Return how much more the file system takes."""
        folder = self.folder
        while True:
            try:
                status = os.statvfs(folder)
            except FileNotFoundError:
                folder = os.path.dirname(folder) or os.curdir
            else:
                return status.f_bavail * status.f_frsize

    def _path_of(self, upload_id: str) -> str:
        if _ID.fullmatch(upload_id) is None:
            raise ValueError(f"{upload_id!r} is not the id of an upload")
        return os.path.join(self.folder, upload_id)


def _write_some(descriptor: int, offset: int, pieces: Sequence[bytes]) -> int:
    """Write pieces, no more than ``MOST_PIECES``; return where they end. One ``pwritev(2)`` may take less."""
    written = os.pwritev(descriptor, pieces, offset)
    offset += written
    for piece in pieces:
        if written >= len(piece):
            written -= len(piece)
            continue
        rest = memoryview(piece)[written:]
        written = 0
        while rest:
            count = os.pwrite(descriptor, rest, offset)
            offset, rest = offset + count, rest[count:]
    return offset


def _link(path: str, target: str) -> None:
    """Give the file at ``path`` a second name, and its folder if it is the first one there."""
    try:
        _link_there(path, target)
    except FileNotFoundError:
        make_durable_folder(os.path.dirname(target))
        _link_there(path, target)


def _link_there(path: str, target: str) -> None:
    try:
        os.link(path, target)
    except FileExistsError:
        if os.stat(target).st_size != os.stat(path).st_size:  # somebody damaged it; whole bytes take its place
            os.unlink(target)
            os.link(path, target)


def _describe(kind: int, byte: int) -> bytes:
    """Return a ``struct flock``: kind, counted from the start, first byte, length 1, no process."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)

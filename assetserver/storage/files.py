"""Blobs as files of a local folder: ``ab/abcdef…``, read-only, written beside and linked into place.

The order of ``put`` is what makes it durable: write, check digest, fsync the file, link without overwriting, fsync the folder.
A crash between any two steps leaves a whole blob, none, or a temporary file that ``sweep`` removes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from hashlib import sha256
from tempfile import mkstemp

from assetserver.errors import BlobMissingError, DigestMismatchError

from .blobs import BlobInfo, Digest
from .durable import make_durable_folder, named_errors, sync_folder, write_all

PIECE_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = "tmp"


class FileBlobs:
    """A ``BlobStore`` and ``LocalBlobs`` in ``folder``, which is made if it is not there."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._known_shelves: set[str] = set()

    def path_of(self, digest: Digest) -> str:
        """Return where the blob's file is or would be. Raises ``ValueError`` for what is not a digest."""
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"{digest!r} is not a SHA-256 in hexadecimal")
        return os.path.join(self.folder, digest[:2], digest)

    def put(self, digest: Digest, pieces: Iterable[bytes], *, confirmed: bool = True) -> int:
        """Store the bytes that ``pieces`` are; see ``BlobStore.put``."""
        target = self.path_of(digest)
        if (size := self.size_of(digest)) is not None:
            if confirmed:
                sync_folder(os.path.dirname(target))  # whoever linked it may not have come to that yet
            return size
        with closing(self.begin(digest)) as writer:
            writer.write(pieces)
            writer.store(confirmed=confirmed)
            return writer.size

    def begin(self, digest: Digest) -> FileWriter:
        """Return a writer of a new blob; see ``PushedBlobs.begin``."""
        return FileWriter(self.folder, digest, self.path_of(digest))

    def confirm(self, digests: Iterable[Digest]) -> None:
        """Make the names of blobs that are there survive a crash; see ``BlobStore.confirm``."""
        there = set()
        for shelf in sorted({os.path.dirname(self.path_of(digest)) for digest in digests}):
            with suppress(FileNotFoundError):
                sync_folder(shelf)
                there.add(shelf)
        if not there <= self._known_shelves:  # no shelf ever goes: its name need be made durable but once
            sync_folder(self.folder)
            self._known_shelves |= there

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if it is not there."""
        try:
            return os.stat(self.path_of(digest)).st_size
        except FileNotFoundError:
            return None

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob. Raises ``BlobMissingError`` if it is not there."""
        try:
            with open(self.path_of(digest), "rb", buffering=0) as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise BlobMissingError(f"blob {digest} is not in {self.folder}") from error

    def list_blobs(self) -> Iterator[BlobInfo]:
        """Yield every blob, in any order."""
        for shelf in _names(self.folder):
            for name in _names(os.path.join(self.folder, shelf)):
                if _DIGEST.fullmatch(name) is None or not name.startswith(shelf):
                    continue  # a temporary file, or one that is not ours
                with suppress(FileNotFoundError):
                    status = os.stat(os.path.join(self.folder, shelf, name))
                    yield BlobInfo(Digest(name), status.st_size, status.st_mtime)

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; return whether it was there."""
        try:
            os.unlink(self.path_of(digest))
        except FileNotFoundError:
            return False
        return True

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> list[int]:
        """Remove temporary files that a killed process left; see ``BlobStore.sweep``."""
        folder = os.path.join(self.folder, _TEMPORARY)
        sizes = []
        for name in _names(folder):
            with suppress(FileNotFoundError):
                path = os.path.join(folder, name)
                status = os.stat(path)
                if status.st_mtime < time.time() - older_than_s:
                    if not dry_run:
                        os.unlink(path)
                    sizes.append(status.st_size)
        return sizes


class FileWriter:
    """A ``BlobWriter`` of the blob ``digest``, which is to lie at ``target``, below ``folder``."""

    def __init__(self, folder: str, digest: Digest, target: str) -> None:
        self.size = 0
        self._digest = digest
        self._target = target
        self._hashed = sha256()
        temporary = os.path.join(folder, _TEMPORARY)
        make_durable_folder(temporary)
        self._descriptor, self._path = mkstemp(dir=temporary)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Take more bytes; see ``BlobWriter.write``."""
        with named_errors(self._path):
            for piece in pieces:
                self._hashed.update(piece)
                write_all(self._descriptor, piece)
                self.size += len(piece)

    def finish(self) -> bool:
        """Store the blob durably; see ``BlobWriter.finish``."""
        return self.store(confirmed=True)

    def store(self, *, confirmed: bool) -> bool:
        """As ``finish``; not ``confirmed``: only after ``FileBlobs.confirm``."""
        _compare(self._hashed.hexdigest(), self._digest)
        with named_errors(self._path):
            os.fchmod(self._descriptor, 0o444)
            os.fsync(self._descriptor)
        folder = os.path.dirname(self._target)
        make_durable_folder(folder)
        is_new = True
        try:
            os.link(self._path, self._target)
        except FileExistsError:  # someone stored the same bytes meanwhile
            is_new = False
        if confirmed:
            sync_folder(folder)
        return is_new

    def close(self) -> None:
        """Remove the temporary file: what is stored has another name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            _remove(self._path)


def _remove(temporary: str) -> None:
    with suppress(FileNotFoundError):  # swept by someone who took us for dead
        os.unlink(temporary)


def _compare(found: str, digest: Digest) -> None:
    if found != digest:
        raise DigestMismatchError(f"the bytes are not those of {digest}, but of {found}")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []

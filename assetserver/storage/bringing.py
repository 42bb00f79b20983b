"""Bringing files to another folder: by hard link where that can be, else by copy. For what never changes its bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from tempfile import mkstemp
from typing import Protocol

from assetserver.errors import BlobMissingError, DigestMismatchError

from .blobs import BlobStore, Digest, LocalBlobs
from .durable import named_errors, write_all

PIECE_BYTES = 1 << 20
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)


class FolderOfBlobs(BlobStore, LocalBlobs, Protocol):
    """Blobs that are files of this machine."""


class Brought:
    """What came of bringing blobs: how many came, and their bytes; which are not there; which are damaged."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.missing: list[Digest] = []
        self.damaged: list[Digest] = []


def bring_blobs(source: FolderOfBlobs, target: FolderOfBlobs, digests: Iterable[Digest], *, verify: bool = False) -> Brought:
    """Have ``target`` hold these blobs of ``source``, durably; what it holds already stays. May be repeated.

    What is copied is checked on the way. ``verify``: read what was linked, and what was there, too; a damaged one of
    ``target`` is brought anew.
    """
    brought = Brought()
    wanted = sorted(set(digests))
    for digest in wanted:
        try:
            size = _bring(source, target, digest, verify=verify)
        except BlobMissingError:
            brought.missing.append(digest)
        except DigestMismatchError:
            brought.damaged.append(digest)
        else:
            brought.count += size is not None
            brought.bytes += size or 0
    target.confirm(wanted)
    return brought


def _bring(source: FolderOfBlobs, target: FolderOfBlobs, digest: Digest, *, verify: bool) -> int | None:
    """Return the size of what came, or None for what was there."""
    size = source.size_of(digest)
    there = target.size_of(digest)
    if there is not None and (size is None or size == there) and not (verify and not _is_sound(target, digest)):
        return None
    if size is None:
        raise BlobMissingError(f"blob {digest} is not there")
    if there is not None:
        target.delete(digest)
    if _try_link(source.path_of(digest), target.path_of(digest)):
        if verify and not _is_sound(target, digest):
            target.delete(digest)
            raise DigestMismatchError(f"blob {digest} is damaged")
        return size
    return target.put(digest, source.read(digest), confirmed=False)


def _try_link(source: str, target: str) -> bool:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    return True


def _is_sound(blobs: FolderOfBlobs, digest: Digest) -> bool:
    hashed = sha256()
    for piece in blobs.read(digest):
        hashed.update(piece)
    return hashed.hexdigest() == digest


def bring_file(source: str, target: str, *, mode: int = 0o644) -> str:
    """Copy a file to a new one, synced but for its folder; return its SHA-256. Read once: what changes meanwhile is whole."""
    hashed = sha256()
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = mkstemp(dir=folder, prefix=".new-")
    try:
        with open(source, "rb", buffering=0) as file, named_errors(target), os.fdopen(descriptor, "wb", buffering=0):
            while piece := file.read(PIECE_BYTES):
                hashed.update(piece)
                write_all(descriptor, piece)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return hashed.hexdigest()


def hash_file(path: str) -> str:
    """Return the SHA-256 of a file, synced before it is read: what it says is what a crash leaves."""
    hashed = sha256()
    with open(path, "rb", buffering=0) as file:
        os.fsync(file.fileno())
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
    return hashed.hexdigest()

"""Compressed forms of files: sidecars beside them, and those made once on demand and kept in a cache folder.

A compressed form is used only when it decodes to exactly the bytes of the file: a stale, foreign or damaged one is never sent,
whatever its time stamp says. Both kinds are files, so both have ETag, length and ranges like any other representation.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from assetserver.semantics.mediatypes import is_compressible
from assetserver.semantics.representation import SUFFIXES, ContentCoding
from assetserver.storage.codecs import DECODE_ERRORS, WORTH_KEEPING, compress, decode
from assetserver.storage.signatures import Signature, sign

from .files import hash_pieces, open_regular, raise_if_overloaded, read_pieces

logger = logging.getLogger(__name__)

_TEMPORARY = ".tmp"
_KEPT = re.compile(r"[0-9a-f]{64}\.(?:br|zst|gz)|assetserver-[^/]*\.tmp")
"""The names that a cache folder gives. Whatever else lies in it is somebody's, and is neither counted nor removed."""


@dataclass(frozen=True, slots=True)
class CodedFile:
    """A file that holds one checked representation: ``digest`` and ``length`` are those of its own bytes."""

    coding: ContentCoding
    path: str
    signature: Signature
    digest: bytes
    length: int


class Encodings:
    """Finds, checks and makes compressed forms. Every method blocks and belongs on a file thread.

    ``minimum_bytes`` and ``limit_bytes`` bound the files that are compressed on demand; ``directory`` is the cache folder,
    shared by processes and kept over restarts (None: a private one in the system's temporary folder); ``cache_limit_bytes``
    bounds it, the forms made longest ago leave first. ``enabled`` false: sidecars only.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        directory: str | None = None,
        minimum_bytes: int = 256,
        limit_bytes: int = 64 << 20,
        cache_limit_bytes: int = 1 << 30,
    ) -> None:
        self.enabled = enabled
        self.minimum_bytes = minimum_bytes
        self.limit_bytes = limit_bytes
        self._cache = _CacheFolder(directory, cache_limit_bytes)

    def makes(self, media_type: str, length: int) -> bool:
        """Tell whether a file of this type and length (bytes) gets compressed forms."""
        return self.enabled and self.minimum_bytes <= length <= self.limit_bytes and is_compressible(media_type)

    def find(self, coding: ContentCoding, digest: bytes, length: int, sidecar: str | None) -> CodedFile | None:
        """Return the ``coding`` of the file with ``digest`` and ``length``: its ``sidecar`` if good, else a kept form.

        Raises ``OverloadedError`` when the process is out of descriptors or memory.
        """
        found = _check(coding, sidecar, digest, length) if sidecar else None
        if found is None and self.enabled and (kept := self._cache.path_of(digest, coding)):
            found = _check(coding, kept, digest, length)
        return found

    def make(self, path: str, signature: Signature, digest: bytes, codings: tuple[ContentCoding, ...]) -> None:
        """Compress the file at ``path`` into each of ``codings`` and keep what is worth keeping.

        Keeps nothing if the file is not, or stops being, what ``signature`` says. May be repeated: the same bytes again. A full
        or read-only disk, or a file that grows meanwhile, costs the compressed form, nothing else; it is logged.
        """
        for coding in codings:
            try:
                self._make_one(path, signature, digest, coding)
            except InterruptedError:
                return  # the server is stopping
            except (*DECODE_ERRORS, OSError) as error:
                logger.warning("cannot keep the %s form of %s: %s", coding.value, path, error)
                return

    def _make_one(self, path: str, signature: Signature, digest: bytes, coding: ContentCoding) -> None:
        target = self._cache.path_of(digest, coding)
        if target is None:
            return
        descriptor, status = open_regular(path)
        try:
            if sign(status) != signature:
                return
            with self._cache.writing(target) as file:
                for piece in compress(coding, read_pieces(descriptor), signature.size):
                    file.write(piece)
                unchanged = sign(os.fstat(descriptor)) == signature
                if unchanged and file.tell() <= signature.size * WORTH_KEEPING:
                    file.keep()
        finally:
            os.close(descriptor)


def _check(coding: ContentCoding, path: str, digest: bytes, length: int) -> CodedFile | None:
    """Return the file at ``path`` if it decodes to the bytes with ``digest``; never reads more than they need.

    Raises ``OverloadedError`` when the process is out of descriptors or memory: that is no answer about the form; and
    ``InterruptedError`` when the server is stopping.
    """
    try:
        descriptor, status = open_regular(path)
    except OSError as error:
        raise_if_overloaded(error, f"check {path}")
        return None
    try:
        decoded = hash_pieces(_at_most(decode(coding, read_pieces(descriptor)), length))
        if decoded != (digest, length):
            logger.warning("%s is not used: it is not the %s form of its file", path, coding.value)
            return None
        os.lseek(descriptor, 0, os.SEEK_SET)
        own_digest, own_length = hash_pieces(read_pieces(descriptor))
        if sign(os.fstat(descriptor)) != sign(status) or own_length != status.st_size:
            return None
    except InterruptedError:
        raise
    except (*DECODE_ERRORS, OSError) as error:
        logger.warning("%s is not used: %s", path, error)
        return None
    finally:
        os.close(descriptor)
    return CodedFile(coding, path, sign(status), own_digest, own_length)


def _at_most(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise EOFError("it decodes to more than its file holds")
        yield piece


class _CacheFolder:
    """A folder of compressed forms, named by what they encode; written beside and renamed, so never seen half-written."""

    def __init__(self, directory: str | None, limit_bytes: int) -> None:
        self._wanted = directory
        self._limit_bytes = limit_bytes
        self._directory: str | None = None
        self._size_bytes = 0
        self._lock = threading.Lock()

    def path_of(self, digest: bytes, coding: ContentCoding) -> str | None:
        """Return where the form is or would be kept; None if there is no folder to keep it in."""
        directory = self._open()
        return os.path.join(directory, digest.hex() + SUFFIXES[coding]) if directory else None

    def writing(self, target: str) -> _Writing:
        """Return a file to write ``target`` through."""
        return _Writing(target, self._account)

    def _open(self) -> str:
        with self._lock:
            if self._directory and not os.path.isdir(self._directory):
                self._directory = None  # systems clear their temporary folders; a server runs longer than that
            if self._directory is None:
                try:
                    self._directory = _make_private(self._wanted)
                    tempfile.TemporaryFile(dir=self._directory).close()  # may be read-only: find out once, not per file
                    self._size_bytes = sum(size for _, size, _ in _list_forms(self._directory))
                except OSError as error:
                    logger.warning("no folder to keep compressed forms in, so none are made: %s", error)
                    self._directory = ""
            return self._directory

    def _account(self, added_bytes: int) -> None:
        with self._lock:
            self._size_bytes += added_bytes
            if self._size_bytes <= self._limit_bytes or not self._directory:
                return
            forms = sorted(_list_forms(self._directory))
            self._size_bytes = sum(size for _, size, _ in forms)
            for _, size, path in forms:
                if self._size_bytes <= self._limit_bytes * 9 // 10:
                    return
                with suppress(OSError):
                    os.unlink(path)
                    self._size_bytes -= size


class _Writing:
    """A temporary file that becomes its target only if ``keep`` is called before the block ends."""

    def __init__(self, target: str, account: Callable[[int], None]) -> None:
        self._target = target
        self._account = account
        self._keep = False

    def __enter__(self) -> Self:
        descriptor, self._path = tempfile.mkstemp(_TEMPORARY, "assetserver-", os.path.dirname(self._target))
        self._file = os.fdopen(descriptor, "wb")
        return self

    def write(self, piece: bytes) -> None:
        self._file.write(piece)

    def tell(self) -> int:
        return self._file.tell()

    def keep(self) -> None:
        self._keep = True

    def __exit__(self, *exc_info: object) -> None:
        size = self._file.tell()
        try:
            self._file.close()
            if self._keep and exc_info[0] is None:
                os.replace(self._path, self._target)
                self._account(size)
                return
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


def _list_forms(directory: str) -> list[tuple[float, int, str]]:
    """Return ``(mtime, size, path)`` of everything kept, what a killed process left half-written included."""
    forms = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if not _KEPT.fullmatch(entry.name):
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                forms.append((status.st_mtime, status.st_size, entry.path))
    return forms


def _make_private(wanted: str | None) -> str:
    """Return a folder that only this user can write: ``wanted``, or one in the temporary folder, for all their processes.

    Someone else may have made the name first, so owner and mode are looked at; then a fresh folder serves.
    """
    if wanted:
        os.makedirs(wanted, mode=0o700, exist_ok=True)
        return wanted
    path = os.path.join(tempfile.gettempdir(), f"assetserver-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return path
    return tempfile.mkdtemp(prefix="assetserver-")

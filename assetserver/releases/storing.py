"""The files of a folder become blobs: hashed in threads, stored where missing, and looked at for secrets as they pass.

What a folder held is remembered by signature (device, inode, size, mtime, ctime); what did not change is not read again, for
nobody can keep ctime. A file that changed less than two seconds before it was read is not trusted: some clocks are coarse.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import new as new_digest
from hashlib import sha256
from zlib import crc32

import msgspec

from assetserver.errors import DigestMismatchError, FileChangedError, PublishError
from assetserver.semantics.fingerprints import PROOF_ALGORITHMS, find_hex_fingerprint, is_proved
from assetserver.storage.blobs import Digest
from assetserver.storage.durable import replace_quickly
from assetserver.storage.signatures import Signature, read_signed

from .library import Library
from .scan import FoundFile
from .secretfiles import holds_secret

PIECE_BYTES = 1 << 20
THREADS = 4
"""More only wait for each other: 10,000 small files take 0.5 s with two or four, 0.8 s with eight."""

CHUNK_BYTES = 4 << 20
CHUNK_FILES = 64
SETTLED_NS = 2_000_000_000

SEEN_VERSION = 2
"""Raised whenever something else is found in the same bytes, such as a secret of a new kind: all files are read again then."""

_CRC_BYTES = 4

Progress = Callable[[str, int, int, int, int], None]
"""(what is done, bytes done, bytes in all, files done, files in all)."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a file was when it was read: its digest, whether the content proves its name, what secret it holds."""

    signature: Signature
    digest: Digest
    is_proved: bool
    secret: str = ""
    is_settled: bool = True


class StoredFile(msgspec.Struct, frozen=True):
    """A file that is a blob now, unless it holds a secret; whether the blob is new."""

    found: FoundFile
    known: Known
    is_new: bool

    @property
    def digest(self) -> Digest:
        """SHA-256 of the content."""
        return self.known.digest


def store_files(
    library: Library, memory: str, files: Sequence[FoundFile], progress: Progress, *, keeps_secrets: bool, dry_run: bool
) -> list[StoredFile]:
    """Return each of ``files`` in order; their blobs are there, for the caller to confirm.

    ``memory``: under which name it is remembered what they are: that of their folder. What holds a secret is stored only with
    ``keeps_secrets``, and with ``dry_run`` nothing is. May be repeated. Raises ``PublishError`` if a file cannot be read or
    changes meanwhile.
    """
    path = os.path.join(library.folder, "seen", sha256(memory.encode(errors="surrogateescape")).hexdigest())
    seen = _recall(path)
    store = _Store(library, seen, keeps_secrets=keeps_secrets, dry_run=dry_run)
    total, size, stored = sum(one.size for one in files), 0, list[StoredFile]()
    with ThreadPoolExecutor(THREADS, "assetserver-publish") as pool, store:
        for chunk in pool.map(store.take, _deal(files)):
            stored += chunk
            size += sum(one.found.size for one in chunk)
            progress("storing", size, total, len(stored), len(files))
    now: dict[str, Known] = {one.found.path: one.known for one in stored if one.known.is_settled}
    if not dry_run and now != seen:
        _remember(path, now)
    return stored


def _deal(files: Sequence[FoundFile]) -> Iterator[list[FoundFile]]:
    chunk: list[FoundFile] = []
    size = 0
    for one in files:
        chunk.append(one)
        size += one.size
        if size >= CHUNK_BYTES or len(chunk) == CHUNK_FILES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Store:
    """Takes files into a library, on threads; leaving it early (an error, Ctrl+C) ends their work at the next piece."""

    def __init__(self, library: Library, seen: Mapping[str, Known], *, keeps_secrets: bool, dry_run: bool) -> None:
        self._library = library
        self._seen = seen
        self._keeps_secrets = keeps_secrets
        self._dry_run = dry_run
        self._left = threading.Event()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def take(self, chunk: list[FoundFile]) -> list[StoredFile]:
        """Store a chunk of files."""
        return [self._take(found) for found in chunk]

    def _take(self, found: FoundFile) -> StoredFile:
        """Store a file if its blob is missing. It is hashed again as it is stored: kept is what was named."""
        known = self._seen.get(found.path)
        if known is not None and known.signature == found.signature:
            try:
                return self._store(found, known, [])
            except DigestMismatchError:
                pass  # what was remembered is wrong: the file tells what it is
        known, content = self._identify(found)
        try:
            return self._store(found, known, content)
        except DigestMismatchError as error:
            raise _changed(found) from error

    def _store(self, found: FoundFile, known: Known, content: list[bytes]) -> StoredFile:
        stored = self._library.blobs.size_of(known.digest)
        is_new = stored != found.size
        if is_new and not self._dry_run and (self._keeps_secrets or not known.secret):
            if stored is not None:  # damaged on disk: a store does not replace
                self._library.blobs.delete(known.digest)
            self._library.blobs.put(known.digest, content or self._pieces(found), confirmed=False)
        return StoredFile(found, known, is_new)

    def _pieces(self, found: FoundFile) -> Iterator[bytes]:
        for piece in _read(found):
            if self._left.is_set():
                raise PublishError(f"{found.path} was not stored, for publishing was stopped")
            yield piece

    def _identify(self, found: FoundFile) -> tuple[Known, list[bytes]]:
        """Return what a file is, and its content if that is one piece."""
        fingerprint = find_hex_fingerprint(found.path)
        names = PROOF_ALGORITHMS if fingerprint else ("sha256",)
        digests = {name: new_digest(name, usedforsecurity=False) for name in names}
        size, secret, content = 0, "", list[bytes]()
        read_ns = time.time_ns()
        for piece in self._pieces(found):
            if not size:
                secret = holds_secret(piece, found.path) or ""
            content = [piece] if not size else []
            size += len(piece)
            for digest in digests.values():
                digest.update(piece)
        if size != found.size:
            raise _changed(found)
        texts = {name: one.hexdigest() for name, one in digests.items()}
        proved = fingerprint is not None and is_proved(fingerprint, texts)
        settled = read_ns - found.signature.ctime_ns > SETTLED_NS
        return Known(found.signature, Digest(texts["sha256"]), proved, secret, settled), content


def _recall(path: str) -> dict[str, Known]:
    """Return what was remembered; nothing at all if a single bit of it is damaged, or if it is of another version."""
    try:
        with open(path, "rb") as file:
            checksum, content = file.read(_CRC_BYTES), file.read()
        return msgspec.msgpack.decode(content, type=dict[str, Known]) if checksum == _checksum(content) else {}
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(path: str, known: Mapping[str, Known]) -> None:
    """Keep what a folder held. Not durably: the files can be read again."""
    content = msgspec.msgpack.encode(known)
    replace_quickly(path, _checksum(content) + content)


def _checksum(content: bytes) -> bytes:
    return crc32(content, SEEN_VERSION).to_bytes(_CRC_BYTES, "big")


def _changed(found: FoundFile) -> PublishError:
    return PublishError(f"{found.path} changed while it was read; publish again when the build is done")


def _read(found: FoundFile) -> Iterator[bytes]:
    """Yield the content of a file that still is what the scan found, and is so at the end."""
    try:
        yield from read_signed(found.full, found.signature, PIECE_BYTES)
    except FileChangedError as error:
        raise _changed(found) from error
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error

"""The files of a folder become blobs: hashed in threads, stored where missing, and looked at for secrets as they pass.

What a folder held is remembered by signature (device, inode, size, mtime, ctime); what did not change is not read again, for
nobody can keep ctime. A file that changed less than two seconds before it was read is not trusted: some clocks are coarse.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import new as new_digest
from hashlib import sha256

import msgspec

from assetserver.errors import DigestMismatchError, PublishError
from assetserver.semantics.fingerprints import PROOF_ALGORITHMS, find_hex_fingerprint, is_proved
from assetserver.storage.blobs import Digest
from assetserver.storage.durable import replace_quickly
from assetserver.storage.signatures import Signature, sign

from .library import Library
from .scan import FoundFile
from .secretfiles import holds_secret

PIECE_BYTES = 1 << 20
THREADS = 4
"""More only wait for each other: 10,000 small files take 0.5 s with two or four, 0.8 s with eight."""

CHUNK_BYTES = 4 << 20
CHUNK_FILES = 64
SETTLED_NS = 2_000_000_000

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
    library: Library, folder: str, files: Sequence[FoundFile], progress: Progress, *, keeps_secrets: bool, dry_run: bool
) -> list[StoredFile]:
    """Return each of ``files``, which lie in ``folder``, in order; their blobs are there, for the caller to confirm.

    What holds a secret is stored only with ``keeps_secrets``, and with ``dry_run`` nothing is. May be repeated. Raises
    ``PublishError`` if a file cannot be read or changes meanwhile.
    """
    memory = os.path.join(library.folder, "seen", sha256(os.path.realpath(folder).encode(errors="surrogateescape")).hexdigest())
    seen = _recall(memory)
    store = _Store(library, seen, keeps_secrets=keeps_secrets, dry_run=dry_run)
    total, size, stored = sum(one.size for one in files), 0, list[StoredFile]()
    with ThreadPoolExecutor(THREADS, "assetserver-publish") as pool:
        for chunk in pool.map(store.take, _deal(files)):
            stored += chunk
            size += sum(one.found.size for one in chunk)
            progress("storing", size, total, len(stored), len(files))
    now: dict[str, Known] = {one.found.path: one.known for one in stored if one.known.is_settled}
    if not dry_run and now != seen:
        _remember(memory, now)
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
    """Takes files into a library."""

    def __init__(self, library: Library, seen: Mapping[str, Known], *, keeps_secrets: bool, dry_run: bool) -> None:
        self._library = library
        self._seen = seen
        self._keeps_secrets = keeps_secrets
        self._dry_run = dry_run

    def take(self, chunk: list[FoundFile]) -> list[StoredFile]:
        """Store a chunk of files."""
        return [self._take(found) for found in chunk]

    def _take(self, found: FoundFile) -> StoredFile:
        """Store a file if its blob is missing. It is hashed again as it is stored: kept is what was named."""
        known = self._seen.get(found.path)
        content: list[bytes] = []
        if known is None or known.signature != found.signature:
            known, content = self._identify(found)
        stored = self._library.blobs.size_of(known.digest)
        is_new = stored != found.size
        if is_new and not self._dry_run and (self._keeps_secrets or not known.secret):
            if stored is not None:  # damaged on disk: a store does not replace
                self._library.blobs.delete(known.digest)
            self._put(found, known.digest, content)
        return StoredFile(found, known, is_new)

    def _identify(self, found: FoundFile) -> tuple[Known, list[bytes]]:
        """Return what a file is, and its content if that is one piece."""
        fingerprint = find_hex_fingerprint(found.path)
        names = PROOF_ALGORITHMS if fingerprint else ("sha256",)
        digests = {name: new_digest(name, usedforsecurity=False) for name in names}
        size, secret, content = 0, "", list[bytes]()
        read_ns = time.time_ns()
        for piece in _read(found):
            if not size:
                secret = holds_secret(piece) or ""
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

    def _put(self, found: FoundFile, digest: Digest, content: list[bytes]) -> None:
        try:
            self._library.blobs.put(digest, content or _read(found), confirmed=False)
        except DigestMismatchError as error:
            raise _changed(found) from error


def _recall(path: str) -> dict[str, Known]:
    try:
        with open(path, "rb") as file:
            return msgspec.msgpack.decode(file.read(), type=dict[str, Known])
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(path: str, known: Mapping[str, Known]) -> None:
    """Keep what a folder held. Not durably: the files can be read again."""
    replace_quickly(path, msgspec.msgpack.encode(known))


def _changed(found: FoundFile) -> PublishError:
    return PublishError(f"{found.path} changed while it was read; publish again when the build is done")


def _read(found: FoundFile) -> Iterator[bytes]:
    """Yield the content of a file that still is what the scan found, and is so at the end."""
    try:
        with open(found.full, "rb", buffering=0) as file:
            if sign(os.fstat(file.fileno())) != found.signature:
                raise _changed(found)
            while piece := file.read(PIECE_BYTES):
                yield piece
            if sign(os.fstat(file.fileno())) != found.signature:
                raise _changed(found)
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error

"""The files of a folder become blobs: hashed in threads, stored where missing, and looked at for secrets as they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import new as new_digest

from assetserver.errors import DigestMismatchError, PublishError
from assetserver.semantics.fingerprints import PROOF_ALGORITHMS, find_hex_fingerprint, is_proved
from assetserver.storage.blobs import Digest

from .library import Library
from .scan import FoundFile

PIECE_BYTES = 1 << 20
THREADS = 8

Progress = Callable[[str, int, int, int, int], None]
"""(what is done, bytes done, bytes in all, files done, files in all)."""

FindSecret = Callable[[bytes], str | None]
"""Says what secret the first bytes of a file hold, or None; a file that holds one is not stored."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is a blob now: whether its name is proved by the content, whether the blob is new, what secret it holds."""

    found: FoundFile
    digest: Digest
    is_proved: bool
    is_new: bool
    secret: str = ""


def store_files(
    library: Library, files: Sequence[FoundFile], progress: Progress, find_secret: FindSecret, *, dry_run: bool
) -> Iterator[StoredFile]:
    """Yield each of ``files``, in order, once its blob is durable; with ``dry_run`` nothing is stored. May be repeated.

    Raises ``PublishError`` if a file cannot be read or changes while it is read.
    """
    total, size = sum(one.size for one in files), 0
    with ThreadPoolExecutor(THREADS, "assetserver-publish") as pool:
        stored = pool.map(lambda one: _store(library, one, find_secret, dry_run=dry_run), files)
        for count, one in enumerate(stored, 1):
            size += one.found.size
            progress("storing", size, total, count, len(files))
            yield one


def _store(library: Library, found: FoundFile, find_secret: FindSecret, *, dry_run: bool) -> StoredFile:
    """Hash a file and store it if its blob is missing. It is hashed again as it is stored: kept is what was named."""
    fingerprint = find_hex_fingerprint(found.path)
    digests = {name: new_digest(name, usedforsecurity=False) for name in (PROOF_ALGORITHMS if fingerprint else ("sha256",))}
    size, secret = 0, ""
    for piece in _read(found):
        secret = secret or (size == 0 and find_secret(piece)) or ""
        size += len(piece)
        for digest in digests.values():
            digest.update(piece)
    if size != found.size:
        raise _changed(found)
    digest_text = Digest(digests["sha256"].hexdigest())
    proved = fingerprint is not None and is_proved(fingerprint, {name: one.hexdigest() for name, one in digests.items()})
    stored = library.blobs.size_of(digest_text)
    is_new = stored != size
    if is_new and not (dry_run or secret):
        if stored is not None:  # damaged on disk: a store does not replace
            library.blobs.delete(digest_text)
        try:
            library.blobs.put(digest_text, _read(found))
        except DigestMismatchError as error:
            raise _changed(found) from error
    return StoredFile(found, digest_text, proved, is_new, secret)


def _changed(found: FoundFile) -> PublishError:
    return PublishError(f"{found.path} changed while it was read; publish again when the build is done")


def _read(found: FoundFile) -> Iterator[bytes]:
    try:
        with open(found.full, "rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error

"""A folder becomes a release: scan → hash → store what is missing → compress what nobody compressed yet → manifest.

Every step is durable before the next one names it, and every step may be repeated: killed at any point, what was live stays
live and whole, and publishing again goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import new as new_digest
from multiprocessing import get_context

from assetserver.errors import DigestMismatchError, PublishError
from assetserver.semantics.fingerprints import PROOF_ALGORITHMS, find_hex_fingerprint, is_proved
from assetserver.semantics.mediatypes import is_compressible, media_type_of
from assetserver.storage.blobs import BlobStore, Digest
from assetserver.storage.codecs import WORTH_KEEPING, Effort, compress

from .library import CODINGS, CodedBlob, Library
from .manifest import FileRecord, Manifest, ReleaseId
from .scan import FoundFile, scan_folder

MINIMUM_BYTES = 256
LIMIT_BYTES = 256 << 20
"""Files are compressed ahead of time between these sizes; br 11 takes about two seconds per MiB."""

PIECE_BYTES = 1 << 20
_STORING_THREADS = 8

Progress = Callable[[str, int, int], None]
"""(what is done, bytes done, bytes in all)."""


@dataclass(slots=True)
class PublishReport:
    """What publishing did: files and bytes; ``saved`` is what each coding spares visitors, in bytes over all files."""

    release: ReleaseId
    files: int = 0
    size: int = 0
    new_blobs: int = 0
    new_bytes: int = 0
    compressed: int = 0
    existed: bool = False
    saved: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Identified:
    found: FoundFile
    record: FileRecord
    is_new: bool


def publish_folder(library: Library, folder: str, progress: Progress, *, dry_run: bool = False) -> PublishReport:
    """Make the files in ``folder`` a kept release of ``library`` and return what was done; no site names it yet.

    ``dry_run``: find out, store nothing. May be repeated: the same files give the same release, and nothing is done twice.
    Raises ``PublishError`` for a folder that cannot be published, or if a file changes while it is read.
    """
    identified = list(_identify_all(library, scan_folder(folder), progress, dry_run=dry_run))
    manifest = Manifest({one.found.path: one.record for one in identified})
    new = {one.record.digest: one.record.size for one in identified if one.is_new}
    report = PublishReport(manifest.id, len(identified), sum(one.record.size for one in identified))
    report.new_blobs, report.new_bytes = len(new), sum(new.values())
    if dry_run:
        return report
    report.compressed = _compress_all(library, manifest, progress)
    report.existed = not library.save_manifest(manifest)
    report.saved = _savings(library, manifest)
    return report


def _identify_all(library: Library, found: list[FoundFile], progress: Progress, *, dry_run: bool) -> Iterator[_Identified]:
    total = sum(one.size for one in found)
    done = 0
    with ThreadPoolExecutor(_STORING_THREADS, "assetserver-publish") as pool:
        for one in pool.map(lambda one: _identify(library, one, dry_run=dry_run), found):
            done += one.record.size
            progress("storing", done, total)
            yield one


def _identify(library: Library, found: FoundFile, *, dry_run: bool) -> _Identified:
    """Hash a file and store it if its blob is missing. It is hashed again as it is stored: kept is what was named."""
    fingerprint = find_hex_fingerprint(found.path)
    digests = {name: new_digest(name, usedforsecurity=False) for name in (PROOF_ALGORITHMS if fingerprint else ("sha256",))}
    size = 0
    for piece in _read(found):
        size += len(piece)
        for digest in digests.values():
            digest.update(piece)
    if size != found.size:
        raise PublishError(f"{found.path} changed while it was read; publish again when the build is done")
    digest_text = Digest(digests["sha256"].hexdigest())
    proved = fingerprint is not None and is_proved(fingerprint, {name: one.hexdigest() for name, one in digests.items()})
    stored = library.blobs.size_of(digest_text)
    is_new = stored != size
    if is_new and not dry_run:
        if stored is not None:  # damaged on disk: a store does not replace
            library.blobs.delete(digest_text)
        try:
            library.blobs.put(digest_text, _read(found))
        except DigestMismatchError as error:
            raise PublishError(f"{found.path} changed while it was read; publish again when the build is done") from error
    return _Identified(found, FileRecord(digest_text, size, "proved" if proved else ""), is_new)


def _compress_all(library: Library, manifest: Manifest, progress: Progress) -> int:
    """Compress each blob that wants it and that nobody has compressed, on all cores, the largest first."""
    wanted: dict[Digest, int] = {}
    for path, record in manifest.files.items():
        worth = is_compressible(media_type_of(path)) and MINIMUM_BYTES <= record.size <= LIMIT_BYTES
        if worth and record.digest not in wanted and not _has_forms(library, record.digest):
            wanted[record.digest] = record.size
    if not wanted:
        return 0
    total, done = sum(wanted.values()), 0
    cores = len(os.sched_getaffinity(0))
    # Not fork: the storing threads may hold locks. The children import this module alone.
    with ProcessPoolExecutor(min(cores, len(wanted)), get_context("spawn")) as pool:
        jobs: dict[Future[tuple[CodedBlob, ...]], Digest] = {
            pool.submit(compress_blob, library.blobs, digest): digest
            for digest, _ in sorted(wanted.items(), key=lambda item: -item[1])
        }
        for job in as_completed(jobs):
            library.save_codings(jobs[job], job.result())
            done += wanted[jobs[job]]
            progress("compressing", done, total)
    return len(wanted)


def _has_forms(library: Library, digest: Digest) -> bool:
    forms = library.codings_of(digest)
    return forms is not None and all(library.blobs.size_of(one.digest) == one.size for one in forms)


def compress_blob(blobs: BlobStore, digest: Digest) -> tuple[CodedBlob, ...]:
    """Make the compressed forms of a blob, store those worth keeping, and return them. Runs in a child process."""
    size = blobs.size_of(digest) or 0
    forms = []
    for coding in CODINGS:
        content = b"".join(compress(coding, blobs.read(digest), size, Effort.THOROUGH))
        if len(content) <= size * WORTH_KEEPING:
            form = Digest(new_digest("sha256", content).hexdigest())
            blobs.put(form, [content])
            forms.append(CodedBlob(coding.value, form, len(content)))
    return tuple(forms)


def _savings(library: Library, manifest: Manifest) -> dict[str, int]:
    saved: dict[str, int] = {}
    for record in manifest.files.values():
        for form in library.codings_of(record.digest) or ():
            saved[form.coding] = saved.get(form.coding, 0) + record.size - form.size
    return saved


def _read(found: FoundFile) -> Iterator[bytes]:
    try:
        with open(found.full, "rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error

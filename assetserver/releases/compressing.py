"""Blobs get their compressed forms and the facts about what they name: once per blob, in child processes, on all cores.

Work is dealt in batches: small blobs together, the codings of a large one apart, the largest first, so that no core waits at
the end. Little work is done in threads of this process: the codecs release the GIL, and starting a process takes 0.3 s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from assetserver.semantics.mediatypes import is_compressible, media_type_of
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import BlobStore, Digest
from assetserver.storage.codecs import WORTH_KEEPING, Effort, compress

from .crew import run_all
from .library import CODINGS, CodedBlob, Library
from .storing import Progress

MINIMUM_BYTES = 256
LIMIT_BYTES = 256 << 20
"""Files are compressed ahead of time between these sizes; br 11 takes about two seconds per MiB."""

BATCH_BYTES = 64 << 10
"""What one process takes at a time: a tenth of a second of br 11, so that none works long when the others have nothing left."""

LITTLE_BYTES = 256 << 10

SHARES = {ContentCoding.BR: 78, ContentCoding.ZSTD: 17, ContentCoding.GZIP: 5}
"""What part of the time of a blob each coding takes, in hundredths (measured 2026-11-22): progress counts by it."""

SAVE_EVERY_S = 5.0
"""How much work a killed publish may lose."""

Forms = dict[Digest, tuple[CodedBlob, ...]]


class _Piece(NamedTuple):
    """A blob to compress, in some codings, by one process."""

    digest: Digest
    size: int
    codings: tuple[ContentCoding, ...]


_Batch = tuple[_Piece, ...]
_Made = list[tuple[Digest, ContentCoding, CodedBlob | None]]


def compress_blobs(library: Library, sizes: Mapping[str, tuple[Digest, int]], progress: Progress) -> tuple[Forms, int]:
    """Return the compressed forms of all blobs that are worth it, and how many were compressed now. May be repeated.

    ``sizes``: blob and size in bytes by path. What was compressed before, for whichever release, is only looked up.
    """
    forms: Forms = {}
    wanted: dict[Digest, int] = {}
    for path, (digest, size) in sizes.items():
        if digest in forms or digest in wanted or not _is_worth(path, size):
            continue
        known = library.codings_of(digest)
        if known is not None and all(library.blobs.size_of(one.digest) == one.size for one in known):
            forms[digest] = known
        else:
            wanted[digest] = size
    forms |= _compress_all(library, wanted, progress)
    return forms, len(wanted)


def _is_worth(path: str, size: int) -> bool:
    return MINIMUM_BYTES <= size <= LIMIT_BYTES and is_compressible(media_type_of(path))


def _compress_all(library: Library, wanted: Mapping[Digest, int], progress: Progress) -> Forms:
    total, hundredths, done = sum(wanted.values()), 0, 0
    waiting = dict.fromkeys(wanted, len(CODINGS))
    made: dict[Digest, list[CodedBlob]] = {digest: [] for digest in wanted}
    forms, unsaved = Forms(), Forms()
    save_at_s = time.monotonic() + SAVE_EVERY_S
    work = partial(compress_batch, library.blobs)
    with closing(run_all(work, list(_deal(wanted)), is_little=total <= LITTLE_BYTES)) as batches:
        for results in batches:
            for digest, coding, form in results:
                made[digest] += [form] if form else []
                hundredths += wanted[digest] * SHARES[coding]
                waiting[digest] -= 1
                if not waiting[digest]:
                    unsaved[digest] = tuple(sorted(made[digest], key=lambda one: CODINGS.index(ContentCoding(one.coding))))
                    done += 1
            progress("compressing", hundredths // 100, total, done, len(wanted))
            if time.monotonic() >= save_at_s:
                library.save_codings(unsaved)
                forms, unsaved, save_at_s = forms | unsaved, {}, time.monotonic() + SAVE_EVERY_S
    library.save_codings(unsaved)
    return forms | unsaved


def _deal(wanted: Mapping[Digest, int]) -> Iterator[_Batch]:
    """Yield the work in the order in which it is best begun: what takes longest first, br before all else."""
    by_size = sorted(wanted.items(), key=lambda item: -item[1])
    for coding in CODINGS:
        yield from ((_Piece(digest, size, (coding,)),) for digest, size in by_size if size > BATCH_BYTES)
    batch: list[_Piece] = []
    for digest, size in by_size:
        if size > BATCH_BYTES:
            continue
        if batch and sum(piece.size for piece in batch) + size > BATCH_BYTES:
            yield tuple(batch)
            batch = []
        batch.append(_Piece(digest, size, CODINGS))
    if batch:
        yield tuple(batch)


def compress_batch(blobs: BlobStore, batch: _Batch) -> _Made:
    """Make the compressed forms of a batch, store those worth keeping, and return them, for the caller to confirm."""
    return [(piece.digest, coding, _compress(blobs, piece, coding)) for piece in batch for coding in piece.codings]


def _compress(blobs: BlobStore, piece: _Piece, coding: ContentCoding) -> CodedBlob | None:
    content = b"".join(compress(coding, blobs.read(piece.digest), piece.size, Effort.THOROUGH))
    if len(content) > piece.size * WORTH_KEEPING:
        return None
    form = Digest(sha256(content).hexdigest())
    blobs.put(form, [content], confirmed=False)
    return CodedBlob(coding.value, form, len(content))

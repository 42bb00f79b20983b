"""Deltas: what a file has that one before has not, as ``dcz`` (RFC 9842). Blobs like any other, recorded with the file's own.

Made when a release is published, or when a client turns out to hold what nobody thought of. None is kept before it was decoded
again, and none that is no smaller than what the file comes to without. One that is lost or damaged costs bytes, and no answer.
"""

from __future__ import annotations

from hashlib import sha256

from assetserver.errors import BlobMissingError
from assetserver.storage.blobs import BlobStore, Digest
from assetserver.storage.codecs import DELTA_LIMIT_BYTES, Effort, compress_against, decode_against

from .collect import publishing_lock
from .dictionaries import MINIMUM_BYTES
from .library import Delta, Library

ON_DEMAND_LIMIT_BYTES = DELTA_LIMIT_BYTES


def make_delta(blobs: BlobStore, new: Digest, dictionary: Digest, plain_bytes: int, effort: Effort) -> Delta | None:
    """Store the blob ``new`` as a delta against ``dictionary``, for the caller to confirm and record.

    One without digest if that is no use: it must be smaller than ``plain_bytes``, what the file comes to without. None if one
    of the two blobs is gone or damaged. May be repeated.
    """
    try:
        content, known = b"".join(blobs.read(new)), b"".join(blobs.read(dictionary))
    except BlobMissingError:
        return None
    if sha256(known).hexdigest() != dictionary:
        return None
    delta = compress_against(known, bytes.fromhex(dictionary), content, effort)
    if len(delta) >= plain_bytes:
        return Delta(dictionary, Digest(""), 0)
    if not decodes_to(new, known, delta):
        return None
    digest = Digest(sha256(delta).hexdigest())
    blobs.put(digest, [delta], confirmed=False)
    return Delta(dictionary, digest, len(delta))


def keep_delta(library: Library, new: Digest, dictionary: Digest, plain_bytes: int) -> Delta | None:
    """Return the delta of ``new`` against ``dictionary``, made and kept durably unless it is there; None if it is no use.

    Both are blobs of at most ``ON_DEMAND_LIMIT_BYTES``; ``plain_bytes`` as for ``make_delta``. Blocks for some 100 ms, and
    while ``gc`` runs. May be repeated, and by several processes at once. Raises ``OSError`` if nothing can be written.
    """
    with publishing_lock(library.folder):
        delta = find_delta(library, new, dictionary)
        sizes = library.blobs.size_of(new), library.blobs.size_of(dictionary)
        if delta is None and all(size is not None and MINIMUM_BYTES <= size <= ON_DEMAND_LIMIT_BYTES for size in sizes):
            delta = make_delta(library.blobs, new, dictionary, plain_bytes, Effort.QUICK)
            if delta is not None:
                library.save_deltas({new: [delta]})
        return delta if delta is not None and delta.digest else None


def find_delta(library: Library, new: Digest, dictionary: Digest) -> Delta | None:
    """Return the delta of ``new`` against ``dictionary`` that is there, one without digest if it is no use, or None."""
    known = next((one for one in library.tried_deltas(new) if one.dictionary == dictionary), None)
    if known is None or not known.digest:
        return known
    return known if library.blobs.size_of(known.digest) == known.size else None


def decodes_to(digest: Digest, dictionary: bytes, delta: bytes) -> bool:
    """Tell whether ``delta`` gives the blob ``digest``. Raises one of ``DECODE_ERRORS`` for what is none."""
    decoded = sha256()
    for piece in decode_against(dictionary, delta):
        decoded.update(piece)
    return decoded.hexdigest() == digest

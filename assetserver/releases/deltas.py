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
    """Store the blob ``new`` as a delta against ``dictionary``, for the caller to confirm and record; None if that is no use.

    ``plain_bytes``: what the file comes to without a dictionary; a delta must be smaller. None, too, if one of the blobs is
    gone or damaged. May be repeated.
    """
    try:
        content, known = b"".join(blobs.read(new)), b"".join(blobs.read(dictionary))
    except BlobMissingError:
        return None
    if sha256(known).hexdigest() != dictionary:
        return None
    delta = compress_against(known, bytes.fromhex(dictionary), content, effort)
    if len(delta) >= plain_bytes or not _decodes_to(new, known, delta):
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
        known = next((one for one in library.deltas_of(new) if one.dictionary == dictionary), None)
        if known is not None and library.blobs.size_of(known.digest) == known.size:
            return known
        sizes = library.blobs.size_of(new), library.blobs.size_of(dictionary)
        if not all(size is not None and MINIMUM_BYTES <= size <= ON_DEMAND_LIMIT_BYTES for size in sizes):
            return None
        made = make_delta(library.blobs, new, dictionary, plain_bytes, Effort.QUICK)
        if made is not None:
            library.save_deltas({new: [made]})
        return made


def _decodes_to(digest: Digest, dictionary: bytes, delta: bytes) -> bool:
    decoded = sha256()
    for piece in decode_against(dictionary, delta):
        decoded.update(piece)
    return decoded.hexdigest() == digest

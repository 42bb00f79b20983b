"""Files that were made become durable blobs. What names them, and when they go, is for the records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256

from assetserver.storage.blobs import BlobStore, Digest

_PIECE_BYTES = 1 << 20


def store_files(blobs: BlobStore, folder: str, names: Sequence[str]) -> list[Digest]:
    """Store the files of ``folder`` as blobs, and return their digests in the same order; then they are durable. Blocks.

    May repeat: the same bytes are the same blob.
    """
    digests = []
    for name in names:
        path = os.path.join(folder, name)
        digests.append(_hash(path))
        blobs.put(digests[-1], _read(path), confirmed=False)
    blobs.confirm(digests)
    return digests


def _hash(path: str) -> Digest:
    hashed = sha256()
    for piece in _read(path):
        hashed.update(piece)
    return Digest(hashed.hexdigest())


def _read(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece

"""What of a release a client may hold as a dictionary (RFC 9842): the digests of its texts, in order, in one file.

A look-up is a binary search on disk: nothing is held in memory, whatever the release has. A file that is lost or damaged costs
deltas, and nothing else: what it says is there is looked for among the blobs.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress

from assetserver.semantics.mediatypes import is_compressible, media_type_of
from assetserver.storage.codecs import DELTA_LIMIT_BYTES

from .manifest import Manifest

MINIMUM_BYTES = 256
"""Smaller files are neither dictionaries nor sent as deltas: a header of 40 bytes leaves little to spare."""

_DIGEST_BYTES = 32


def may_be_dictionary(path: str, size: int, limit_bytes: int = DELTA_LIMIT_BYTES) -> bool:
    """Tell whether a file is one that deltas are made of, and against: text, neither tiny nor huge. Sizes in bytes."""
    return MINIMUM_BYTES <= size <= limit_bytes and is_compressible(media_type_of(path))


def encode_dictionaries(manifest: Manifest) -> bytes:
    """Return the digests of the texts of a release, in order, without anything between them."""
    digests = {one.digest for path, one in manifest.files.items() if may_be_dictionary(path, one.size)}
    return b"".join(bytes.fromhex(one) for one in sorted(digests))


def is_dictionary(paths: Iterable[str], digest: bytes) -> bool:
    """Tell whether ``digest`` is in one of the files at ``paths``, which ``encode_dictionaries`` made. Reads a disk."""
    for path in paths:
        with suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
            digests = _Digests(file.fileno())
            at = bisect_left(digests, digest)
            if at < len(digests) and digests[at] == digest:
                return True
    return False


class _Digests:
    """The digests in an open file; each is read when it is looked at."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._count = os.fstat(descriptor).st_size // _DIGEST_BYTES

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> bytes:
        return os.pread(self._descriptor, _DIGEST_BYTES, at * _DIGEST_BYTES)

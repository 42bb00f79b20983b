"""Blobs as sources of bytes: whole ones only, hashed before a process first serves them and whenever their signature moves."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from assetserver.storage.signatures import Signature, sign

from .files import hash_pieces, open_regular, raise_if_overloaded, read_pieces
from .livefolder import Source

logger = logging.getLogger(__name__)

LIMIT_VERIFIED = 3072

REMEMBERED_BYTES = 64 << 10
"""Larger blobs are not hashed again while their signature stands; smaller ones take less time than they would take memory."""


class BlobSources:
    """Finds the blobs of a store whose files lie where ``path_of`` says, by hexadecimal digest.

    ``remedy`` ends the line in the log that tells of one that is missing or damaged. Blobs of more than ``hashed_bytes`` are
    not hashed, but taken for what they are called if they have the right size.
    """

    def __init__(self, path_of: Callable[[str], str], *, remedy: str, hashed_bytes: float = float("inf")) -> None:
        self._path_of = path_of
        self._remedy = remedy
        self._hashed_bytes = hashed_bytes
        self._verified: dict[bytes, Signature] = {}
        self._lock = threading.Lock()

    def find(self, digest: bytes, size: int, path: str) -> Source | None:
        """Return where the blob lies that is served at ``path``, or None if it is not whole: then the log says so. Blocks.

        Raises ``OverloadedError`` if the process is out of descriptors.
        """
        full = self._path_of(digest.hex())
        try:
            descriptor, status = open_regular(full)
        except OSError as error:
            raise_if_overloaded(error, "open a blob")
            logger.error("/%s cannot be served: its blob %s: %s; %s", path, full, error.strerror, self._remedy)  # noqa: TRY400
            return None
        try:
            signature = sign(status)
            if status.st_size != size or not self._is_whole(digest, size, signature, descriptor):
                logger.error("/%s cannot be served: its blob %s is damaged; delete that and %s", path, full, self._remedy)
                return None
        finally:
            os.close(descriptor)
        if size > REMEMBERED_BYTES:
            self._remember(digest, signature)
        return Source(full, signature)

    def _is_whole(self, digest: bytes, size: int, signature: Signature, descriptor: int) -> bool:
        if size > self._hashed_bytes or self._verified.get(digest) == signature:
            return True
        return hash_pieces(read_pieces(descriptor)) == (digest, size)

    def _remember(self, digest: bytes, signature: Signature) -> None:
        with self._lock:
            while len(self._verified) >= LIMIT_VERIFIED:
                self._verified.pop(next(iter(self._verified)))
            self._verified[digest] = signature

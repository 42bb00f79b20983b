"""A blob arrives: decoded as it passes, measured, hashed, looked at for secrets, and durable before its sender is told.

``zstd`` bodies are decoded to the given size and not a byte further. ``dcz`` (RFC 9842 §5) is a frame that refers to a
dictionary, named by its SHA-256: any blob that is here, such as the file that the new one replaces.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from hashlib import sha256
from typing import Protocol

from assetserver.errors import (
    BadRequestError,
    DictionaryMissingError,
    DigestMismatchError,
    PublishError,
    TooLargeError,
    UnsupportedTypeError,
)
from assetserver.releases.secretfiles import LIMIT_HEAD, holds_secret
from assetserver.storage.blobs import BlobStore, Digest, PushedBlobs
from assetserver.storage.codecs import DCZ_HEADER_BYTES, DCZ_MAGIC, DECODE_ERRORS, DICTIONARY_MINIMUM_BYTES, ZstdStream
from assetserver.storage.pools import FilePool, wait_future

BATCH_BYTES = 1 << 20
DICTIONARY_LIMIT_BYTES = 32 << 20
"""Larger blobs are no dictionaries: they would be held in memory, and the frame may want as much again."""

CODINGS = ("identity", "zstd", "dcz")
_SLACK_BYTES = 64 << 10
_SLACK_SHARE = 64
"""What a coded body may have more than the file: so many bytes, and one for so many. zstd itself needs less."""


class Blobs(BlobStore, PushedBlobs, Protocol):
    """What receiving needs of a store."""


class Arrival:
    """A blob on its way into ``blobs``. All methods block, and may be called from any thread, one after another.

    ``size``: how many bytes it must have, if that is known; ``limit_bytes``: how many it may have. ``keeps_secrets``: do not
    refuse what holds a private key.
    """

    def __init__(
        self, blobs: Blobs, digest: Digest, coding: str, size: int | None, limit_bytes: int, *, keeps_secrets: bool
    ) -> None:
        if coding not in CODINGS:
            raise UnsupportedTypeError(f"Content-Encoding: {coding} is not decoded here; {', '.join(CODINGS)} are")
        check_size(size, limit_bytes)
        self._decoder = _decoder_of(coding, blobs)
        self._size = size
        self._limit_bytes = limit_bytes
        self._head = b"" if not keeps_secrets else None
        self._lock = threading.Lock()
        self._writer = blobs.begin(digest)

    def take(self, pieces: list[bytes]) -> None:
        """Take more of the body. Raises ``BadRequestError`` for what does not decode, ``TooLargeError`` for too much."""
        with self._lock:
            try:
                for piece in pieces:
                    self._writer.write(map(self._measure, self._decoder.feed(piece)))
            except DECODE_ERRORS as error:
                raise _undecodable(error) from error

    def finish(self) -> bool:
        """Store the blob durably, and end; False if it was there.

        Raises ``BadRequestError`` for a body that is cut, ``DigestMismatchError`` for other bytes than announced, and
        ``PublishError`` for a secret.
        """
        with self._lock, closing(self._writer):
            try:
                self._decoder.close()
            except DECODE_ERRORS as error:
                raise _undecodable(error) from error
            if self._size is not None and self._writer.size != self._size:
                raise DigestMismatchError(
                    f"the file has {self._writer.size:,} bytes, not {self._size:,}; it changed, or was cut"
                )
            if self._head and (what := holds_secret(self._head)):
                raise PublishError(f"this looks like {what}, and is not kept; remove it from the folder that is published")
            return self._writer.finish()

    def close(self) -> None:
        """Forget what was not stored; may be repeated."""
        with self._lock:
            self._writer.close()

    def _measure(self, piece: bytes) -> bytes:
        """Count ``piece`` before it is written, and keep the beginning of the file."""
        size = self._writer.size + len(piece)
        if size > (self._limit_bytes if self._size is None else self._size):
            raise _too_long(self._size, self._limit_bytes)
        if self._head is not None and len(self._head) < LIMIT_HEAD:
            self._head += piece[: LIMIT_HEAD - len(self._head)]
        return piece


def check_size(size: int | None, limit_bytes: int) -> None:
    """Raise ``TooLargeError`` for a size beyond the limit, if the size is known."""
    if size is not None and size > limit_bytes:
        raise _too_large(limit_bytes)


class Bound:
    """How long the body of a blob may be; arguments as those of ``Arrival``."""

    def __init__(self, coding: str, size: int | None, limit_bytes: int) -> None:
        self._size, self._limit_bytes = size, limit_bytes
        most = limit_bytes if size is None else size
        self.most_bytes = most if coding == "identity" else most + most // _SLACK_SHARE + _SLACK_BYTES

    def check(self, length: int | None) -> None:
        """Raise ``DigestMismatchError`` or ``TooLargeError`` for a body of too many bytes; None is not known yet."""
        if length is not None and length > self.most_bytes:
            raise _too_long(self._size, self._limit_bytes)

    async def hold(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield ``body`` as it comes. Raises what ``check`` does as soon as it is too long."""
        received = 0
        async for chunk in body:
            received += len(chunk)
            self.check(received)
            yield chunk


async def receive_blob(arrival: Arrival, body: AsyncIterator[bytes], pool: FilePool) -> bool:
    """Take ``body`` in batches on ``pool``, and return whether the blob is new. Raises what ``Arrival`` does."""
    batch: list[bytes] = []
    size = 0
    try:
        async for chunk in body:
            batch.append(chunk)
            size += len(chunk)
            if size >= BATCH_BYTES:
                await wait_future(pool.submit(arrival.take, [b"".join(batch)]))
                batch, size = [], 0
        return await wait_future(pool.submit(_end, arrival, b"".join(batch)))
    except BaseException:
        pool.submit(arrival.close)
        raise


def _end(arrival: Arrival, rest: bytes) -> bool:
    """Take the rest and finish, on one thread: most files are one batch, and a hop costs as much as hashing them."""
    arrival.take([rest])
    return arrival.finish()


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield ``data``."""
        if data:
            yield data

    def close(self) -> None:
        """Do nothing: any end is one."""


class _DictionaryStream:
    """``dcz``: a header that names the dictionary, then one zstd frame."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._header = b""
        self._stream: ZstdStream | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what more ``data`` decodes to."""
        if self._stream is None:
            wanted = DCZ_HEADER_BYTES - len(self._header)
            self._header, data = self._header + data[:wanted], data[wanted:]
            if len(self._header) < DCZ_HEADER_BYTES:
                return
            self._stream = ZstdStream(self._read_dictionary())
        yield from self._stream.feed(data)

    def close(self) -> None:
        """Raise ``EOFError`` unless the frame is whole."""
        if self._stream is None:
            raise EOFError("the dcz stream is cut")
        self._stream.close()

    def _read_dictionary(self) -> bytes:
        if not self._header.startswith(DCZ_MAGIC):
            raise BadRequestError("this is no dcz stream: it does not begin as RFC 9842 has it")
        digest = Digest(self._header[len(DCZ_MAGIC) :].hex())
        size = self._blobs.size_of(digest)
        if size is None or not DICTIONARY_MINIMUM_BYTES <= size <= DICTIONARY_LIMIT_BYTES:
            raise DictionaryMissingError(f"there is no dictionary {digest} here; send the file without")
        content = b"".join(self._blobs.read(digest))
        if sha256(content).hexdigest() != digest:
            raise DictionaryMissingError(f"the dictionary {digest} is damaged; send the file without")
        return content


def _decoder_of(coding: str, blobs: BlobStore) -> _Identity | ZstdStream | _DictionaryStream:
    if coding == "identity":
        return _Identity()
    return ZstdStream() if coding == "zstd" else _DictionaryStream(blobs)


def _too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(f"the file is larger than {limit_bytes:,} bytes, the limit of this server (publish.blob_limit_bytes)")


def _too_long(size: int | None, limit_bytes: int) -> DigestMismatchError | TooLargeError:
    if size is None or size > limit_bytes:
        return _too_large(limit_bytes)
    return DigestMismatchError(f"the file has more than {size:,} bytes; it changed meanwhile")


def _undecodable(error: Exception) -> BadRequestError:
    return BadRequestError(f"the body does not decode: {error}")

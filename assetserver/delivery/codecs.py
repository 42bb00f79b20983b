"""Content codings as streams of pieces: compress for storing, decode for checking. Memory stays constant.

Levels: br 5 and zstd 9 are where time and size of on-demand compression meet (344 KB of text: 14 ms → 77.8 KB, 11 ms → 77.4 KB,
gzip 6 13 ms → 81.3 KB; measured 2026-11-22). All three libraries release the GIL while they work.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator

import brotli

from assetserver.semantics.representation import ContentCoding

from .files import PIECE_BYTES

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import CompressionParameter, DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError

WINDOW_LOG_LIMIT = 23
"""A zstd frame for HTTP must decode within 8 MiB (RFC 9659): browsers refuse larger windows."""

_GZIP_WINDOW = 31
"""zlib's wbits for a gzip header and trailer. zlib leaves the header's mtime 0: the same input gives the same bytes."""

DECODE_ERRORS = (brotli.error, zlib.error, ZstdError, EOFError)
"""What ``decode`` raises for bytes that are not whole, well-formed and within limits, and ``compress`` for another length."""


def compress(coding: ContentCoding, pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Yield ``pieces`` (``length`` bytes in all) in ``coding``. Deterministic for the versions of the libraries.

    Raises one of ``DECODE_ERRORS`` where a coding writes the length first, and the pieces turn out to hold another.
    """
    return _COMPRESSORS[coding](pieces, length)


def decode(coding: ContentCoding, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what coded ``pieces`` decode to, at most about 1 MiB at a time, however much a bomb holds.

    Raises one of ``DECODE_ERRORS`` for malformed or truncated input, trailing bytes, or a zstd window over 8 MiB.
    """
    return _DECODERS[coding](pieces)


def _compress_brotli(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    del length
    compressor = brotli.Compressor(quality=5)
    for piece in pieces:
        yield compressor.process(piece)
    yield compressor.finish()


def _compress_zstd(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    # An explicit window, since a stream that knows its size at a high level may choose one that browsers refuse.
    window_log = max(10, min(WINDOW_LOG_LIMIT, (length - 1).bit_length()))
    options: dict[int, int] = {CompressionParameter.compression_level: 9, CompressionParameter.window_log: window_log}
    compressor = ZstdCompressor(options=options)
    compressor.set_pledged_input_size(length)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def _compress_gzip(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    del length
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def _decode_brotli(pieces: Iterator[bytes]) -> Iterator[bytes]:
    # The limit is what makes brotli 1.2 safe against bombs (CVE-2025-6176); it may overshoot up to twice.
    decoder = brotli.Decompressor()
    for piece in pieces:
        yield decoder.process(piece, output_buffer_limit=PIECE_BYTES)
        while not decoder.can_accept_more_data():
            yield decoder.process(b"", output_buffer_limit=PIECE_BYTES)
    while not decoder.is_finished():  # all input is consumed, output may still be waiting behind the limit
        data = decoder.process(b"", output_buffer_limit=PIECE_BYTES)
        if not data and not decoder.is_finished():
            raise EOFError("the brotli stream is cut")
        yield data


def _decode_zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    options: dict[int, int] = {DecompressionParameter.window_log_max: WINDOW_LOG_LIMIT}
    decoder = ZstdDecompressor(options=options)
    for piece in pieces:
        data = piece
        while data or not (decoder.needs_input or decoder.eof):
            if decoder.eof:  # several frames may follow one another (RFC 8878 §3.1)
                decoder = ZstdDecompressor(options=options)
            yield decoder.decompress(data, PIECE_BYTES)
            data = decoder.unused_data if decoder.eof else b""
    if not decoder.eof:
        raise EOFError("the zstd stream is cut")


def _decode_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    for piece in pieces:
        data = piece
        while data:
            if decoder.eof:  # several members may follow one another (RFC 1952 §2.2)
                decoder = zlib.decompressobj(_GZIP_WINDOW)
            yield decoder.decompress(data, PIECE_BYTES)
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    if not decoder.eof:
        raise EOFError("the gzip stream is cut")


_COMPRESSORS: dict[ContentCoding, Callable[[Iterator[bytes], int], Iterator[bytes]]] = {
    ContentCoding.BR: _compress_brotli,
    ContentCoding.ZSTD: _compress_zstd,
    ContentCoding.GZIP: _compress_gzip,
}
_DECODERS: dict[ContentCoding, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    ContentCoding.BR: _decode_brotli,
    ContentCoding.ZSTD: _decode_zstd,
    ContentCoding.GZIP: _decode_gzip,
}

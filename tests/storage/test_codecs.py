"""Codings as streams: what is compressed decodes to the same, and what is not well-formed never decodes."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver.delivery.files import PIECE_BYTES
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.codecs import DECODE_ERRORS, WINDOW_LOG_LIMIT, ZstdCompressor, compress, decode
from assetserver.storage.codecs import CompressionParameter as Zstd

CODINGS = (ContentCoding.BR, ContentCoding.ZSTD, ContentCoding.GZIP)
TEXT = b"".join(b"line %d of a stylesheet\n" % number for number in range(5000))

pytestmark = pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.value)


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def encode(coding: ContentCoding, content: bytes, size: int = PIECE_BYTES) -> bytes:
    return b"".join(compress(coding, cut(content, size), len(content)))


def decode_whole(coding: ContentCoding, coded: bytes, size: int = PIECE_BYTES) -> bytes:
    return b"".join(decode(coding, cut(coded, size)))


@pytest.mark.parametrize("content", [b"", b"x", TEXT, bytes(3 * PIECE_BYTES + 1)], ids=["empty", "byte", "text", "zeros"])
@pytest.mark.parametrize("size", [7, PIECE_BYTES])
def test_what_is_compressed_decodes_to_the_same(coding, content, size):
    coded = encode(coding, content, max(size, len(content) // 1000 + 1))
    assert decode_whole(coding, coded, size) == content


def test_the_same_input_gives_the_same_bytes(coding):
    assert encode(coding, TEXT) == encode(coding, TEXT)


def test_text_gets_much_smaller(coding):
    assert len(encode(coding, TEXT)) < len(TEXT) / 4


def test_other_implementations_understand_the_result(coding):
    decoders = {ContentCoding.BR: brotli.decompress, ContentCoding.GZIP: gzip.decompress}
    if decoder := decoders.get(coding):
        assert decoder(encode(coding, TEXT)) == TEXT


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=2000), size=st.integers(1, 300))
def test_any_bytes_survive_any_cutting(coding, content, size):
    assert decode_whole(coding, encode(coding, content, size), size) == content


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_cut_stream_never_decodes(coding, kept):
    with pytest.raises(DECODE_ERRORS):
        decode_whole(coding, encode(coding, TEXT)[:kept])


def test_every_cut_of_a_short_stream_is_noticed(coding):
    coded = encode(coding, b"hello world, hello world, hello world")
    for kept in range(len(coded)):
        with pytest.raises(DECODE_ERRORS):
            decode_whole(coding, coded[:kept])


@pytest.mark.parametrize("junk", [b"\x00", b"junk after the stream", b"\n" * 3])
@pytest.mark.parametrize("size", [1, PIECE_BYTES])
def test_bytes_after_the_stream_are_an_error(coding, junk, size):
    with pytest.raises(DECODE_ERRORS):
        decode_whole(coding, encode(coding, TEXT) + junk, size)


@pytest.mark.parametrize("coded", [b"not coded at all, just text" * 10, b"\xff" * 100, b"<!doctype html>"])
def test_what_was_never_coded_does_not_decode(coding, coded):
    with pytest.raises(DECODE_ERRORS):
        decode_whole(coding, coded)


def test_a_flipped_byte_is_an_error_or_other_bytes_but_never_the_same(coding):
    coded = bytearray(encode(coding, TEXT))
    coded[len(coded) // 2] ^= 0x55
    with suppress(*DECODE_ERRORS):
        assert decode_whole(coding, bytes(coded)) != TEXT


@settings(max_examples=50, deadline=None)
@given(noise=st.binary(max_size=300))
def test_noise_raises_nothing_but_decode_errors(coding, noise):
    with suppress(*DECODE_ERRORS):
        decode_whole(coding, noise, 50)


def test_a_bomb_comes_in_small_pieces(coding):
    bomb = encode(coding, bytes(64 << 20), 1 << 20)
    tracemalloc.start()
    try:
        total = 0
        for piece in decode(coding, iter([bomb])):
            assert len(piece) <= 2 * PIECE_BYTES
            total += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 12 << 20


def test_streams_that_follow_one_another_decode_as_one(coding):
    if coding is ContentCoding.BR:
        with pytest.raises(DECODE_ERRORS):  # a brotli stream has an end, and nothing may follow it (RFC 7932 §2)
            decode_whole(coding, encode(coding, TEXT) + encode(coding, TEXT))
        return
    double = encode(coding, TEXT) + encode(coding, b"and more")
    for size in (1, 100, PIECE_BYTES):
        assert decode_whole(coding, double, size) == TEXT + b"and more"


@pytest.mark.parametrize(("window_log", "accepted"), [(WINDOW_LOG_LIMIT, True), (WINDOW_LOG_LIMIT + 1, False), (27, False)])
def test_a_zstd_window_over_eight_mebibytes_is_refused(coding, window_log, accepted):
    if coding is not ContentCoding.ZSTD:
        return
    compressor = ZstdCompressor(options={Zstd.window_log: window_log, Zstd.enable_long_distance_matching: 1})
    frame = compressor.compress(bytes(1 << 20)) + compressor.flush()  # size unknown: the frame declares its window
    if accepted:
        assert decode_whole(coding, frame) == bytes(1 << 20)
    else:
        with pytest.raises(DECODE_ERRORS):
            decode_whole(coding, frame)


def test_a_zstd_form_of_a_large_file_stays_within_the_window(coding):
    if coding is not ContentCoding.ZSTD:
        return
    length = 40 << 20
    coded = b"".join(compress(coding, (bytes(1 << 20) for _ in range(40)), length))
    assert sum(len(piece) for piece in decode(coding, iter([coded]))) == length


def test_a_gzip_form_carries_no_time_stamp(coding):
    if coding is ContentCoding.GZIP:
        assert encode(coding, TEXT)[4:8] == bytes(4)


def test_a_deflate_stream_without_gzip_header_is_refused(coding):
    if coding is ContentCoding.GZIP:
        with pytest.raises(DECODE_ERRORS):
            decode_whole(coding, zlib.compress(TEXT))

"""A blob arrives: decoded, measured, hashed; whatever is wrong with it, nothing of it stays."""

import os
import resource
import struct
from hashlib import sha256

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetserver.errors import (
    AssetServerError,
    BadRequestError,
    DictionaryMissingError,
    DigestMismatchError,
    PublishError,
    TooLargeError,
    UnsupportedTypeError,
)
from assetserver.remote.receiving import DICTIONARY_LIMIT_BYTES, Arrival, receive_blob
from assetserver.semantics.representation import ContentCoding
from assetserver.storage import codecs
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import ZstdCompressor, ZstdDict, compress
from assetserver.storage.files import FileBlobs
from assetserver.storage.pools import FilePool

OLD = b"".join(b"export const line%d = %d;\n" % (i, i * i) for i in range(5000))
NEW = OLD.replace(b"line700 =", b"line700 /* new */ =")
LIMIT = 1 << 30
KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg" + b"\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def blobs(tmp_path):
    found = FileBlobs(str(tmp_path / "blobs"))
    yield found
    assert os.listdir(tmp_path / "blobs" / "tmp") == []


def digest_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


def zstd(content: bytes) -> bytes:
    return b"".join(compress(ContentCoding.ZSTD, [content], len(content)))


def dcz(content: bytes, dictionary: bytes) -> bytes:
    compressor = ZstdCompressor(level=9, zstd_dict=ZstdDict(dictionary, is_raw=True).as_prefix)
    header = bytes.fromhex("5e2a4d1820000000") + sha256(dictionary).digest()
    return header + compressor.compress(content) + compressor.flush()


def take(blobs: FileBlobs, body: bytes, expected: bytes, coding: str = "identity", size: int | None = None, **options) -> bool:
    """Receive a body in pieces of 1,000 bytes."""
    kept = {"limit_bytes": LIMIT, "keeps_secrets": False} | options
    arrival = Arrival(blobs, digest_of(expected), coding, size, kept["limit_bytes"], keeps_secrets=kept["keeps_secrets"])
    try:
        arrival.take([body[at : at + 1000] for at in range(0, len(body), 1000)])
        return arrival.finish()
    finally:
        arrival.close()
        arrival.close()


@pytest.mark.parametrize("content", [b"", b"x", NEW])
@pytest.mark.parametrize("coding", ["identity", "zstd"])
@pytest.mark.parametrize("is_sized", [True, False])
def test_what_arrives_is_a_blob(blobs, content, coding, is_sized):
    body = content if coding == "identity" else zstd(content)
    assert take(blobs, body, content, coding, len(content) if is_sized else None) is True
    assert b"".join(blobs.read(digest_of(content))) == content
    assert take(blobs, body, content, coding) is False


def test_a_delta_against_a_blob_that_is_here_takes_few_bytes(blobs):
    blobs.put(digest_of(OLD), [OLD])
    body = dcz(NEW, OLD)
    assert len(body) < 200
    assert take(blobs, body, NEW, "dcz", len(NEW)) is True
    assert b"".join(blobs.read(digest_of(NEW))) == NEW


def test_a_delta_may_come_byte_by_byte(blobs):
    blobs.put(digest_of(OLD), [OLD])
    arrival = Arrival(blobs, digest_of(NEW), "dcz", None, LIMIT, keeps_secrets=False)
    for byte in dcz(NEW, OLD):
        arrival.take([bytes([byte])])
    assert arrival.finish() is True
    arrival.close()


def test_a_delta_against_what_is_not_here_is_refused(blobs):
    with pytest.raises(DictionaryMissingError, match="there is no dictionary"):
        take(blobs, dcz(NEW, OLD), NEW, "dcz")


@pytest.mark.parametrize("size", [0, 7, DICTIONARY_LIMIT_BYTES + 1])
def test_what_is_too_small_or_too_large_is_no_dictionary(blobs, size):
    content = bytes(size)
    blobs.put(digest_of(content), [content])
    body = bytes.fromhex("5e2a4d1820000000") + sha256(content).digest() + zstd(NEW)
    with pytest.raises(DictionaryMissingError):
        take(blobs, body, NEW, "dcz")


def test_a_damaged_dictionary_is_none(blobs):
    blobs.put(digest_of(OLD), [OLD])
    path = blobs.path_of(digest_of(OLD))
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"damaged")
    with pytest.raises(DictionaryMissingError, match="damaged"):
        take(blobs, dcz(NEW, OLD), NEW, "dcz")


@pytest.mark.parametrize("cut", [0, 1, 8, 39, 40, 41, -1])
def test_a_cut_delta_is_refused(blobs, cut):
    blobs.put(digest_of(OLD), [OLD])
    with pytest.raises(BadRequestError, match="does not decode"):
        take(blobs, dcz(NEW, OLD)[:cut], NEW, "dcz")


@pytest.mark.parametrize("body", [b"x" * 40, b"\x28\xb5\x2f\xfd" + bytes(60), bytes.fromhex("5e2a4d1821000000") + bytes(60)])
def test_what_does_not_begin_as_a_delta_is_none(blobs, body):
    with pytest.raises(BadRequestError, match="no dcz stream"):
        take(blobs, body, NEW, "dcz")


def test_bytes_behind_a_delta_are_refused(blobs):
    blobs.put(digest_of(OLD), [OLD])
    with pytest.raises(BadRequestError, match="bytes follow the frame"):
        take(blobs, dcz(NEW, OLD) + zstd(b"more"), NEW + b"more", "dcz")


@pytest.mark.parametrize("body", [b"no zstd at all", zstd(NEW)[:-1], zstd(NEW)[:10], zstd(NEW) + b"tail", b""])
def test_a_body_that_does_not_decode_is_refused(blobs, body):
    with pytest.raises(BadRequestError, match="does not decode"):
        take(blobs, body, NEW, "zstd")


@pytest.mark.parametrize("coding", ["identity", "zstd", "dcz"])
def test_other_bytes_than_those_announced_are_refused(blobs, coding):
    blobs.put(digest_of(OLD), [OLD])
    body = {"identity": NEW, "zstd": zstd(NEW), "dcz": dcz(NEW, OLD)}[coding]
    with pytest.raises(DigestMismatchError):
        take(blobs, body, b"something else", coding)
    assert blobs.size_of(digest_of(NEW)) is None


@pytest.mark.parametrize("size", [0, 1, len(NEW) - 1, len(NEW) + 1])
@pytest.mark.parametrize("coding", ["identity", "zstd"])
def test_another_size_than_announced_is_refused(blobs, size, coding):
    with pytest.raises(DigestMismatchError, match="the file has"):
        take(blobs, NEW if coding == "identity" else zstd(NEW), NEW, coding, size)
    assert blobs.size_of(digest_of(NEW)) is None


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd, zstd", "deflate", ""])
def test_other_codings_are_not_decoded(tmp_path, coding):
    with pytest.raises(UnsupportedTypeError, match="identity, zstd, dcz are"):
        Arrival(FileBlobs(str(tmp_path)), digest_of(b""), coding, None, LIMIT, keeps_secrets=False)
    assert os.listdir(tmp_path) == []


def test_a_size_beyond_the_limit_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(TooLargeError, match=r"larger than 10 bytes.*publish\.blob_limit_bytes"):
        Arrival(FileBlobs(str(tmp_path)), digest_of(b""), "identity", 11, 10, keeps_secrets=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("coding", ["identity", "zstd"])
def test_more_bytes_than_the_limit_are_refused(blobs, coding):
    with pytest.raises(TooLargeError):
        take(blobs, NEW if coding == "identity" else zstd(NEW), NEW, coding, limit_bytes=len(NEW) - 1)
    assert take(blobs, NEW, NEW, limit_bytes=len(NEW)) is True


def make_bomb(size: int) -> bytes:
    """Return a zstd frame of a few bytes per 128 KiB of zeros."""
    block = struct.pack("<I", (128 << 10) << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", 1 << 3 | 1 << 1 | 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * (size // (128 << 10)) + last


def test_a_bomb_is_let_burst_only_as_far_as_the_size_that_was_announced(blobs):
    bomb = make_bomb(64 << 30)
    assert len(bomb) < 4 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DigestMismatchError, match="more than 5,000 bytes"):
        take(blobs, bomb, b"", "zstd", 5000)
    with pytest.raises(TooLargeError):
        take(blobs, bomb, b"", "zstd", limit_bytes=3 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_frame_that_wants_a_large_window_is_refused(blobs):
    options = {codecs.CompressionParameter.compression_level: 3, codecs.CompressionParameter.window_log: 27}
    compressor = ZstdCompressor(options=options)
    body = compressor.compress(os.urandom(9 << 20)) + compressor.flush()
    with pytest.raises(BadRequestError, match="does not decode"):
        take(blobs, body, b"", "zstd")


@pytest.mark.parametrize("coding", ["identity", "zstd"])
def test_a_private_key_is_not_kept(blobs, coding):
    body = KEY if coding == "identity" else zstd(KEY)
    with pytest.raises(PublishError, match="looks like a private key"):
        take(blobs, body, KEY, coding)
    assert blobs.size_of(digest_of(KEY)) is None
    assert take(blobs, body, KEY, coding, keeps_secrets=True) is True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), coding=st.sampled_from(["zstd", "dcz"]), prefix=st.sampled_from([0, 8, 40, 60]))
def test_no_body_does_more_than_be_refused(blobs, body, coding, prefix):
    blobs.put(digest_of(OLD), [OLD])
    whole = dcz(NEW, OLD) if coding == "dcz" else zstd(NEW)
    with pytest.raises(AssetServerError):
        take(blobs, whole[:prefix] + body, NEW, coding)


def test_a_body_that_is_cut_leaves_nothing(blobs):
    pool = FilePool("test", 2)

    async def cut():
        yield NEW[:1000]
        yield NEW[1000:2000]
        raise ConnectionResetError

    async def run() -> None:
        arrival = Arrival(blobs, digest_of(NEW), "identity", None, LIMIT, keeps_secrets=False)
        with pytest.raises(ConnectionResetError):
            await receive_blob(arrival, cut(), pool)

    anyio.run(run)
    pool.submit(lambda: None).result()
    pool.close()
    assert blobs.size_of(digest_of(NEW)) is None


def test_large_bodies_are_taken_in_batches(blobs, monkeypatch):
    content = os.urandom(5 << 20)
    pool = FilePool("test", 2)
    sizes: list[int] = []
    real = Arrival.take

    def take_batch(self: Arrival, pieces: list[bytes]) -> None:
        sizes.append(sum(map(len, pieces)))
        real(self, pieces)

    monkeypatch.setattr(Arrival, "take", take_batch)

    async def chunks():
        for at in range(0, len(content), 65_536):
            yield content[at : at + 65_536]

    async def run() -> bool:
        arrival = Arrival(blobs, digest_of(content), "identity", len(content), LIMIT, keeps_secrets=False)
        return await receive_blob(arrival, chunks(), pool)

    assert anyio.run(run) is True
    pool.close()
    assert sizes == [1 << 20] * 5 + [0]  # the end may hold nothing

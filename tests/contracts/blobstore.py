"""What every ``BlobStore`` keeps. An engine's own test file inherits it and says how to make an empty store."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import sha256
from threading import Barrier

import pytest

from assetserver.errors import BlobMissingError, DigestMismatchError
from assetserver.storage.blobs import BlobStore, Digest

THREADS = 8
LARGE = bytes(range(256)) * 12_289


def digest_of(content: bytes) -> Digest:
    """Return the name of the blob that holds ``content``."""
    return Digest(sha256(content).hexdigest())


def put(store: BlobStore, *pieces: bytes) -> Digest:
    """Store a blob and return its name."""
    digest = digest_of(b"".join(pieces))
    assert store.put(digest, pieces) == len(b"".join(pieces))
    return digest


def read(store: BlobStore, digest: Digest) -> bytes:
    """Return a blob's bytes."""
    return b"".join(store.read(digest))


class BlobStoreContract:
    """Inherit it, and have a fixture ``store`` return an empty store."""

    @pytest.mark.parametrize("content", [b"", b"x", LARGE], ids=["empty", "byte", "large"])
    def test_what_is_put_is_read(self, store: BlobStore, content: bytes):
        digest = put(store, content)
        assert store.size_of(digest) == len(content)
        assert read(store, digest) == content

    def test_pieces_are_joined_in_order(self, store: BlobStore):
        assert read(store, put(store, b"one ", b"", b"two ", b"three")) == b"one two three"

    def test_a_blob_that_is_not_there_has_no_size(self, store: BlobStore):
        assert store.size_of(digest_of(b"nothing")) is None

    def test_reading_what_is_not_there_is_an_error(self, store: BlobStore):
        with pytest.raises(BlobMissingError):
            read(store, digest_of(b"nothing"))

    def test_the_same_bytes_twice_are_one_blob(self, store: BlobStore):
        assert put(store, b"same") == put(store, b"sa", b"me")
        assert [one.size for one in store.list_blobs()] == [4]

    def test_confirming_takes_what_is_there_and_what_is_not(self, store: BlobStore):
        store.confirm([])
        digest = put(store, b"there")
        store.confirm([digest, digest_of(b"not there")])
        assert [one.digest for one in store.list_blobs()] == [digest]

    def test_a_wrong_digest_stores_nothing(self, store: BlobStore):
        with pytest.raises(DigestMismatchError):
            store.put(digest_of(b"other"), [b"these"])
        assert list(store.list_blobs()) == []
        assert store.size_of(digest_of(b"other")) is None

    def test_pieces_that_fail_store_nothing(self, store: BlobStore):
        def fail() -> Iterator[bytes]:
            yield b"half"
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            store.put(digest_of(b"half and whole"), fail())
        assert list(store.list_blobs()) == []
        assert put(store, b"half and whole")

    @pytest.mark.parametrize("name", ["", "ab", "../" * 20 + "etc", "A" * 64, "0" * 63 + "\n", "0" * 64 + "\n"])
    def test_what_is_not_a_digest_is_refused(self, store: BlobStore, name: str):
        digest = Digest(name)
        for call in (lambda: store.put(digest, [b""]), lambda: store.size_of(digest), lambda: store.delete(digest)):
            with pytest.raises(ValueError, match="not a SHA-256"):
                call()
        with pytest.raises(ValueError, match="not a SHA-256"):
            read(store, digest)

    def test_every_blob_is_listed_once(self, store: BlobStore):
        contents = [b"%d" % number * number for number in range(1, 40)]
        digests = {put(store, content): len(content) for content in contents}
        listed = list(store.list_blobs())
        assert len(listed) == len(digests)
        assert {one.digest: one.size for one in listed} == digests

    def test_an_empty_store_lists_nothing(self, store: BlobStore):
        assert list(store.list_blobs()) == []

    def test_what_is_deleted_is_gone_and_may_come_again(self, store: BlobStore):
        digest = put(store, b"come and go")
        assert store.delete(digest)
        assert not store.delete(digest)
        assert store.size_of(digest) is None
        assert list(store.list_blobs()) == []
        assert read(store, put(store, b"come and go")) == b"come and go"

    def test_sweeping_leaves_what_is_stored(self, store: BlobStore):
        digest = put(store, b"stored")
        assert store.sweep(-60) == []
        assert read(store, digest) == b"stored"

    def test_a_put_that_is_swept_stores_the_whole_blob_or_nothing(self, store: BlobStore):
        def sweep_meanwhile() -> Iterator[bytes]:
            yield LARGE[:1000]
            store.sweep(-60)
            yield LARGE[1000:]

        with suppress(OSError):
            store.put(digest_of(LARGE), sweep_meanwhile())
            assert read(store, digest_of(LARGE)) == LARGE
        assert store.put(digest_of(LARGE), [LARGE]) == len(LARGE)
        assert read(store, digest_of(LARGE)) == LARGE
        assert store.sweep(-60) == []

    def test_a_put_beside_one_in_flight_does_not_wait_for_it(self, store: BlobStore):
        def put_it_meanwhile() -> Iterator[bytes]:
            assert store.put(digest_of(LARGE), [LARGE]) == len(LARGE)
            yield LARGE

        assert store.put(digest_of(LARGE), put_it_meanwhile()) == len(LARGE)
        assert read(store, digest_of(LARGE)) == LARGE

    def test_threads_that_put_the_same_blob_at_once_all_succeed(self, store: BlobStore):
        together = Barrier(THREADS)

        def store_it(_: int) -> int:
            together.wait()
            return store.put(digest_of(LARGE), [LARGE])

        with ThreadPoolExecutor(THREADS) as pool:
            assert set(pool.map(store_it, range(THREADS))) == {len(LARGE)}
        assert [one.digest for one in store.list_blobs()] == [digest_of(LARGE)]

    def test_threads_put_many_blobs_at_once(self, store: BlobStore):
        contents = [os.urandom(100) for _ in range(60)]
        with ThreadPoolExecutor(THREADS) as pool:
            digests = list(pool.map(lambda content: put(store, content), contents))
        assert [read(store, digest) for digest in digests] == contents


class PushedBlobsContract:
    """What every engine keeps that takes bytes as they come; ``store`` as above."""

    @pytest.mark.parametrize("pieces", [(), (b"",), (b"one",), (b"one", b"two"), (LARGE, LARGE)])
    def test_what_is_written_is_read(self, store: BlobStore, pieces: tuple[bytes, ...]):
        content = b"".join(pieces)
        with closing(store.begin(digest_of(content))) as writer:
            for piece in pieces:
                writer.write([piece])
            assert writer.size == len(content)
            assert writer.finish() is True
        assert read(store, digest_of(content)) == content

    def test_a_blob_that_is_there_stays_and_is_not_new(self, store: BlobStore):
        digest = put(store, b"there")
        with closing(store.begin(digest)) as writer:
            writer.write([b"there"])
            assert writer.finish() is False
        assert read(store, digest) == b"there"

    def test_other_bytes_than_announced_are_not_stored(self, store: BlobStore):
        with closing(store.begin(digest_of(b"announced"))) as writer:
            writer.write([b"another"])
            with pytest.raises(DigestMismatchError):
                writer.finish()
        assert list(store.list_blobs()) == []

    def test_what_is_not_finished_is_forgotten(self, store: BlobStore):
        writer = store.begin(digest_of(b"announced"))
        writer.write([b"announced"])
        writer.close()
        writer.close()
        assert list(store.list_blobs()) == []
        assert store.sweep(-60) == []

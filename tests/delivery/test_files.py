"""Opening, signing, reading and hashing real files."""

import os
import socket
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.delivery import files
from assetserver.delivery.files import PIECE_BYTES, hash_pieces, open_regular, read_pieces, read_whole
from assetserver.storage.signatures import sign


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.txt"
    found.write_bytes(b"hello world")
    return found


def test_a_regular_file_opens_with_its_status(path):
    descriptor, status = open_regular(str(path))
    try:
        assert status.st_size == 11
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_a_folder_does_not_open(tmp_path, count_descriptors):
    with pytest.raises(IsADirectoryError):
        open_regular(str(tmp_path))
    assert count_descriptors(tmp_path) == 0


def test_a_fifo_without_a_writer_neither_opens_nor_blocks(tmp_path, count_descriptors):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        open_regular(str(tmp_path / "pipe"))
    assert count_descriptors(tmp_path) == 0


def test_a_device_does_not_open():
    with pytest.raises(FileNotFoundError):
        open_regular("/dev/zero")


def test_a_socket_does_not_open(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="No such device"):
            open_regular(str(tmp_path / "s"))


def test_pieces_are_one_mebibyte_and_reassemble(tmp_path):
    content = os.urandom(2 * PIECE_BYTES + 17)
    (tmp_path / "big").write_bytes(content)
    descriptor, _ = open_regular(str(tmp_path / "big"))
    try:
        pieces = list(read_pieces(descriptor))
    finally:
        os.close(descriptor)
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 17]
    assert b"".join(pieces) == content
    assert hash_pieces(iter(pieces)) == (sha256(content).digest(), len(content))


def test_hashing_nothing_is_the_digest_of_nothing():
    assert hash_pieces(iter(())) == (sha256().digest(), 0)


def test_a_file_reads_whole_while_it_is_what_was_signed(path):
    assert read_whole(str(path), sign(path.stat())) == b"hello world"


def test_an_empty_file_reads_as_nothing_and_not_as_changed(tmp_path):
    (tmp_path / "empty").touch()
    assert read_whole(str(tmp_path / "empty"), sign((tmp_path / "empty").stat())) == b""


def test_a_replaced_file_does_not_read_even_with_size_and_times_preserved(path):
    before = path.stat()
    other = path.with_name("b")
    other.write_bytes(b"HELLO WORLD")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert read_whole(str(path), sign(before)) is None


def test_a_file_that_changes_while_it_is_read_does_not_read(path, monkeypatch):
    def read_then_change(descriptor):
        yield from read_pieces(descriptor)
        path.write_bytes(b"hello there")

    expected = sign(path.stat())
    monkeypatch.setattr(files, "read_pieces", read_then_change)
    assert read_whole(str(path), expected) is None


def test_a_missing_file_does_not_read(path):
    expected = sign(path.stat())
    path.unlink()
    assert read_whole(str(path), expected) is None


def test_content_that_is_not_what_was_hashed_does_not_read(path):
    expected = sign(path.stat())
    assert read_whole(str(path), expected, sha256(b"hello world").digest()) == b"hello world"
    assert read_whole(str(path), expected, sha256(b"HELLO WORLD").digest()) is None


def test_reading_leaves_no_descriptor(path, tmp_path, count_descriptors):
    read_whole(str(path), sign(path.stat()))
    read_whole(str(path), sign(tmp_path.stat()))
    assert count_descriptors(tmp_path) == 0

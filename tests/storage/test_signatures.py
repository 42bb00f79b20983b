"""Files that are read only as long as they are in the state that they were found in."""

import os
import socket
from pathlib import Path

import pytest

from assetserver.errors import FileChangedError
from assetserver.storage.signatures import open_signed, read_signed, sign


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"0123456789")
    return tmp_path / "file"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_in_its_state_is_read_in_pieces(file):
    assert list(read_signed(str(file), sign(file.stat()), 4)) == [b"0123", b"4567", b"89"]


def test_a_descriptor_is_not_inherited(file):
    descriptor = open_signed(str(file), sign(file.stat()))
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_link(path: Path) -> None:
    path.with_name("other").write_bytes(b"0123456789")
    path.symlink_to("other")


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def put_the_same(path: Path) -> None:
    path.write_bytes(b"0123456789")


@pytest.mark.parametrize("put", [put_fifo, put_link, put_socket, put_the_same, Path.mkdir])
def test_what_took_its_place_is_a_change_and_nobody_waits(file, put):
    signature = sign(file.stat())
    file.rename(file.with_name("kept"))  # so that its inode is not used again
    put(file)
    before = descriptors()
    for _ in range(2):
        with pytest.raises(FileChangedError):
            list(read_signed(str(file), signature))
    assert descriptors() == before


def test_a_change_while_it_is_read_is_told_at_the_end(file):
    pieces = read_signed(str(file), sign(file.stat()), 4)
    assert next(pieces) == b"0123"
    file.write_bytes(b"0123xxxxxx")
    os.utime(file, ns=(1, 1))
    with pytest.raises(FileChangedError):
        list(pieces)


def test_a_file_that_is_gone_is_the_systems_error(file):
    signature = sign(file.stat())
    file.unlink()
    with pytest.raises(FileNotFoundError):
        list(read_signed(str(file), signature))

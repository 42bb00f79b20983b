"""Files that stay open: shared, bounded, closed when nobody holds them, and never another file than was meant."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assetserver.delivery import openfiles
from assetserver.delivery.openfiles import OpenedFile, OpenFiles
from assetserver.errors import FileChangedError, OverloadedError
from assetserver.storage.signatures import Signature, sign


@pytest.fixture
def write(tmp_path) -> Callable[..., tuple[str, Signature]]:
    """Write a file and return its path and its signature."""

    def run(content: bytes = b"content", name: str = "file") -> tuple[str, Signature]:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path), sign(path.stat())

    return run


@pytest.fixture
def count(tmp_path, count_descriptors) -> Callable[[], int]:
    """Return a function that counts the open files of this test."""
    return lambda: count_descriptors(tmp_path)


def open_one(files: OpenFiles, path: str, signature: Signature) -> OpenedFile:
    file = files.open(path, signature)
    assert file is not None
    return file


def test_a_file_is_opened_once_for_all_who_ask(write, count):
    files = OpenFiles()
    path, signature = write()
    assert files.get(path, signature) is None, "asking does not wait for a disk"
    file = open_one(files, path, signature)
    assert files.open(path, signature) is file
    assert files.get(path, signature) is file
    assert files.finder(path, signature)(0.0) is file
    assert (len(files), count()) == (1, 1)
    assert os.pread(file.descriptor, 100, 0) == b"content"
    assert (file.path, file.signature) == (path, signature)


@pytest.mark.parametrize("somebody_saw", [True, False])
def test_a_file_that_was_found_is_believed_for_a_moment_unless_somebody_saw_that_it_changed(write, somebody_saw):
    files = OpenFiles()
    path, signature = write()
    file, find = open_one(files, path, signature), files.finder(path, signature)
    assert find(1.0) is file
    os.truncate(path, 0)
    assert find(1.05) is file
    if somebody_saw:
        with pytest.raises(FileChangedError):
            file.check(0)
    assert find(1.05 if somebody_saw else 1.2) is None
    assert len(files) == 0


def test_files_that_somebody_found_since_the_last_look_are_the_last_to_go(write):
    files = OpenFiles(limit=3)
    given = [write(name=name) for name in ("a", "b", "c", "d", "e")]
    for path, signature in given[:3]:
        open_one(files, path, signature)
    files.expire()
    assert files.finder(*given[0])(0.0) is not None
    for path, signature in given[3:]:
        open_one(files, path, signature)
    assert [files.get(*one) is not None for one in given] == [True, False, False, True, True]


def test_a_file_is_closed_when_the_last_who_holds_it_lets_go(write, count):
    files = OpenFiles()
    path, signature = write()
    file = open_one(files, path, signature)
    files.clear()
    assert (len(files), count()) == (0, 1), "somebody still sends it"
    assert os.pread(file.descriptor, 100, 0) == b"content"
    assert files.open(path, signature) is not file
    assert count() == 2
    del file
    assert count() == 1
    files.clear()
    assert count() == 0


def test_files_are_bounded_and_what_was_asked_for_of_late_stays(write, count):
    files = OpenFiles(limit=3)
    written = [write(name=f"file{number}") for number in range(10)]
    for path, signature in written:
        open_one(files, path, signature)
        assert files.get(*written[0]) is not None
        assert len(files) <= 3
        assert count() == len(files)
    assert [number for number, one in enumerate(written) if files.get(*one)] == [0, 8, 9]


def test_what_nobody_asks_for_is_let_go_of(write, count):
    """A file that was removed takes its room on the disk until it is closed."""
    files = OpenFiles()
    used, unused = write(name="used"), write(name="unused")
    for one in (used, unused):
        open_one(files, *one)
    files.expire()
    assert files.get(*used)
    files.expire()
    assert (len(files), count()) == (1, 1)
    assert files.get(*used)
    assert files.open(*unused)
    files.expire()
    assert (len(files), count()) == (2, 2)
    files.expire()
    assert (len(files), count()) == (0, 0)
    files.expire()


def test_the_bound_is_a_share_of_what_the_process_may_open(monkeypatch):
    for limit, expected in ((1024, 128), (1 << 20, 256), (4, 1), (1, 1)):
        monkeypatch.setattr(openfiles.resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert OpenFiles()._limit == expected


def replace(path: Path) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(b"another")
    beside.replace(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


CHANGES = {
    "replaced": replace,
    "removed": Path.unlink,
    "written over": lambda path: path.write_bytes(b"something else"),
    "appended to": lambda path: path.open("ab").write(b"x"),
    "cut": lambda path: os.truncate(path, 1),
    "touched": touch,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_no_more_what_it_was_is_not_given(write, count, change):
    files = OpenFiles()
    path, signature = write()
    open_one(files, path, signature)
    find = files.finder(path, signature)
    CHANGES[change](Path(path))
    assert find(0.0) is None
    assert (len(files), count()) == (0, 0), "and not held any longer"
    assert files.open(path, signature) is None
    assert (find(0.0), len(files), count()) == (None, 0, 0)


def test_another_state_of_a_file_is_another_file(write, count):
    files = OpenFiles()
    path, before = write(b"first")
    first = open_one(files, path, before)
    replace(Path(path))
    after = sign(Path(path).stat())
    assert files.get(path, after) is None
    second = open_one(files, path, after)
    assert (os.pread(first.descriptor, 100, 0), os.pread(second.descriptor, 100, 0)) == (b"first", b"another")
    assert files.get(path, before) is None
    assert files.open(path, before) is None
    del first, second
    assert count() <= 1


def test_who_asks_for_what_was_there_before_gets_nothing_and_harms_nobody(write):
    files = OpenFiles()
    path, before = write(b"first")
    replace(Path(path))
    after = sign(Path(path).stat())
    for _ in range(3):
        assert open_one(files, path, after).signature == after
        assert files.open(path, before) is None


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("nothing"), lambda _: None]
)
def test_what_is_no_file_does_not_open_and_does_not_hang(tmp_path, write, count, make):
    files = OpenFiles()
    kept = open_one(files, *write(name="kept"))
    path, signature = write()
    os.unlink(path)
    make(Path(path))
    assert files.open(path, signature) is None
    assert files.get(kept.path, kept.signature) is kept, "what is missing takes nothing from others"
    assert count() == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_a_descriptor_all_that_is_idle_is_let_go(write, count, monkeypatch, number):
    files = OpenFiles()
    written = [write(name=f"file{number}") for number in range(5)]
    for one in written[:4]:
        open_one(files, *one)
    held = files.get(*written[0])

    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        patch.setattr(openfiles, "open_regular", fail)
        with pytest.raises(OverloadedError, match="cannot open a file"):
            files.open(*written[4])
        assert (len(files), count()) == (0, 1), "but for the one that is sent"
    assert held is not None
    assert os.pread(held.descriptor, 100, 0) == b"content"
    assert files.open(*written[4]) is not None, "so the next one finds a place"


def test_a_file_is_checked_for_what_is_sent_of_it(write):
    """That it was removed or replaced meanwhile is no harm: its content is what it was."""
    path, signature = write()
    file = open_one(OpenFiles(), path, signature)
    assert file.is_same()
    file.check(3)
    Path(path).unlink()
    assert not file.is_same()
    file.check(3)
    path, signature = write()
    file = open_one(OpenFiles(), path, signature)
    os.truncate(path, 3)
    with pytest.raises(FileChangedError, match="at byte 5"):
        file.check(5)


def test_threads_share_files_and_leave_none_behind(write, count):
    """Some ask for more files than may stay open, some let go of all of them; each reads what it asked for."""
    files = OpenFiles(limit=4)
    written = [write(b"%d" % number, f"file{number}") for number in range(12)]
    begin = threading.Barrier(8)

    def work(seed: int) -> int:
        begin.wait()
        for step in range(300):
            number = (step * (seed + 1)) % len(written)
            file = files.open(*written[number])
            assert file is not None
            assert os.pread(file.descriptor, 100, 0) == b"%d" % number
            if step % 50 == seed:
                files.clear()
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [*range(8)]
    assert len(files) <= 4
    assert count() == len(files)
    files.clear()
    assert count() == 0


def test_two_who_open_the_same_file_at_once_leave_one_open(write, count, monkeypatch):
    files = OpenFiles()
    path, signature = write()
    both = threading.Barrier(2)
    real = openfiles.open_regular

    def open_together(name: str) -> tuple[int, os.stat_result]:
        both.wait(60)
        return real(name)

    monkeypatch.setattr(openfiles, "open_regular", open_together)
    with ThreadPoolExecutor(2) as pool:
        opened = [pool.submit(files.open, path, signature) for _ in range(2)]
        found = [one.result() for one in opened]
    assert None not in found
    assert (len(files), count()) == (1, 2)
    del opened, found
    assert count() == 1

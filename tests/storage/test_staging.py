"""Files of uploads: who may write, what is durable when, and how one becomes a blob."""

import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.storage.files import FileBlobs
from assetserver.storage.staging import MOST_PIECES, FileStaging

ID = "A" * 24
CONTENT = b"hello world"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def staging(tmp_path):
    return FileStaging(str(tmp_path / "media" / "staging"), FileBlobs(str(tmp_path / "media" / "blobs")))


@pytest.fixture
def file(staging):
    opened = staging.open(ID)
    assert opened.try_claim()
    yield opened
    opened.close()


def test_pieces_are_written_where_they_belong(file):
    file.write(0, [b"hello", b"", b" wor"])
    file.write(9, [b"ld!"])
    file.cut(11)
    assert (file.size(), file.read(0, 100), file.read(6, 3)) == (11, CONTENT, b"wor")


def test_more_pieces_than_one_call_takes_are_written_in_order(file):
    pieces = [b"%06d" % number for number in range(3 * MOST_PIECES + 7)]
    file.write(0, pieces)
    assert file.read(0, 1 << 20) == b"".join(pieces)


def test_writes_that_take_less_are_continued(file, monkeypatch):
    real_many, real_one = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda descriptor, pieces, offset: real_many(descriptor, pieces[:1], offset) - 0)
    monkeypatch.setattr(os, "pwrite", lambda descriptor, piece, offset: real_one(descriptor, piece[:2], offset))
    file.write(0, [b"hel", b"lo", b"", b" world"])
    assert file.read(0, 100) == CONTENT


def test_a_write_cut_within_a_piece_is_continued_there(file, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda descriptor, pieces, offset: real(descriptor, b"".join(pieces)[:4], offset))
    file.write(0, [b"hel", b"lo", b" world"])
    assert file.read(0, 100) == CONTENT


def test_one_at_a_time_may_write_and_sees_who_waits(staging, file):
    other, third = staging.open(ID), staging.open(ID)
    assert not file.is_wanted()
    assert not other.try_claim()
    assert file.is_wanted()
    file.close()
    assert other.try_claim()
    assert not other.is_wanted()
    assert not third.try_claim()
    third.close()
    assert not other.is_wanted(), "whoever gave up waiting is not waited for"
    other.close()


WAIT = """
import sys
from assetserver.storage.staging import StagedFile
file = StagedFile(sys.argv[1])
print(file.try_claim(), flush=True)
sys.stdin.read()
"""


def test_the_right_to_write_holds_between_processes_and_dies_with_them(staging, file):
    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", WAIT, file.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return process, process.stdout.readline().strip()

    waiting, is_theirs = start()
    assert (is_theirs, file.is_wanted()) == ("False", True)
    waiting.kill()
    waiting.communicate(timeout=60)
    assert not file.is_wanted()
    file.close()
    holding, is_theirs = start()
    assert is_theirs == "True"
    mine = staging.open(ID)
    assert not mine.try_claim()
    holding.kill()
    holding.communicate(timeout=60)
    assert mine.try_claim()
    mine.close()


def test_a_file_that_was_removed_while_one_waited_is_told(staging, file):
    other = staging.open(ID)
    assert staging.remove(ID)
    assert not staging.remove(ID)
    assert (file.is_removed(), other.is_removed()) == (True, True)
    other.close()


def test_sealing_syncs_then_links_a_read_only_file(staging, file, monkeypatch):
    steps = []
    for name in ("fdatasync", "chmod", "link", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (steps.append(name), real(*given))[1])
    file.write(0, [CONTENT])
    os.makedirs(os.path.dirname(staging._blobs.path_of(DIGEST)))
    staging.seal(file, DIGEST)
    assert [step for step in steps if step != "fsync"] == ["fdatasync", "chmod", "link"]
    blobs = staging._blobs
    assert b"".join(blobs.read(DIGEST)) == CONTENT
    assert stat.S_IMODE(os.stat(blobs.path_of(DIGEST)).st_mode) == 0o444
    staging.seal(file, DIGEST)
    with pytest.raises(PermissionError):
        file.cut(0)
    assert staging.remove(ID)
    assert b"".join(blobs.read(DIGEST)) == CONTENT


def test_a_blob_that_is_there_stays_and_a_damaged_one_is_replaced(staging, file):
    blobs = staging._blobs
    blobs.put(DIGEST, [CONTENT])
    inode = os.stat(blobs.path_of(DIGEST)).st_ino
    file.write(0, [CONTENT])
    staging.seal(file, DIGEST)
    assert os.stat(blobs.path_of(DIGEST)).st_ino == inode
    os.unlink(blobs.path_of(DIGEST))
    Path(blobs.path_of(DIGEST)).write_bytes(b"hell")
    staging.seal(file, DIGEST)
    assert b"".join(blobs.read(DIGEST)) == CONTENT


def test_a_sealed_file_can_be_opened_again(staging, file):
    """Whoever sealed it died before the record was written; it is sealed once more."""
    file.write(0, [CONTENT])
    staging.seal(file, DIGEST)
    file.close()
    again = staging.open(ID)
    assert again.try_claim()
    assert again.size() == len(CONTENT)
    again.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b" * 8, "../../etc/passwd", "a" * 65, "a" * 20 + "\0", "ä" * 20, "short"])
def test_what_is_no_id_opens_nothing(staging, name):
    with pytest.raises(ValueError, match="not the id"):
        staging.open(name)


def test_files_are_listed_and_those_of_others_are_not(staging, file, tmp_path):
    file.write(0, [CONTENT])
    Path(staging.folder, "README").write_bytes(b"")
    Path(staging.folder, ".nfs0000000000000000000001").write_bytes(b"")
    assert [(one.upload_id, one.size) for one in staging.list_staged()] == [(ID, len(CONTENT))]
    assert list(FileStaging(str(tmp_path / "none"), staging._blobs).list_staged()) == []


def test_a_link_in_the_place_of_a_file_is_not_followed(staging, file, tmp_path):
    os.symlink(tmp_path / "elsewhere", os.path.join(staging.folder, "B" * 24))
    with pytest.raises(OSError, match="symbolic"):
        staging.open("B" * 24)


def test_free_space_is_told_before_the_folder_is_there(staging):
    assert staging.free_bytes() > 0
    assert not staging.is_there()


def test_a_whole_file_is_synced_and_then_linked_read_only(staging, monkeypatch):
    steps = []
    for name in ("open", "pwritev", "fdatasync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, name=name, real=real, **more: (steps.append(name), real(*given, **more))[1]
        )
    staging.make()
    os.makedirs(os.path.dirname(staging._blobs.path_of(DIGEST)))
    del steps[:]
    staging.store(ID, CONTENT, DIGEST)
    assert steps == ["open", "pwritev", "fdatasync", "link"]
    target = staging._blobs.path_of(DIGEST)
    assert b"".join(staging._blobs.read(DIGEST)) == CONTENT
    assert stat.S_IMODE(os.stat(target).st_mode) & 0o222 == 0
    with pytest.raises(FileExistsError):
        staging.store(ID, CONTENT, DIGEST)
    assert staging.remove(ID)
    assert os.stat(target).st_nlink == 1


def test_a_whole_file_makes_the_folders_that_it_needs_and_is_one_with_the_same_bytes(staging):
    staging.store(ID, CONTENT, DIGEST)
    staging.store("B" * 24, CONTENT, DIGEST)
    staging._blobs.confirm([DIGEST])
    assert [one.size for one in staging.list_staged()] == [len(CONTENT)] * 2
    assert os.stat(staging._blobs.path_of(DIGEST)).st_nlink == 2


def test_a_damaged_blob_gives_way_to_a_whole_file(staging):
    target = Path(staging._blobs.path_of(DIGEST))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"cut")
    staging.store(ID, CONTENT, DIGEST)
    assert target.read_bytes() == CONTENT


def test_an_id_that_is_a_path_is_refused(staging):
    with pytest.raises(ValueError, match="is not the id of an upload"):
        staging.store("../" + ID, CONTENT, DIGEST)

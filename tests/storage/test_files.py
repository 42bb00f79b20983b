"""Blobs as files: the contract of every store, and what makes a file survive a crash."""

import errno
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.storage import files
from assetserver.storage.blobs import Digest
from assetserver.storage.files import FileBlobs

from ..contracts.blobstore import BlobStoreContract, PushedBlobsContract, put

CONTENT = b"a blob"
DIGEST = Digest(sha256(CONTENT).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> FileBlobs:
    return FileBlobs(str(tmp_path / "data" / "blobs"))


class TestContract(BlobStoreContract):
    """Files keep the contract."""


class TestPushedContract(PushedBlobsContract):
    """Files take bytes as they come."""


def files_below(folder: str) -> list[str]:
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every durable step, in order, with the path that it was about."""
    taken: list[tuple[str, str]] = []

    def watch(name: str, path_of: Callable[..., str]) -> None:
        real = getattr(os, name)

        def step(*args: object, **keywords: object) -> object:
            taken.append((name, path_of(*args)))
            return real(*args, **keywords)

        monkeypatch.setattr(os, name, step)

    watch("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    watch("link", lambda _, target: target)
    watch("unlink", lambda path: path)
    return taken


def test_the_file_is_synced_then_linked_then_its_folder_is_synced(store, steps):
    put(store, b"first")  # folders above are made with the first blob
    steps.clear()
    store.put(DIGEST, [CONTENT])
    folder, target = os.path.dirname(store.path_of(DIGEST)), store.path_of(DIGEST)
    temporary = steps[-1][1]
    after_file = steps[steps.index(("fsync", temporary)) :]
    assert [step for step in after_file if step[1] != store.folder] == [
        ("fsync", temporary),
        ("link", target),
        ("fsync", folder),
        ("unlink", temporary),
    ]


def test_every_folder_made_on_the_way_is_synced_in_the_one_above(store, steps, tmp_path):
    store.put(DIGEST, [CONTENT])
    synced = {path for name, path in steps if name == "fsync"}
    assert {str(tmp_path), str(tmp_path / "data"), store.folder, os.path.dirname(store.path_of(DIGEST))} <= synced


def test_a_blob_is_a_read_only_file_named_by_its_digest(store):
    store.put(DIGEST, [CONTENT])
    path = os.path.join(store.folder, DIGEST[:2], DIGEST)
    assert store.path_of(DIGEST) == path
    assert Path(path).read_bytes() == CONTENT
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444
    assert os.stat(path).st_nlink == 1


def test_a_blob_that_is_there_is_not_read_again(store):
    store.put(DIGEST, [CONTENT])
    assert store.put(DIGEST, iter(())) == len(CONTENT)


def test_no_temporary_file_stays(store):
    put(store, b"one")
    put(store, b"two")
    assert len(files_below(store.folder)) == 2


@pytest.mark.parametrize("failing", ["write", "fsync", "link"])
def test_a_full_disk_leaves_no_litter(store, monkeypatch, failing):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            store.put(DIGEST, [CONTENT])
    assert files_below(store.folder) == []
    assert store.put(DIGEST, [CONTENT]) == len(CONTENT)


def test_a_write_that_takes_less_is_continued(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, piece: real(descriptor, piece[:2]))
    store.put(DIGEST, [CONTENT])
    assert b"".join(store.read(DIGEST)) == CONTENT


def test_sweeping_removes_old_temporary_files_only(store):
    store.put(DIGEST, [CONTENT])
    folder = Path(store.folder, "tmp")
    (folder / "old").write_bytes(b"half")
    os.utime(folder / "old", (1, 1))
    (folder / "new").write_bytes(b"someone is writing")
    assert store.sweep(3600, dry_run=True) == [4]
    assert store.sweep(3600) == [4]
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert store.size_of(DIGEST) == len(CONTENT)


def test_sweeping_where_nothing_was_stored_removes_nothing(store):
    assert store.sweep(0) == []


def test_who_finds_the_blob_there_syncs_its_name_too(store, steps):
    store.put(DIGEST, [CONTENT])
    steps.clear()
    store.put(DIGEST, [CONTENT])
    assert steps == [("fsync", os.path.dirname(store.path_of(DIGEST)))]


def test_who_comes_second_to_the_link_syncs_the_name_too(store, steps):
    def meanwhile():
        FileBlobs(store.folder).put(DIGEST, [CONTENT])
        steps.clear()
        yield CONTENT

    store.put(DIGEST, meanwhile())
    assert ("fsync", os.path.dirname(store.path_of(DIGEST))) in steps[steps.index(("link", store.path_of(DIGEST))) :]


def test_a_temporary_file_swept_after_the_link_does_not_matter(store, monkeypatch):
    real = os.link

    def link_and_sweep(source, target):
        real(source, target)
        assert store.sweep(-60) == [len(CONTENT)]

    monkeypatch.setattr(os, "link", link_and_sweep)
    assert store.put(DIGEST, [CONTENT]) == len(CONTENT)
    assert files_below(store.folder) == [os.path.join(DIGEST[:2], DIGEST)]


def test_a_full_disk_is_told_with_the_file(store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        store.put(DIGEST, [CONTENT])
    assert caught.value.filename.startswith(os.path.join(store.folder, "tmp"))


def test_files_of_others_are_no_blobs(store):
    store.put(DIGEST, [CONTENT])
    Path(store.folder, DIGEST[:2], ".nfs0001").write_bytes(b"")
    Path(store.folder, "README").write_bytes(b"")
    assert [one.digest for one in store.list_blobs()] == [DIGEST]


def test_the_time_of_storing_is_told(store):
    store.put(DIGEST, [CONTENT])
    os.utime(store.path_of(DIGEST), (5, 5))
    assert [one.stored for one in store.list_blobs()] == [5.0]


def test_confirming_syncs_each_shelf_once_and_the_folder_of_shelves(store, monkeypatch):
    """A publish that was killed between link and sync left a name that may not survive."""
    digests = [put(store, b"%d" % number) for number in range(40)]
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    store.confirm(digests)
    assert synced == [*sorted({os.path.join(store.folder, digest[:2]) for digest in digests}), store.folder]

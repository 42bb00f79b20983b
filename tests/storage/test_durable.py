"""Changes that survive a crash: one step for readers, in an order that a disk keeps."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from assetserver.storage.durable import locked, make_durable_folder, replace_durably, write_all


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    taken: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        taken.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_replace(source: str, target: str) -> None:
        taken.append(("replace", target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    return taken


def test_content_is_synced_before_it_replaces_and_the_folder_after(tmp_path, steps):
    path = str(tmp_path / "state")
    replace_durably(path, b"new")
    (first, temporary), *rest = steps
    assert first == "fsync"
    assert os.path.dirname(temporary) == str(tmp_path)
    assert rest == [("replace", path), ("fsync", str(tmp_path))]


def test_the_old_content_stays_until_the_new_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "state"
    replace_durably(str(path), b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_durably(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_others_may_read_what_replaces(tmp_path):
    replace_durably(str(tmp_path / "state"), b"new")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o644


def test_each_folder_is_synced_where_its_name_stands(tmp_path, steps):
    make_durable_folder(str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert steps == [("fsync", str(tmp_path)), ("fsync", str(tmp_path / "a")), ("fsync", str(tmp_path / "a" / "b"))]


def test_a_folder_that_is_there_costs_nothing(tmp_path, steps):
    make_durable_folder(str(tmp_path))
    assert steps == []


def test_a_relative_folder_is_made_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_durable_folder("a/b")
    replace_durably("state", b"here")
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "state").read_bytes() == b"here"


def test_the_folder_of_a_lock_is_durable(tmp_path, steps):
    with locked(str(tmp_path / "site" / "lock")):
        pass
    assert steps == [("fsync", str(tmp_path))]


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    path = str(tmp_path / "lock")
    entered = threading.Event()

    def enter() -> None:
        with locked(path):
            entered.set()

    with locked(path):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    thread.join()
    assert entered.is_set()


def test_a_lock_is_free_after_an_error(tmp_path):
    path = str(tmp_path / "lock")
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path):
        pass


def test_a_shared_lock_is_shared_and_keeps_out_who_wants_it_alone(tmp_path):
    path = str(tmp_path / "lock")
    waiting, entered = threading.Event(), threading.Event()

    def enter() -> None:
        with locked(path, on_wait=waiting.set):
            entered.set()

    with locked(path, shared=True), locked(path, shared=True, on_wait=pytest.fail):
        thread = threading.Thread(target=enter)
        thread.start()
        assert waiting.wait(60)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_who_shares_a_lock_waits_for_who_holds_it_alone(tmp_path):
    path = str(tmp_path / "lock")
    waiting, entered = threading.Event(), threading.Event()

    def enter() -> None:
        with locked(path, shared=True, on_wait=waiting.set):
            entered.set()

    with locked(path, on_wait=pytest.fail):
        thread = threading.Thread(target=enter)
        thread.start()
        assert waiting.wait(60)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_an_error_without_a_file_gets_its_name(tmp_path, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_durably(str(tmp_path / "state"), b"new")
    assert caught.value.filename == str(tmp_path / "state")


def test_all_of_a_piece_is_written(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, piece: real(descriptor, piece[:3]))
    with (tmp_path / "file").open("wb", buffering=0) as file:
        write_all(file.fileno(), b"0123456789")
    assert Path(tmp_path / "file").read_bytes() == b"0123456789"

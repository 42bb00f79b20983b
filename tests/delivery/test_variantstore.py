"""The cache of made pictures: whole or not there, bounded, and shared by processes."""

import os
import subprocess
import sys
import textwrap
import time
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.delivery.variantstore import Refusal, VariantStore

MIB = 1 << 20
SOURCE, OTHER = "ab" * 32, "cd" * 32


def key_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def keep(store: VariantStore, number: int, content: bytes, source: str = "") -> str:
    with store.making() as folder:
        path = Path(folder, "a.jpg")
        path.write_bytes(content)
        store.keep(key_of(number), str(path), "image/jpeg", source or SOURCE, (4, 3))
    return key_of(number)


def weigh(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path):
    return VariantStore(str(tmp_path / "cache"), 100 * MIB)


def test_what_is_kept_is_found_by_every_process(store, tmp_path):
    assert not store.is_known(key_of(1))
    assert store.find(key_of(1)) is None
    key = keep(store, 1, b"picture")
    for one in (store, VariantStore(str(tmp_path / "cache"), MIB)):
        found = one.find(key)
        assert one.is_known(key)
        assert Path(found.path).read_bytes() == b"picture"
        assert (found.digest, found.media_type, found.signature.size) == (sha256(b"picture").digest(), "image/jpeg", 7)
    assert os.listdir(tmp_path / "cache" / "making") == []


def test_a_second_picture_of_a_key_takes_the_place_of_the_first(store):
    keep(store, 1, b"picture")
    key = keep(store, 1, b"another")
    assert Path(store.find(key).path).read_bytes() == b"another"


@pytest.mark.parametrize("content", [b"", b"junk", b"{}", b'{"size": "a"}', b"\xff\xfe", b"[" * 10_000, b'{"more": 1}'])
def test_a_damaged_record_is_a_miss(store, content):
    key = keep(store, 1, b"picture")
    Path(store.find(key).path + ".json").write_bytes(content)
    assert store.find(key) is None
    assert store.find(keep(store, 1, b"picture")) is not None


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"pictures"), lambda path: os.truncate(path, 3), Path.unlink])
def test_a_damaged_picture_is_a_miss(store, damage):
    key = keep(store, 1, b"picture")
    damage(Path(store.find(key).path))
    assert store.find(key) is None


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_a_miss(store, put):
    key = keep(store, 1, b"picture")
    path = Path(store.find(key).path)
    path.unlink()
    put(path)
    assert store.find(key) is None


def test_a_refusal_is_told_for_a_while(tmp_path):
    now = [1000.0]
    store = VariantStore(str(tmp_path), MIB, clock=lambda: now[0])
    store.refuse(key_of(1), "it is too large" + "!" * 1000, 60.0, SOURCE)
    found = store.find(key_of(1))
    assert isinstance(found, Refusal)
    assert found.reason.startswith("it is too large!")
    assert len(found.reason) == 300
    now[0] += 61.0
    assert store.find(key_of(1)) is None
    assert not isinstance(store.find(keep(store, 1, b"picture")), Refusal)


def test_what_was_not_used_for_longest_goes_first_and_the_limit_holds(tmp_path):
    store = VariantStore(str(tmp_path), 2 * MIB)
    most = 0
    for number in range(100):
        keep(store, number, os.urandom(100_000))
        os.utime(store._path_of(key_of(number)) + ".json", (number, number))
        assert store.find(key_of(0)) is not None  # it is used all the time
        most = max(most, weigh(tmp_path))
    assert MIB < most <= 2 * MIB
    there = [number for number in range(100) if store.find(key_of(number)) is not None]
    assert there[0] == 0
    assert there[1:] == list(range(there[1], 100))
    assert 10 < len(there) < 20


def test_the_limit_holds_for_several_processes_together(tmp_path):
    program = """
        import os, sys
        from assetserver.delivery.variantstore import VariantStore
        store = VariantStore(sys.argv[1], 4 << 20)
        for _ in range(100):
            with store.making() as folder:
                with open(folder + "/a", "wb") as file:
                    file.write(os.urandom(100_000))
                store.keep(os.urandom(32).hex(), folder + "/a", "image/jpeg", "", (4, 3))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert weigh(tmp_path / "cache") <= 4 * MIB * (1 + 3 / 16)


def test_what_a_killed_process_was_making_goes_after_a_while(tmp_path):
    left = tmp_path / "making" / "tmp-left"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"half")
    store = VariantStore(str(tmp_path), MIB)
    keep(store, 1, b"picture")
    assert left.exists()  # somebody may be at work on it
    os.utime(left, (time.time() - 7200,) * 2)
    keep(VariantStore(str(tmp_path), MIB), 2, b"picture")
    assert not left.exists()
    assert store.find(key_of(1)) is not None


def test_files_of_others_stay(tmp_path):
    (tmp_path / "README").write_text("mine")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("mine")
    store = VariantStore(str(tmp_path), MIB)
    for number in range(40):
        keep(store, number, os.urandom(100_000))
    assert (tmp_path / "README").exists()
    assert (tmp_path / "more" / "a.txt").exists()


def test_a_key_that_is_none_is_an_error_of_the_program(store):
    with pytest.raises(ValueError, match="is no key"):
        store.find("../../etc/passwd")


def test_what_is_made_of_a_source_goes_with_it_and_nothing_else(store):
    gone = [keep(store, number, b"picture", OTHER) for number in (1, 2)]
    store.refuse(key_of(3), "it is broken", 3600.0, OTHER)
    kept = keep(store, 4, b"picture")
    store.refuse(key_of(5), "it is broken", 3600.0, SOURCE)
    asked: list[str] = []

    def has_source(digest: str) -> bool:
        asked.append(digest)
        return digest == SOURCE

    assert store.sweep(has_source) == 3
    assert sorted(asked) == [SOURCE, OTHER]
    assert [store.find(key) for key in (*gone, key_of(3))] == [None] * 3
    assert store.find(kept).digest == sha256(b"picture").digest()
    assert store.find(key_of(5)) == Refusal("it is broken")
    assert sorted(path.name for path in Path(store.folder).rglob("*") if path.is_file()) == sorted(
        [kept, kept + ".json", key_of(5) + ".json"]
    )
    assert store.sweep(has_source) == 0


def test_what_no_record_tells_the_source_of_goes_unless_it_is_about_to(store):
    damaged, lost, young = (keep(store, number, b"picture") for number in (1, 2, 3))
    path = Path(store.find(damaged).path)
    Path(f"{path}.json").write_bytes(b"junk")
    for key in (lost, young):
        Path(store.find(key).path + ".json").unlink()
    os.utime(path.parents[1] / lost[:2] / lost, (time.time() - 7200,) * 2)
    assert store.sweep(lambda _: True) == 2
    left = [one.name for one in Path(store.folder).rglob("*") if one.is_file()]
    assert left == [young]

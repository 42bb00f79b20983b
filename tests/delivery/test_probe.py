"""What paths lead to on a real disk: inside the roots, and never outside."""

import ctypes
import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from assetserver.delivery import probe as module
from assetserver.delivery.probe import MISSING, Kind, Probe, Roots, last_modified_of, sidecar_path
from assetserver.errors import OverloadedError
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.signatures import Signature, sign


@pytest.fixture(autouse=True, params=["by descriptor", "by name"])
def way(request, monkeypatch) -> str:
    """Both ways to resolve a path: that of Linux, and that of systems which do not tell what a descriptor is open on."""
    if request.param == "by name":
        monkeypatch.setattr(module, "_O_PATH", 0)
    elif not module._O_PATH:
        pytest.skip("needs O_PATH and /proc")
    return request.param


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    (found / "a.css").write_text("a {}")
    (found / "docs").mkdir()
    (found / "docs" / "index.html").write_text("<p>")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    return found


@pytest.fixture
def probe(root: Path):
    return lambda path, **options: Roots((str(root),), **options).probe(path)


def test_a_file_is_a_file_with_its_signature(root, probe):
    found = probe("a.css")
    assert (found.kind, found.full, found.signature) == (Kind.FILE, str(root / "a.css"), sign((root / "a.css").stat()))
    assert found.sidecars == (None, None, None)


def test_folders_are_folders_with_and_without_slash(probe):
    assert [probe(path).kind for path in ("", "docs", "docs/")] == [Kind.FOLDER] * 3


@pytest.mark.parametrize("path", ["nothing", "nothing/", "a.css/", "a.css/b", "docs/nothing", "x" * 256, "d/" * 2100 + "x"])
def test_what_is_not_there_is_missing(probe, caplog, path):
    assert probe(path) == MISSING
    assert not caplog.records, "a miss is nothing to log"


def test_equal_probes_are_the_same_state_and_any_change_shows(root, probe):
    before = probe("a.css")
    assert probe("a.css") == before
    (root / "a.css.br").write_bytes(b"x")
    with_sidecar = probe("a.css")
    assert with_sidecar != before
    (root / "a.css.br").write_bytes(b"y")
    assert probe("a.css") != with_sidecar
    (root / "a.css.br").unlink()
    assert probe("a.css") == before


def test_a_change_under_a_preserved_size_and_mtime_shows(root, probe):
    before, status = probe("a.css"), (root / "a.css").stat()
    (root / "a.css").write_text("b {}")
    os.utime(root / "a.css", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = probe("a.css")
    assert (after.signature.size, after.signature.mtime_ns) == (before.signature.size, before.signature.mtime_ns)
    assert after != before


@pytest.mark.parametrize(
    "path", [".env", ".git/config", "docs/.hidden", "docs/.well-known/x", "..", "../secret.txt", ".", "a/./b"]
)
def test_dotfiles_and_dot_segments_are_missing(root, probe, path):
    for name in (".env", ".git/config", "docs/.hidden", "docs/.well-known/x"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("hidden")
    assert probe(path) == MISSING


def test_well_known_at_the_root_exists(root, probe):
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_text("Contact: x")
    (root / ".well-known" / ".hidden").write_text("x")
    assert probe(".well-known/security.txt").kind is Kind.FILE
    assert probe(".well-known/.hidden") == MISSING


def test_dotfiles_exist_where_they_are_asked_for(root, probe):
    (root / ".env").write_text("x")
    assert probe(".env", dotfiles=True).kind is Kind.FILE


def test_dotfiles_open_no_way_out(probe):
    for path in ("../secret.txt", "docs/../../secret.txt", "../outside", ".."):
        assert probe(path, dotfiles=True) == MISSING


class TestLinks:
    def test_a_link_inside_the_root_works(self, root, probe):
        (root / "link.css").symlink_to("a.css")
        (root / "manuals").symlink_to("docs", target_is_directory=True)
        assert probe("link.css").full == str(root / "a.css")
        assert probe("manuals/index.html").kind is Kind.FILE

    @pytest.mark.parametrize("path", ["file.txt", "folder/secret.txt", "folder", "chain.txt", "up/secret.txt", "absolute.txt"])
    def test_a_link_that_leaves_the_root_is_missing_unless_followed(self, root, tmp_path, probe, path):
        (root / "file.txt").symlink_to("../secret.txt")
        (root / "folder").symlink_to("../outside", target_is_directory=True)
        (root / "chain.txt").symlink_to("file.txt")
        (root / "up").symlink_to("..", target_is_directory=True)
        (root / "absolute.txt").symlink_to(tmp_path / "secret.txt")
        assert probe(path) == MISSING
        assert probe(path, follow_symlink=True).kind is not Kind.MISSING

    def test_a_neighbour_whose_name_begins_like_the_root_is_outside(self, root, tmp_path, probe):
        (tmp_path / "root-secrets").mkdir()
        (tmp_path / "root-secrets" / "key").write_text("secret")
        (root / "key").symlink_to(tmp_path / "root-secrets" / "key")
        assert probe("key") == MISSING

    def test_loops_and_dangling_links_are_missing(self, root, probe, caplog):
        (root / "loop").symlink_to("loop")
        (root / "ping").symlink_to("pong")
        (root / "pong").symlink_to("ping")
        (root / "gone").symlink_to("nothing")
        for path in ("loop", "loop/x", "ping", "gone"):
            for follow in (False, True):
                assert probe(path, follow_symlink=follow) == MISSING
        assert not caplog.records

    def test_the_root_may_itself_be_a_link_and_be_swapped(self, tmp_path):
        for release in ("one", "two"):
            (tmp_path / release).mkdir()
            (tmp_path / release / "a.txt").write_text(release)
        current = tmp_path / "current"
        current.symlink_to("one")
        roots = Roots((str(current),))
        before = roots.probe("a.txt")
        beside = tmp_path / "next"
        beside.symlink_to("two")
        beside.replace(current)
        after = roots.probe("a.txt")
        assert [Path(one.full).read_text() for one in (before, after)] == ["one", "two"]

    def test_a_root_that_is_swapped_all_the_time_never_looks_empty(self, tmp_path):
        """A file that both releases hold must not be a 404 for an instant: for a hashed name a CDN would see it."""
        for release in ("one", "two"):
            (tmp_path / release / "deep" / "er").mkdir(parents=True)
            (tmp_path / release / "deep" / "er" / "a.txt").write_text(release)
        (tmp_path / "current").symlink_to("one")
        roots, stop = Roots((str(tmp_path / "current"),)), threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for release in ("two", "one"):
                    (tmp_path / "next").symlink_to(release)
                    (tmp_path / "next").replace(tmp_path / "current")

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            kinds = {roots.probe("deep/er/a.txt").kind for _ in range(3000)}
        finally:
            stop.set()
            thread.join()
        assert kinds == {Kind.FILE}


class TestRaces:
    """Names that change while they are looked at, as fast as the system can exchange them."""

    @pytest.fixture(autouse=True)
    def _only_by_descriptor(self, way):
        if way == "by name":
            pytest.skip("cannot be had by name")

    @pytest.fixture
    def exchange(self):
        """Return a function that keeps exchanging two names, on a thread, until the test is over."""
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        if renameat2 is None:
            pytest.skip("needs renameat2")
        stop, threads = threading.Event(), []

        def run(one: Path, other: Path) -> None:
            while not stop.is_set():
                renameat2(-100, bytes(one), -100, bytes(other), 2)  # AT_FDCWD, RENAME_EXCHANGE

        def start(one: Path, other: Path) -> None:
            threads.append(threading.Thread(target=run, args=(one, other)))
            threads[-1].start()

        yield start
        stop.set()
        for thread in threads:
            thread.join()

    def test_a_folder_that_becomes_a_link_opens_no_way_out(self, root, tmp_path, probe, exchange):
        (root / "door").mkdir()
        (root / "door" / "secret.txt").write_text("harmless")
        (root / "other").symlink_to(tmp_path / "outside", target_is_directory=True)
        secret = sign((tmp_path / "outside" / "secret.txt").stat())
        exchange(root / "door", root / "other")
        found = [probe("door/secret.txt") for _ in range(3000)]
        assert all(one.signature != secret for one in found)
        assert all(not one.full.startswith(str(tmp_path / "outside")) for one in found)

    def test_a_root_that_is_renamed_while_it_is_looked_at_is_looked_at_again(self, root, probe, monkeypatch):
        real, seen = os.readlink, []

        def readlink(path: str) -> str:
            seen.append(path)
            return str(root.with_name("before")) if len(seen) == 1 else real(path)

        monkeypatch.setattr(module.os, "readlink", readlink)
        assert probe("docs/index.html").kind is Kind.FILE
        assert len(seen) == 4

    def test_a_file_that_is_exchanged_is_never_missing(self, root, probe, exchange):
        (root / "b.css").write_text("b {}")
        exchange(root / "a.css", root / "b.css")
        assert {probe("a.css").kind for _ in range(1000)} == {Kind.FILE}

    def test_a_file_that_is_replaced_while_it_is_looked_at_is_looked_at_again(self, root, probe, monkeypatch):
        real, seen = os.readlink, []

        def readlink(path: str) -> str:
            seen.append(path)
            return real(path) + " (deleted)" * (len(seen) == 2)

        monkeypatch.setattr(module.os, "readlink", readlink)
        assert probe("a.css").full == str(root / "a.css")
        assert len(seen) == 4

    def test_a_file_that_is_gone_is_missing(self, probe, monkeypatch):
        real = os.readlink
        monkeypatch.setattr(module.os, "readlink", lambda path: real(path) + " (deleted)")
        assert probe("a.css") == MISSING


def test_a_name_that_ends_like_a_deleted_one_is_a_name(root, probe):
    (root / "a (deleted)").write_text("x")
    (root / "link").symlink_to("a (deleted)")
    assert [probe(path).full for path in ("a (deleted)", "link")] == [str(root / "a (deleted)")] * 2


def test_looking_leaves_no_descriptor(root, tmp_path, probe, count_descriptors):
    (root / "out").symlink_to(tmp_path / "secret.txt")
    for path in ("a.css", "docs", "out", "nothing", "a.css/b"):
        probe(path)
    assert count_descriptors(tmp_path) == 0


class TestSpecialFiles:
    def test_fifos_sockets_and_devices_are_missing(self, root, probe):
        os.mkfifo(root / "pipe.css")
        (root / "zero").symlink_to("/dev/zero")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "socket"))
            for path in ("pipe.css", "socket"):
                assert probe(path) == MISSING
            assert probe("zero", follow_symlink=True) == MISSING

    def test_what_may_not_be_read_is_missing(self, root, probe, monkeypatch):
        if os.geteuid() == 0:  # to whom nothing is unreadable
            monkeypatch.setattr(module.os, "access", lambda path, mode: bool(os.stat(path).st_mode & mode << 6))
        (root / "a.css").chmod(0)
        (root / "docs").chmod(0)
        try:
            assert [probe(path) for path in ("a.css", "docs")] == [MISSING] * 2
        finally:
            (root / "docs").chmod(0o700)

    @pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EPERM])
    def test_what_the_disk_refuses_is_missing_and_logged(self, probe, monkeypatch, caplog, error, way):
        def refuse(*_, **__):
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(module.os, "open" if way == "by descriptor" else "stat", refuse)
        assert probe("a.css") == MISSING
        assert "/a.css is answered with 404" in caplog.text

    @pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
    def test_running_out_of_descriptors_is_no_answer_about_the_path(self, probe, monkeypatch, error, way):
        def refuse(*_, **__):
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(module.os, "open" if way == "by descriptor" else "stat", refuse)
        with pytest.raises(OverloadedError):
            probe("a.css")


class TestSidecars:
    def test_one_beside_its_file_is_hidden_and_signed(self, root, probe):
        for suffix in (".br", ".zst", ".gz"):
            (root / f"a.css{suffix}").write_bytes(b"x")
            assert probe("a.css" + suffix) == MISSING
        assert probe("a.css").sidecars == tuple(sign((root / f"a.css{s}").stat()) for s in (".br", ".zst", ".gz"))

    def test_an_archive_without_its_file_is_a_file(self, root, probe):
        (root / "x.tar.gz").write_bytes(b"x")
        assert probe("x.tar.gz").kind is Kind.FILE
        (root / "x.tar").write_bytes(b"x")
        assert probe("x.tar.gz") == MISSING
        (root / "x.tar").unlink()
        (root / "x.tar").mkdir()
        assert probe("x.tar.gz").kind is Kind.FILE, "a folder has no compressed form"

    def test_a_linked_sidecar_or_a_folder_in_its_place_does_not_count(self, root, tmp_path, probe):
        (root / "a.css.br").symlink_to(tmp_path / "secret.txt")
        (root / "a.css.gz").mkdir()
        assert probe("a.css").sidecars == (None, None, None)

    def test_its_path_is_the_files_path_with_the_suffix(self):
        assert sidecar_path("/srv/a.css", ContentCoding.ZSTD) == "/srv/a.css.zst"


class TestSeveralRoots:
    def test_the_first_root_wins_and_later_ones_fill_gaps(self, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "both.txt").write_text(name)
        (tmp_path / "two" / "second.txt").write_text("two")
        roots = Roots((str(tmp_path / "one"), str(tmp_path / "two")))
        assert roots.probe("both.txt").full == str(tmp_path / "one" / "both.txt")
        assert roots.probe("second.txt").full == str(tmp_path / "two" / "second.txt")

    def test_a_root_that_vanished_does_not_hide_the_others(self, root, tmp_path, caplog):
        assert Roots((str(tmp_path / "gone"), str(root))).probe("a.css").kind is Kind.FILE
        assert "No such file" in caplog.text

    def test_a_link_from_one_root_into_another_leaves_its_root(self, root, tmp_path):
        (root / "out").symlink_to(tmp_path / "outside" / "secret.txt")
        assert Roots((str(root), str(tmp_path / "outside"))).probe("out") == MISSING


def test_a_vanished_root_is_missing_and_said_in_the_log_and_may_come_back(root, probe, caplog):
    away = root.with_name("away")
    root.rename(away)
    assert probe("a.css") == MISSING
    assert str(root) in caplog.text
    away.rename(root)
    assert probe("a.css").kind is Kind.FILE


def test_a_root_that_became_a_file_is_missing(root, probe):
    root.rename(root.with_name("away"))
    root.write_text("a file")
    assert probe("a.css") == MISSING
    assert probe("").kind is not Kind.FOLDER


def test_the_whole_file_system_can_be_a_root(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert Roots(("/",)).probe(str(tmp_path / "a.txt").lstrip("/")).kind is Kind.FILE


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (1_600_000_000, 1_600_000_000),
        (2_000_000_000, 2_000_000_000),
        (0, None),
        (1, None),
        (-5, None),
        (315_532_800, None),
        (499_162_500, None),
        (2_000_000_001, None),
        (10**12, None),
    ],
)
def test_a_modification_time_is_told_unless_it_is_faked_or_in_the_future(seconds, told):
    signature = Signature(1, 1, 1, seconds * 10**9 + 999_999_999, 1)
    assert last_modified_of(signature, now=2_000_000_000) == told


def test_a_probe_is_a_value():
    assert Probe(Kind.FILE, "x") == Probe(Kind.FILE, "x") != MISSING

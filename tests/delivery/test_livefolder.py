"""A live folder trusts what it knows for a moment, then looks, and reads again only what changed."""

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import anyio
import brotli
import msgspec
import pytest

from assetserver.delivery import encodings, files, livefolder, probe
from assetserver.delivery.encodings import Encodings
from assetserver.delivery.livefolder import Entry, LiveFolder
from assetserver.delivery.probe import Kind, Probe, Roots
from assetserver.errors import OverloadedError
from assetserver.semantics.representation import Asset, ContentCoding
from assetserver.storage.pools import FilePool
from assetserver.storage.signatures import Signature

TEXT = b"body { color: rebeccapurple; margin: 0 }\n" * 100


class CountingRoots:
    """Roots that count how often the disk is looked at."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.looks = 0
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.roots, name)

    def probe(self, path: Any) -> Any:
        self.looks += 1
        self.before()
        return self.roots.probe(path)


class CountingEncodings(Encodings):
    """Encodings that count what they compress, and can be held up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made: list[tuple[ContentCoding, ...]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def make(self, path: str, signature: Signature, digest: bytes, codings: tuple[ContentCoding, ...]) -> None:
        self.go_on.wait(60)
        self.made.append(codings)
        super().make(path, signature, digest, codings)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    return found


@pytest.fixture
def coders(tmp_path: Path) -> CountingEncodings:
    return CountingEncodings(directory=str(tmp_path / "forms"))


@pytest.fixture
def pools() -> Iterator[tuple[FilePool, FilePool]]:
    made = FilePool("live", 2), FilePool("compress", 2)
    yield made
    for pool in made:
        pool.close()


@pytest.fixture
def roots(root: Path) -> CountingRoots:
    return CountingRoots(Roots((str(root),)))


@pytest.fixture
def folder(roots, coders, clock, pools) -> LiveFolder:
    def make_asset(path, representations, negotiable, proved):
        return Asset(representations, negotiable, ((b"proved", b"%d" % proved),))

    return LiveFolder(roots, coders, make_asset, files=pools[0], compressors=pools[1], clock_s=clock)


@pytest.fixture
def look(folder, clock) -> Callable[[str], Entry]:
    """Return a function that asks for a path, first letting all that is known grow old."""

    def look(path: str) -> Entry:
        clock.pass_s(1)
        return anyio.run(folder.lookup, path)

    return look


@pytest.fixture
def finish(wait_until) -> Callable[[Entry], None]:
    return lambda entry: wait_until(lambda: entry.work is None or entry.work.done())


def codings(entry: Entry) -> list[ContentCoding]:
    return [one.coding for one in entry.responses.asset.representations]


class TestFreshness:
    def test_a_known_path_is_answered_without_a_look(self, root, folder, roots, clock):
        (root / "a.bin").write_bytes(TEXT)
        assert folder.get("a.bin") is None
        first = folder.load("a.bin")
        clock.pass_s(0.8)
        assert folder.get("a.bin") is first
        assert all(anyio.run(folder.lookup, "a.bin") is first for _ in range(20))
        assert roots.looks == 1

    def test_an_unchanged_file_is_looked_at_once_a_second_and_not_read_again(
        self, root, folder, roots, look, monkeypatch, settled_at_once
    ):
        (root / "a.bin").write_bytes(TEXT)
        first = folder.load("a.bin")
        monkeypatch.setattr(livefolder, "open_regular", lambda path: pytest.fail(f"{path} was opened"))
        for looks in range(2, 6):
            assert look("a.bin") is first
            assert roots.looks == looks

    def test_what_changes_is_noticed_after_the_freshness_time_and_not_before(self, root, folder, clock, look):
        (root / "a.bin").write_bytes(TEXT)
        first = folder.load("a.bin")
        (root / "a.bin").write_bytes(b"new")
        clock.pass_s(0.8)
        assert anyio.run(folder.lookup, "a.bin") is first
        assert look("a.bin").digest == sha256(b"new").digest()

    def test_a_look_counts_from_its_beginning(self, root, folder, roots, clock):
        """What changes while a large file is being hashed would else stay unnoticed for longer than a second."""
        (root / "a.css").write_bytes(TEXT)
        roots.before = lambda: clock.pass_s(0.5)
        folder.load("a.css")
        clock.pass_s(0.5)
        assert folder.get("a.css") is None

    def test_new_files_are_noticed(self, root, look):
        assert look("a.css").probe.kind is Kind.MISSING
        (root / "a.css").write_bytes(TEXT)
        assert look("a.css").probe.kind is Kind.FILE

    def test_misses_are_remembered_too(self, folder, roots):
        for _ in range(5):
            assert anyio.run(folder.lookup, "nothing").probe.kind is Kind.MISSING
        assert roots.looks == 1

    def test_deleted_files_are_noticed_and_come_back(self, root, look):
        (root / "a.css").write_bytes(TEXT)
        before = look("a.css")
        (root / "a.css").rename(root / "away")
        gone = look("a.css")
        assert (gone.probe.kind, gone.responses) == (Kind.MISSING, None)
        (root / "away").rename(root / "a.css")
        assert look("a.css").digest == before.digest

    def test_a_file_that_becomes_a_folder_and_back_is_noticed(self, root, look):
        (root / "a").write_bytes(TEXT)
        assert look("a").probe.kind is Kind.FILE
        (root / "a").unlink()
        (root / "a").mkdir()
        assert look("a").probe.kind is Kind.FOLDER
        (root / "a").rmdir()
        (root / "a").write_bytes(b"again")
        assert look("a").digest == sha256(b"again").digest()

    def test_a_replacement_of_the_same_size_and_mtime_is_noticed(self, root, look, settled_at_once):
        (root / "a.css").write_bytes(b"one")
        before = (root / "a.css").stat()
        assert look("a.css").digest == sha256(b"one").digest()
        (root / "b.css").write_bytes(b"two")
        os.utime(root / "b.css", ns=(before.st_atime_ns, before.st_mtime_ns))
        (root / "b.css").replace(root / "a.css")
        assert look("a.css").digest == sha256(b"two").digest()

    def test_a_rewrite_in_place_with_size_and_mtime_preserved_is_noticed(self, root, look, settled_at_once):
        (root / "a.css").write_bytes(b"one")
        before = (root / "a.css").stat()
        assert look("a.css").digest == sha256(b"one").digest()
        (root / "a.css").write_bytes(b"two")
        os.utime(root / "a.css", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert look("a.css").digest == sha256(b"two").digest()

    def test_a_rewrite_within_one_tick_of_a_coarse_clock_is_noticed(self, root, look, monkeypatch):
        """On FAT a time stamp counts two seconds; until those have passed, an equal signature says nothing."""
        fine = files.sign

        def sign(status: os.stat_result) -> Signature:
            found = fine(status)
            return msgspec.structs.replace(found, mtime_ns=found.mtime_ns // 10**12, ctime_ns=found.ctime_ns // 10**12 * 10**12)

        for module in (files, probe, livefolder, encodings):
            monkeypatch.setattr(module, "sign", sign)
        monkeypatch.setattr(livefolder, "SETTLED_NS", 10**18)
        (root / "a.css").write_bytes(b"one")
        one = look("a.css")
        (root / "a.css").write_bytes(b"two")
        two = look("a.css")
        assert two.probe == one.probe, "the signature tells nothing"
        assert [entry.digest for entry in (one, two)] == [sha256(b"one").digest(), sha256(b"two").digest()]

    def test_a_file_that_has_just_changed_is_hashed_again_but_stays_the_same_entry(self, root, look, finish):
        (root / "a.bin").write_bytes(TEXT)
        first = look("a.bin")
        assert not first.settled
        assert look("a.bin") is first

    def test_a_swapped_root_is_noticed(self, tmp_path, coders, clock, pools):
        for release in ("one", "two"):
            (tmp_path / release).mkdir()
            (tmp_path / release / "a.txt").write_text(release)
        current = tmp_path / "current"
        current.symlink_to("one")
        folder = LiveFolder(
            Roots((str(current),)), coders, lambda *args: Asset(args[1]), files=pools[0], compressors=pools[1], clock_s=clock
        )
        assert folder.load("a.txt").digest == sha256(b"one").digest()
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(current)
        clock.pass_s(1)
        assert anyio.run(folder.lookup, "a.txt").digest == sha256(b"two").digest()

    def test_what_is_distrusted_is_looked_at_at_once(self, root, folder, roots):
        (root / "a.css").write_bytes(TEXT)
        folder.load("a.css")
        folder.distrust("a.css")
        folder.distrust("never heard of")
        assert folder.get("a.css") is None


class TestLoad:
    def test_callers_at_once_share_one_look(self, root, folder, roots):
        (root / "a.css").write_bytes(TEXT)

        async def ask_often() -> list[Entry]:
            found: list[Entry] = []

            async def ask_once() -> None:
                found.append(await folder.lookup("a.css"))

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(ask_once)
            return found

        gate = threading.Event()
        roots.before = lambda: gate.wait(0.05)
        found = anyio.run(ask_often)
        assert roots.looks == 1
        assert all(entry is found[0] for entry in found)

    def test_many_threads_and_loops_agree_on_the_entry(self, root, folder):
        (root / "a.css").write_bytes(TEXT)
        found: list[Entry] = []
        threads = [
            threading.Thread(target=lambda backend=backend: found.append(anyio.run(folder.lookup, "a.css", backend=backend)))
            for backend in ("asyncio", "trio") * 8
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {entry.digest for entry in found} == {sha256(TEXT).digest()}
        assert len(found) == 16

    def test_known_paths_are_bounded(self, root, folder, monkeypatch):
        monkeypatch.setattr(livefolder, "LIMIT_ENTRIES", 10)
        for number in range(30):
            (root / f"{number}").mkdir()
            folder.load(f"{number}")
        assert len(folder._entries) == 10
        assert folder.get("29") is not None
        assert folder._loading == {}

    def test_the_bounds_are_what_a_process_can_hold(self, folder):
        for number in range(70_000):
            folder._remember(Entry(f"{number}", Probe(Kind.FOLDER), 1000.0))
            folder._remember(Entry(f"no-{number}", probe.MISSING, 1000.0))
        assert (len(folder._entries), len(folder._misses)) == (65_536, 4096)

    def test_misses_drive_out_no_files(self, root, folder, monkeypatch):
        monkeypatch.setattr(livefolder, "LIMIT_MISSES", 10)
        (root / "a.bin").write_bytes(TEXT)
        known = folder.load("a.bin")
        for number in range(100):
            folder.load(f"nothing-{number}")
        assert folder.get("a.bin") is known
        assert folder.get("nothing-99") is not None
        assert (len(folder._entries), len(folder._misses)) == (1, 10)

    @pytest.mark.parametrize(
        ("path", "remembered"), [("x/" * 255 + "ab", True), ("x/" * 255 + "abc", False), ("é/" * 171, False)]
    )
    def test_a_long_path_of_nothing_is_not_remembered(self, folder, path, remembered):
        assert folder.load(path).probe.kind is Kind.MISSING
        assert (folder.get(path) is not None) == remembered

    def test_a_path_is_known_as_one_thing_only(self, root, look, folder):
        for _ in range(2):
            assert look("a.bin").probe.kind is Kind.MISSING
            assert (len(folder._entries), len(folder._misses)) == (0, 1)
            (root / "a.bin").write_bytes(TEXT)
            assert look("a.bin").probe.kind is Kind.FILE
            assert (len(folder._entries), len(folder._misses)) == (1, 0)
            (root / "a.bin").unlink()

    def test_a_failing_look_is_told_to_everyone_and_forgotten(self, folder, roots, look):
        def fail() -> None:
            raise OverloadedError("no descriptors")

        roots.before = fail
        for _ in range(2):
            with pytest.raises(OverloadedError):
                look("a.css")
        assert folder._loading == {}
        roots.before = lambda: None
        assert look("a.css").probe.kind is Kind.MISSING

    def test_a_file_that_is_replaced_while_it_is_hashed_is_hashed_again(self, root, folder, monkeypatch):
        (root / "a.css").write_bytes(b"one")
        real, seen = livefolder.read_pieces, []

        def read_then_replace(descriptor: int) -> Iterator[bytes]:
            yield from real(descriptor)
            if not seen:
                seen.append(1)
                (root / "a.css").write_bytes(b"two!")

        monkeypatch.setattr(livefolder, "read_pieces", read_then_replace)
        entry = folder.load("a.css")
        assert (entry.digest, entry.probe.signature.size) == (sha256(b"two!").digest(), 4)

    def test_a_file_that_vanishes_while_it_is_hashed_is_missing(self, root, folder, monkeypatch):
        (root / "a.css").write_bytes(b"one")
        real = livefolder.open_regular

        def vanish(path: str) -> tuple[int, os.stat_result]:
            (root / "a.css").unlink(missing_ok=True)
            return real(path)

        monkeypatch.setattr(livefolder, "open_regular", vanish)
        assert folder.load("a.css").probe.kind is Kind.MISSING

    def test_a_file_that_never_rests_is_known_without_validators_and_hashed_at_the_next_look(
        self, root, folder, monkeypatch, look, caplog
    ):
        (root / "log.txt").write_bytes(b"one")
        real = livefolder.read_pieces

        def read_then_grow(descriptor: int) -> Iterator[bytes]:
            yield from real(descriptor)
            with (root / "log.txt").open("ab") as file:
                file.write(b"more")

        with monkeypatch.context() as patch:
            patch.setattr(livefolder, "read_pieces", read_then_grow)
            entry = folder.load("log.txt")
        identity = entry.responses.asset.representations[0]
        assert (entry.digest, identity.etag, identity.last_modified) == (None, None, None)
        assert "changes faster than it can be read" in caplog.text
        assert look("log.txt").digest == sha256((root / "log.txt").read_bytes()).digest()

    def test_looking_leaves_no_descriptor(self, root, look, count_descriptors, finish):
        (root / "a.css").write_bytes(TEXT)
        (root / "a.css.br").write_bytes(b"bad")
        for path in ("a.css", "nothing", "", "a.css"):
            finish(look(path))
        assert count_descriptors(root) == 0


class TestFingerprints:
    @pytest.mark.parametrize("algorithm", [sha256, md5])
    @pytest.mark.parametrize("digits", [8, 12, 32])
    def test_a_name_that_holds_its_contents_digest_is_proved(self, root, folder, algorithm, digits):
        name = f"app.{algorithm(TEXT).hexdigest()[:digits]}.css"
        (root / name).write_bytes(TEXT)
        assert folder.load(name).proved

    @pytest.mark.parametrize("name", ["app-deadbeef.css", "a.css", f"app.{sha256(TEXT).hexdigest()[:7]}.css"])
    def test_a_name_that_only_looks_like_it_is_not(self, root, folder, name):
        (root / name).write_bytes(TEXT)
        assert not folder.load(name).proved

    def test_a_proof_ends_when_the_content_changes(self, root, look):
        name = f"app.{sha256(TEXT).hexdigest()[:12]}.css"
        (root / name).write_bytes(TEXT)
        assert look(name).proved
        (root / name).write_bytes(TEXT + b"/* by hand */")
        assert not look(name).proved


class TestForms:
    def test_they_are_made_once_in_the_background_and_replace_the_entry(self, root, folder, coders, look, finish):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first = folder.load("a.css")
        assert codings(first) == [ContentCoding.IDENTITY]
        assert first.responses.asset.negotiable
        coders.go_on.set()
        finish(first)
        better = folder.get("a.css")
        assert codings(better) == [ContentCoding.IDENTITY, ContentCoding.BR, ContentCoding.ZSTD, ContentCoding.GZIP]
        for _ in range(3):
            finish(look("a.css"))
        assert coders.made == [(ContentCoding.BR, ContentCoding.ZSTD, ContentCoding.GZIP)]

    def test_a_restart_finds_them(self, root, folder, coders, finish, clock, pools, tmp_path):
        (root / "a.css").write_bytes(TEXT)
        finish(folder.load("a.css"))
        again = CountingEncodings(directory=str(tmp_path / "forms"))
        second = LiveFolder(
            Roots((str(root),)), again, lambda *args: Asset(args[1]), files=pools[0], compressors=pools[1], clock_s=clock
        )
        assert len(codings(second.load("a.css"))) == 4
        assert again.made == []

    def test_only_what_sidecars_do_not_give_is_made(self, root, folder, coders, finish):
        (root / "a.css").write_bytes(TEXT)
        (root / "a.css.br").write_bytes(brotli.compress(TEXT))
        finish(folder.load("a.css"))
        assert coders.made == [(ContentCoding.ZSTD, ContentCoding.GZIP)]
        assert folder.get("a.css").sources[ContentCoding.BR].path == str(root / "a.css.br")

    def test_a_form_that_is_not_worth_keeping_is_tried_once(self, root, folder, coders, finish, look):
        (root / "a.css").write_bytes(os.urandom(2000))
        for _ in range(3):
            finish(look("a.css"))
        assert codings(folder.get("a.css")) == [ContentCoding.IDENTITY]
        assert len(coders.made) == 1

    @pytest.mark.parametrize(("name", "size"), [("a.png", 4000), ("a.css", 255), ("a.bin", 4000)])
    def test_none_are_made_of_what_is_small_or_compressed(self, root, folder, coders, name, size):
        (root / name).write_bytes(bytes(size))
        entry = folder.load(name)
        assert (entry.work, entry.responses.asset.negotiable, coders.made) == (None, False, [])

    def test_a_sidecar_of_an_incompressible_type_is_used(self, root, folder):
        (root / "a.bin").write_bytes(TEXT)
        (root / "a.bin.gz").write_bytes(gzip.compress(TEXT))
        entry = folder.load("a.bin")
        assert codings(entry) == [ContentCoding.IDENTITY, ContentCoding.GZIP]
        assert entry.responses.asset.negotiable

    def test_sidecars_that_come_change_and_go_are_noticed(self, root, look):
        (root / "a.bin").write_bytes(TEXT)
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY]
        (root / "a.bin.gz").write_bytes(gzip.compress(TEXT))
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY, ContentCoding.GZIP]
        (root / "a.bin.gz").write_bytes(gzip.compress(b"stale"))
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY]
        (root / "a.bin.gz").write_bytes(gzip.compress(TEXT, 1))
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY, ContentCoding.GZIP]
        (root / "a.bin.gz").unlink()
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY]

    def test_a_deleted_sidecar_falls_back_to_a_made_form(self, root, folder, look, finish):
        (root / "a.css").write_bytes(TEXT)
        (root / "a.css.br").write_bytes(brotli.compress(TEXT))
        finish(look("a.css"))
        (root / "a.css.br").unlink()
        finish(look("a.css"))
        assert ContentCoding.BR in folder.get("a.css").sources
        assert folder.get("a.css").sources[ContentCoding.BR].path != str(root / "a.css.br")

    def test_each_form_has_a_digest_and_tag_of_its_own(self, root, folder, finish):
        (root / "a.css").write_bytes(TEXT)
        finish(folder.load("a.css"))
        entry = folder.get("a.css")
        for one in entry.responses.asset.representations:
            content = Path(entry.sources[one.coding].path).read_bytes()
            assert (one.digest, one.length) == (sha256(content).digest(), len(content))
        assert len({one.etag for one in entry.responses.asset.representations}) == 4

    def test_a_file_that_changes_while_it_is_compressed_keeps_its_new_entry(self, root, folder, coders, look, finish):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first = folder.load("a.css")
        (root / "a.css").write_bytes(b"too small to be compressed")
        second = look("a.css")
        coders.go_on.set()
        finish(first)
        assert folder.get("a.css") is second

    def test_a_file_that_changes_while_its_forms_are_checked_keeps_its_new_entry(
        self, root, coders, look, folder, finish, monkeypatch
    ):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first, real, newer = look("a.css"), coders.find, []

        def change(*args: Any) -> Any:
            if not newer:
                newer.append(None)
                (root / "a.css").write_bytes(b"too small to be compressed")
                newer[0] = folder.load("a.css")
            return real(*args)

        monkeypatch.setattr(coders, "find", change)
        coders.go_on.set()
        finish(first)
        assert folder.get("a.css") is newer[0]

    def test_a_file_that_is_distrusted_while_it_is_compressed_is_not_put_back(self, root, coders, look, folder, finish):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first = look("a.css")
        folder.distrust("a.css")
        coders.go_on.set()
        finish(first)
        assert folder.get("a.css") is None

    def test_a_file_that_settles_while_its_forms_are_checked_stays_settled(
        self, root, coders, look, folder, finish, monkeypatch
    ):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first, real = look("a.css"), coders.find
        assert not first.settled

        def settle(*args: Any) -> Any:
            first.settled = True  # as a look at the disk does, meanwhile
            return real(*args)

        monkeypatch.setattr(coders, "find", settle)
        coders.go_on.set()
        finish(first)
        assert folder.get("a.css") is not first
        assert folder.get("a.css").settled

    def test_work_that_finishes_at_once_is_remembered_as_done(self, root, folder, coders, finish, monkeypatch):
        """The pool's thread may be through before the submitter has noted the future."""
        monkeypatch.setattr(Encodings, "make", lambda *_: None)
        for number in range(50):
            (root / f"{number}.css").write_bytes(TEXT)
            finish(folder.load(f"{number}.css"))
            assert folder.get(f"{number}.css").work is not None

    def test_running_out_of_descriptors_pins_no_answer(self, root, look, folder, finish, monkeypatch):
        (root / "a.bin").write_bytes(TEXT)
        (root / "a.bin.gz").write_bytes(gzip.compress(TEXT))

        def refuse(path: str) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(encodings, "open_regular", refuse)
            with pytest.raises(OverloadedError):
                look("a.bin")
        assert codings(look("a.bin")) == [ContentCoding.IDENTITY, ContentCoding.GZIP]

    def test_a_look_for_made_forms_that_fails_for_lack_of_descriptors_breaks_nobody(
        self, root, look, folder, finish, monkeypatch, coders
    ):
        (root / "a.css").write_bytes(TEXT)
        coders.go_on.clear()
        first = look("a.css")

        def refuse(*_: object) -> None:
            raise OverloadedError("no descriptors")

        with monkeypatch.context() as patch:
            patch.setattr(coders, "find", refuse)
            coders.go_on.set()
            finish(first)
        assert first.work.exception() is None
        assert folder.get("a.css") is first


class TestLargeFiles:
    @pytest.fixture(autouse=True)
    def _small_limit(self, monkeypatch):
        monkeypatch.setattr(livefolder, "HASHED_AT_ONCE_BYTES", 1000)

    def test_one_is_known_at_once_and_gets_its_tag_in_the_background(self, root, folder, finish, settled_at_once):
        (root / "a.iso").write_bytes(TEXT)
        os.utime(root / "a.iso", (10**9, 10**9))
        first = folder.load("a.iso")
        identity = first.responses.asset.representations[0]
        assert (identity.digest, identity.length, identity.last_modified) == (None, len(TEXT), 10**9)
        finish(first)
        better = folder.get("a.iso")
        assert better.responses.asset.representations[0].digest == sha256(TEXT).digest()

    def test_it_is_hashed_once(self, root, folder, look, finish, settled_at_once, monkeypatch):
        (root / "a.iso").write_bytes(TEXT)
        finish(look("a.iso"))
        monkeypatch.setattr(livefolder, "_identify", lambda *_: pytest.fail("hashed again"))
        for _ in range(3):
            assert look("a.iso").digest == sha256(TEXT).digest()

    def test_a_proved_name_is_proved_in_the_background(self, root, folder, finish):
        name = f"a.{sha256(TEXT).hexdigest()[:16]}.iso"
        (root / name).write_bytes(TEXT)
        first = folder.load(name)
        assert not first.proved
        finish(first)
        assert folder.get(name).proved

    def test_one_that_could_not_be_hashed_is_tried_again(self, root, folder, look, finish, settled_at_once, monkeypatch):
        (root / "a.iso").write_bytes(TEXT)

        def refuse(path: str) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(livefolder, "open_regular", refuse)
            finish(look("a.iso"))
        finish(look("a.iso"))
        assert folder.get("a.iso").digest == sha256(TEXT).digest()

    @pytest.mark.parametrize("settled", [False, True])
    def test_one_is_settled_if_it_was_when_it_was_hashed(self, root, look, folder, finish, monkeypatch, settled):
        monkeypatch.setattr(livefolder, "SETTLED_NS", -(10**10) if settled else 10**18)
        (root / "a.iso").write_bytes(TEXT)
        finish(look("a.iso"))
        assert (folder.get("a.iso").digest is not None, folder.get("a.iso").settled) == (True, settled)

    def test_running_out_of_descriptors_after_the_hashing_breaks_nobody(
        self, root, look, folder, finish, settled_at_once, monkeypatch, coders
    ):
        (root / "a.iso").write_bytes(TEXT)
        (root / "a.iso.gz").write_bytes(gzip.compress(TEXT))

        def refuse(*_: object) -> None:
            raise OverloadedError("no descriptors")

        with monkeypatch.context() as patch:
            patch.setattr(coders, "find", refuse)
            first = look("a.iso")
            finish(first)
        assert first.work.exception() is None
        finish(look("a.iso"))
        assert codings(folder.get("a.iso")) == [ContentCoding.IDENTITY, ContentCoding.GZIP]

    def test_closing_the_pool_ends_the_hashing_without_a_word(self, root, look, pools, monkeypatch, caplog):
        with (root / "a.iso").open("wb") as file:
            file.truncate(1 << 40)
        started, real = threading.Event(), livefolder.read_pieces

        def tell(descriptor: int) -> Iterator[bytes]:
            for piece in real(descriptor):
                started.set()
                yield piece

        monkeypatch.setattr(livefolder, "read_pieces", tell)
        entry = look("a.iso")
        assert started.wait(60)
        pools[1].close()
        assert (entry.work.done(), entry.work.exception(), entry.digest) == (True, None, None)
        assert not caplog.records

    def test_closing_the_pool_ends_a_look(self, root, folder, pools, monkeypatch, caplog):
        monkeypatch.setattr(livefolder, "HASHED_AT_ONCE_BYTES", 1 << 50)
        with (root / "a.iso").open("wb") as file:
            file.truncate(1 << 40)
        future = folder._load_soon("a.iso")
        pools[0].close()
        assert future.cancelled() or isinstance(future.exception(timeout=0), InterruptedError)
        assert folder._loading == {}
        assert not caplog.records

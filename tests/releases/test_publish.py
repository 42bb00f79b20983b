"""A folder becomes a release: nothing twice, nothing that changed meanwhile, nothing larger than the file."""

import os
import time
from collections.abc import Iterable
from hashlib import md5, sha256
from pathlib import Path

import msgspec
import pytest

from assetserver.errors import PublishError
from assetserver.releases import compressing, storing
from assetserver.releases import publish as publishing
from assetserver.releases.checks import CheckPolicy
from assetserver.releases.library import CODINGS, Library
from assetserver.releases.publish import PublishOptions, publish_folder
from assetserver.releases.scan import scan_folder
from assetserver.releases.survey import examine_batch
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import decode
from assetserver.storage.files import FileBlobs

CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100
NOISE = bytes(byte for number in range(40) for byte in sha256(b"%d" % number).digest())
SMALL = {"index.html": b"<p>hello", "robots.txt": b"", "img/dot.gif": b"GIF89a"}


def files_below(folder: str) -> dict[str, float]:
    names = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    return {name: os.stat(name).st_mtime_ns for name in names}


def digest_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


def test_a_release_holds_the_files_of_the_folder(library, publish):
    report = publish(SMALL)
    manifest = library.load_manifest(report.release)
    assert {path: b"".join(library.blobs.read(one.digest)) for path, one in manifest.files.items()} == SMALL
    assert (report.files, report.size) == (3, 14)
    assert (report.new_blobs, report.new_bytes, report.existed) == (3, 14, False)


def test_publishing_twice_gives_the_same_release_and_writes_nothing(library, publish):
    first = publish(SMALL | {"app.css": CSS})
    before = files_below(library.folder)
    second = publish(SMALL | {"app.css": CSS})
    assert second.release == first.release
    assert (second.new_blobs, second.new_bytes, second.compressed, second.existed) == (0, 0, 0, True)
    assert files_below(library.folder) == before


def test_one_changed_file_is_one_new_blob(library, publish):
    first = publish(SMALL)
    second = publish(SMALL | {"index.html": b"<p>changed"})
    assert second.release != first.release
    assert (second.new_blobs, second.new_bytes) == (1, 10)
    assert library.load_manifest(first.release).files["index.html"].digest == digest_of(b"<p>hello")


def test_the_same_content_under_two_names_is_stored_once(library, publish):
    report = publish({"a.txt": b"same", "b/c.txt": b"same"})
    assert (report.files, report.size, report.new_blobs, report.new_bytes) == (2, 8, 1, 4)
    assert len(list(library.blobs.list_blobs())) == 1


def test_compressed_forms_decode_to_the_file_and_are_told(library, publish):
    report = publish({"app.css": CSS})
    forms = library.codings_of(digest_of(CSS))
    assert [form.coding for form in forms] == [coding.value for coding in CODINGS]
    for form in forms:
        assert library.blobs.size_of(form.digest) == form.size
        assert b"".join(decode(ContentCoding(form.coding), library.blobs.read(form.digest))) == CSS
    assert report.compressed == 1
    assert report.saved == {form.coding: len(CSS) - form.size for form in forms}


def test_forms_that_save_less_than_a_twentieth_are_not_kept(library, publish):
    publish({"noise.js": NOISE})
    assert library.codings_of(digest_of(NOISE)) == ()
    assert [one.digest for one in library.blobs.list_blobs()] == [digest_of(NOISE)]


def test_a_blob_is_compressed_once_across_releases_even_if_nothing_was_worth_it(library, publish, monkeypatch):
    publish({"app.css": CSS, "noise.js": NOISE})

    def fail(*_: object) -> None:
        raise AssertionError("compresses again")

    monkeypatch.setattr(compressing, "compress_batch", fail)
    report = publish({"other.css": CSS, "again/noise.js": NOISE, "new.txt": b"short"})
    assert report.compressed == 0
    assert report.saved["br"] > 0


@pytest.mark.parametrize("name", ["tiny.css", "photo.jpg"])
def test_what_is_small_or_compressed_already_is_not_compressed(library, publish, name):
    content = b"a" if name == "tiny.css" else CSS
    assert publish({name: content}).compressed == 0
    assert library.codings_of(digest_of(content)) is None


def test_a_dry_run_tells_the_same_and_stores_nothing(library, publish):
    report = publish(SMALL | {"app.css": CSS}, dry_run=True)
    assert files_below(library.folder) == {}
    assert (report.new_blobs, report.new_bytes) == (4, 14 + len(CSS))
    assert report.saved is None  # nobody knows yet
    assert publish(SMALL | {"app.css": CSS}).release == report.release


def test_names_that_the_content_proves_are_marked(library, publish):
    proved = {
        f"app.{sha256(CSS).hexdigest()[:12]}.css": CSS,
        f"logo-{md5(b'<svg/>', usedforsecurity=False).hexdigest()}.svg": b"<svg/>",
    }
    report = publish(proved | {"app.deadbeef.css": CSS, "app.css": CSS})
    marks = {path: one.fingerprint for path, one in library.load_manifest(report.release).files.items()}
    assert marks == dict.fromkeys(proved, "proved") | {"app.deadbeef.css": "", "app.css": ""}


def test_progress_ends_at_all_bytes(tmp_path, library):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "app.css").write_bytes(CSS)
    (tmp_path / "site" / "a.txt").write_bytes(b"1234")
    told: dict[str, list[tuple[int, ...]]] = {}
    publish_folder(library, str(tmp_path / "site"), lambda what, *amounts: told.setdefault(what, []).append(amounts))
    assert told["storing"][-1] == (4 + len(CSS), 4 + len(CSS), 2, 2)
    assert told["checking"] == [(len(CSS), len(CSS), 1, 1)]
    assert told["compressing"] == [(len(CSS), len(CSS), 1, 1)]


def test_progress_moves_with_each_coding_and_counts_a_file_when_all_are_made(tmp_path, library, monkeypatch):
    monkeypatch.setattr(compressing, "BATCH_BYTES", 1000)  # codings of larger ones are made apart
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "app.css").write_bytes(CSS)
    told: list[tuple[int, ...]] = []
    publish_folder(
        library, str(tmp_path / "site"), lambda what, *amounts: told.append(amounts) if what == "compressing" else None
    )
    sizes, files = [one[0] for one in told], [one[2] for one in told]
    assert sizes == sorted(set(sizes))
    assert (sizes[-1], files) == (len(CSS), [0, 0, 1])
    assert sum(compressing.SHARES.values()) == 100
    assert compressing.SHARES.keys() == set(CODINGS)


class Meddled(FileBlobs):
    """Blobs of a store that someone meddles with a file right before it is stored."""

    def __init__(self, folder: str, path: Path, content: bytes) -> None:
        super().__init__(folder)
        self.path, self.content = path, content

    def put(self, digest: Digest, pieces: Iterable[bytes], *, confirmed: bool = True) -> int:
        self.path.write_bytes(self.content)
        return super().put(digest, pieces, confirmed=confirmed)


@pytest.mark.parametrize("content", [b"<p>jello", b"<p>", b"<p>hello, you"], ids=["same size", "shorter", "longer"])
def test_a_file_that_changes_between_hashing_and_storing_is_an_error(tmp_path, content, monkeypatch):
    monkeypatch.setattr(storing, "PIECE_BYTES", 4)  # a file of one piece is stored from memory
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_bytes(b"<p>hello")
    library = Library(str(tmp_path / "data"), Meddled(str(tmp_path / "data" / "blobs"), site / "index.html", content))
    with pytest.raises(PublishError, match=r"index\.html changed while it was read; publish again"):
        publish_folder(library, str(site), lambda *_: None)
    assert files_below(library.folder) == {}


@pytest.mark.parametrize("change", ["grow", "vanish"])
def test_a_file_that_changes_between_scanning_and_hashing_is_an_error(tmp_path, library, monkeypatch, change):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_bytes(b"<p>hello")
    real = publishing.scan_folder

    def scan_then_change(*arguments: object) -> object:
        found = real(*arguments)
        if change == "grow":
            (site / "index.html").write_bytes(b"<p>hello, world")
        else:
            (site / "index.html").unlink()
        return found

    monkeypatch.setattr(publishing, "scan_folder", scan_then_change)
    with pytest.raises(PublishError, match=r"index\.html (changed while it was read|cannot be read: No such file)"):
        publish_folder(library, str(site), lambda *_: None)
    assert list(library.manifests()) == []


def test_publishing_again_repairs_a_blob_of_the_wrong_size(library, publish):
    publish(SMALL)
    path = Path(library.blobs.path_of(digest_of(b"<p>hello")))
    path.chmod(0o644)
    path.write_bytes(b"<p>")
    report = publish(SMALL)
    assert report.new_blobs == 1
    assert path.read_bytes() == b"<p>hello"


def test_publishing_again_repairs_a_damaged_manifest(library, publish):
    release = publish(SMALL).release
    path = Path(library.folder, "releases", f"{release}.json")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(PublishError, match="publish it again"):
        library.load_manifest(release)
    report = publish(SMALL)
    assert (report.release, report.existed) == (release, False)
    assert len(library.load_manifest(release).files) == 3


def test_publishing_again_brings_back_a_lost_compressed_form(library, publish):
    publish({"app.css": CSS})
    lost = library.codings_of(digest_of(CSS))[0].digest
    library.blobs.delete(lost)
    publish({"app.css": CSS})
    assert library.blobs.size_of(lost) is not None


def test_a_file_that_did_not_change_is_not_read_again(library, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    for name in ("settled.txt", "fresh.txt"):
        (site / name).write_bytes(b"content of " + name.encode())
    real = time.time_ns
    monkeypatch.setattr(storing.time, "time_ns", lambda: real() + 60_000_000_000)
    first = publish_folder(library, str(site), lambda *_: None)
    read: list[str] = []
    monkeypatch.setattr(storing, "_read", lambda found: read.append(found.path) or iter([(site / found.path).read_bytes()]))
    assert publish_folder(library, str(site), lambda *_: None).release == first.release
    assert read == []
    (site / "fresh.txt").write_bytes(b"CONTENT OF fresh.txt")
    os.utime(site / "fresh.txt", ns=(1, 1))
    changed = publish_folder(library, str(site), lambda *_: None)
    assert (read, changed.new_blobs) == (["fresh.txt"], 1)


def test_a_file_that_changed_a_moment_ago_is_read_again(library, tmp_path, monkeypatch):
    """A coarse clock may give a second change the same times."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_bytes(b"1")
    publish_folder(library, str(site), lambda *_: None)
    read: list[str] = []
    monkeypatch.setattr(storing, "_read", lambda found: read.append(found.path) or iter([b"1"]))
    publish_folder(library, str(site), lambda *_: None)
    assert read == ["a.txt"]


def test_a_file_remembered_is_stored_again_if_its_blob_is_gone(library, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_bytes(b"1")
    real = time.time_ns
    monkeypatch.setattr(storing.time, "time_ns", lambda: real() + 60_000_000_000)
    publish_folder(library, str(site), lambda *_: None)
    library.blobs.delete(digest_of(b"1"))
    assert publish_folder(library, str(site), lambda *_: None).new_blobs == 1
    assert library.blobs.size_of(digest_of(b"1")) == 1


def test_what_was_remembered_of_a_secret_holds_under_another_policy(library, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    key = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64 + b"\n-----END PRIVATE KEY-----\n"
    (site / "notes.txt").write_bytes(key)
    real = time.time_ns
    monkeypatch.setattr(storing.time, "time_ns", lambda: real() + 60_000_000_000)
    open_minded = PublishOptions(policy=CheckPolicy(secrets="publish"))
    for options in (PublishOptions(), open_minded, PublishOptions(), open_minded):
        if options is open_minded:
            assert publish_folder(library, str(site), lambda *_: None, options).files == 1
            assert library.blobs.size_of(digest_of(key)) == len(key)
            library.blobs.delete(digest_of(key))
        else:
            with pytest.raises(PublishError, match=r"notes\.txt looks like a private key"):
                publish_folder(library, str(site), lambda *_: None, options)
            assert library.blobs.size_of(digest_of(key)) is None


@pytest.mark.parametrize("name", ["index.html", "_headers"])
def test_a_file_that_a_fifo_replaces_is_an_error_and_nobody_waits(tmp_path, library, monkeypatch, name):
    site = tmp_path / "site"
    site.mkdir()
    for one in ("index.html", "_headers"):
        (site / one).write_bytes(b"")
    real = publishing.scan_folder

    def scan_then_replace(*arguments: object) -> object:
        found = real(*arguments)
        (site / name).unlink()
        os.mkfifo(site / name)
        return found

    monkeypatch.setattr(publishing, "scan_folder", scan_then_replace)
    with pytest.raises(PublishError, match=f"{name} changed while it was read"):
        publish_folder(library, str(site), lambda *_: None)


def test_a_file_that_a_fifo_replaces_before_it_is_looked_into_is_an_error(tmp_path):
    (tmp_path / "index.html").write_bytes(b"<p>")
    (found,) = scan_folder(str(tmp_path)).files
    (tmp_path / "index.html").unlink()
    os.mkfifo(tmp_path / "index.html")
    with pytest.raises(PublishError, match=r"index\.html changed while it was read"):
        examine_batch([((digest_of(b"<p>"), "html"), found.full, found.signature)])


@pytest.fixture
def settled(library, tmp_path, monkeypatch) -> Path:
    """A folder that was published, and is remembered; its memory is the one file below ``seen``."""
    monkeypatch.setattr(storing, "SETTLED_NS", -(1 << 62))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.txt").write_bytes(b"content")
    publish_folder(library, str(tmp_path / "site"), lambda *_: None)
    return tmp_path / "site"


def memory_of(library: Library) -> Path:
    (path,) = Path(library.folder, "seen").iterdir()
    return path


def test_a_memory_with_any_bit_flipped_is_none(library, settled):
    path = memory_of(library)
    sound = path.read_bytes()
    for at in range(len(sound) * 8):
        damaged = bytearray(sound)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert storing._recall(str(path)) == {}
    path.write_bytes(sound[:-1])
    assert storing._recall(str(path)) == {}
    path.write_bytes(sound)
    assert list(storing._recall(str(path))) == ["a.txt"]


def test_what_another_version_remembered_is_read_again(library, settled, monkeypatch):
    monkeypatch.setattr(storing, "SEEN_VERSION", storing.SEEN_VERSION + 1)
    assert storing._recall(str(memory_of(library))) == {}


def test_a_wrong_memory_does_not_keep_a_folder_from_being_published(library, settled):
    path = str(memory_of(library))
    known = storing._recall(path)["a.txt"]
    wrong = msgspec.structs.replace(known, digest=digest_of(b"something else"))
    storing._remember(path, {"a.txt": wrong})
    report = publish_folder(library, str(settled), lambda *_: None)
    assert library.load_manifest(report.release).files["a.txt"].digest == digest_of(b"content")
    assert storing._recall(path)["a.txt"].digest == digest_of(b"content")


def test_folders_are_synced_before_anything_durable_is_named_in_them(library, publish, monkeypatch):
    """Whoever made them may have been killed before it came to that."""
    for name in ("blobs", "codings", "releases", "sites"):
        os.makedirs(os.path.join(library.folder, name))
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda one: (steps.append(os.readlink(f"/proc/self/fd/{one}")), fsync(one))[1])
    monkeypatch.setattr(os, "replace", lambda source, target: (steps.append("-> " + target), replace(source, target))[1])
    publish({"app.css": CSS})
    first = next(number for number, one in enumerate(steps) if one.startswith("-> ") and "/codings/" in one)
    data = library.folder
    assert {os.path.dirname(data), data, f"{data}/sites"} <= set(steps[:first])
    manifest = next(
        number for number, one in enumerate(steps) if one.startswith("-> ") and one.endswith(".json") and "/releases/" in one
    )
    assert {f"{data}/codings", f"{data}/blobs"} <= set(steps[first:manifest])


def test_data_whose_folder_above_may_not_be_read_are_published_to(library, publish, monkeypatch):
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path == os.path.dirname(library.folder):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode)

    os.makedirs(library.folder)
    monkeypatch.setattr(os, "open", refuse)
    assert publish(SMALL).files == 3


@pytest.mark.parametrize(
    ("files", "is_rooted"),
    [
        ({"index.html": b"<script src=/app.js></script>"}, True),
        ({"a/b.html": b'<base href="/"><img src=x.png>'}, True),
        ({"app.css": b"a{background:url(/x.png)}"}, True),
        (
            {"index.html": b"<script src=app.js></script><a href=./>home</a><img src=//example.com/x.png>", "app.js": b"'/a'"},
            False,
        ),
    ],
)
def test_the_report_tells_whether_pages_refer_to_the_root(publish, files, is_rooted):
    assert publish(files).has_rooted_references is is_rooted
    assert publish(files, dry_run=True).has_rooted_references is is_rooted


def test_fingerprints_are_told_in_the_order_of_paths(publish):
    names = [f"{folder}/app.{sha256(CSS).hexdigest()[:12]}.css" for folder in ("b", "a", "c", "a/d", "a-")]
    assert list(publish(dict.fromkeys(names, CSS)).fingerprints) == sorted(names)


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        (b"/* /index.html 200", ["catch-all"]),
        (b"/* /gone.html 404", []),
        (b"/old/* /index.html 200", ["not-found-page"]),
        (b"/* q=:q /index.html 200", ["not-found-page"]),
    ],
)
def test_a_rule_that_answers_everything_takes_the_place_of_a_404_page(publish, rules, codes):
    findings = publish({"index.html": b"<p>", "_redirects": rules}).findings
    assert [one.code for one in findings] == codes

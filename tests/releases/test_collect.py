"""What nobody needs goes, what is live stays whole: whoever publishes, activates or collects meanwhile."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.releases import collect as collecting
from assetserver.releases.activation import activate_release, check_whole, keep_release
from assetserver.releases.collect import Retention, collect, collecting_lock, publishing_lock
from assetserver.releases.publish import publish_folder
from assetserver.releases.serving import ActiveIndex
from assetserver.releases.sites import add_release, drop_releases, lock_site, previous_release
from assetserver.releases.verify import verify

from ..contracts.blobstore import digest_of, put

NOTHING = Retention(0, 0)
TEXT = b"the same words again and again, " * 40


def name_of(content: bytes) -> str:
    return f"chunk.{sha256(content).hexdigest()[:10]}.js"


def version(number: int) -> dict[str, bytes]:
    """A file that changes, with compressed forms, one with a fingerprint, and one that stays."""
    return {"app.css": TEXT + b"%d" % number, name_of(b"%d" % number): b"%d" % number, "same.txt": TEXT}


@pytest.fixture
def site(library):
    return library.site("main")


@pytest.fixture
def live(library, publish):
    """``live(files, site)`` publishes files and makes them what the site serves."""

    def make(files, site):
        made = publish(files).release
        keep_release(library, site, made)
        activate_release(library, site, made)
        return made

    return make


def gc(library, retention=NOTHING, **options):
    return collect(library, retention, grace_s=0, **options)


def files_of(library) -> list[str]:
    """Return the data files by path, without the lock that every collection makes."""
    found = (os.path.join(at, name) for at, _, names in os.walk(library.folder) for name in names)
    return sorted(os.path.relpath(path, library.folder) for path in found if os.path.basename(path) != "publishing")


def kept(site) -> list[str]:
    return [one.id for one in site.read().releases]


def served(library, site, path):
    _, index = ActiveIndex(library, site)()
    entry = index.get(path)
    return entry and b"".join(library.blobs.read(entry.digest.hex()))


def check(library):
    """Everything is sound, and nothing is left over."""
    report = verify(library, lambda *_: None)
    assert (report.faults, report.unreferenced, report.unkept) == ([], 0, 0)


def test_old_releases_and_what_only_they_need_go(library, site, live):
    one, two, three = (live(version(number), site) for number in (1, 2, 3))
    gone = [*library.codings_of(digest_of(version(1)["app.css"]))]
    report = gc(library)
    assert report.releases == [one]
    assert report.dropped == {"main": (one,)}
    assert report.kept == 2
    assert kept(site) == [two, three]
    assert list(library.manifests()) == sorted([two, three])
    for content in (version(1)["app.css"], b"1"):
        assert library.blobs.size_of(digest_of(content)) is None
    assert library.codings_of(digest_of(version(1)["app.css"])) is None
    assert gone
    assert all(library.blobs.size_of(form.digest) is None for form in gone)
    assert report.files["blob"] == 2 + len(gone)
    check(library)


def test_what_is_served_stays_and_kept_old_names_too(library, site, live):
    for number in (1, 2, 3):
        live(version(number), site)
    gc(library)
    assert served(library, site, "app.css") == version(3)["app.css"]
    assert served(library, site, name_of(b"2")) == b"2"
    assert served(library, site, name_of(b"1")) is None
    activate_release(library, site, previous_release(site.read()), going_back=True)
    assert served(library, site, "app.css") == version(2)["app.css"]


def test_bytes_freed_are_those_of_the_files(library, site, live):
    for number in (1, 2, 3):
        live(version(number), site)

    def weigh():
        state = os.stat(site.path).st_size
        return sum(os.stat(os.path.join(library.folder, name)).st_size for name in files_of(library)) - state

    before = weigh()
    report = gc(library)
    new_index = weigh() + sum(report.bytes.values()) - before
    assert 0 <= new_index < 2000
    assert sum(report.files.values()) > 5


def test_a_dry_run_tells_the_same_and_removes_nothing(library, site, live):
    for number in (1, 2, 3):
        live(version(number), site)
    before = files_of(library), site.read()
    told = gc(library, dry_run=True)
    assert (files_of(library), site.read()) == before
    done = gc(library)
    assert (told.releases, told.dropped, told.kept) == (done.releases, done.dropped, done.kept)
    assert {kind: told.files[kind] for kind in ("manifest", "record", "blob")} == {
        kind: done.files[kind] for kind in ("manifest", "record", "blob")
    }


def test_a_second_collection_finds_nothing(library, site, live):
    for number in (1, 2, 3):
        live(version(number), site)
    gc(library)
    after = files_of(library)
    assert gc(library).files == {}
    assert files_of(library) == after


def test_the_newest_and_the_young_stay(library, site, publish):
    releases = [publish({"a": b"%d" % number}).release for number in range(5)]
    for number, release in enumerate(releases):
        site.change(lambda state, release=release, number=number: add_release(state, release, "", "", now=number * 86_400.0))
    now = 5 * 86_400.0
    assert gc(library, Retention(2, 3.5), now=now).releases == sorted(releases[:2])
    assert kept(site) == releases[2:]
    assert gc(library, Retention(1, 0), now=now).dropped == {"main": (releases[2], releases[3])}


def test_what_has_an_alias_stays(library, site, publish):
    one, two = publish(version(1)).release, publish(version(2)).release
    keep_release(library, site, one, alias="staging")
    keep_release(library, site, two)
    gc(library)
    assert kept(site) == [one]
    check(library)


def test_a_release_stays_while_any_site_keeps_it(library, site, live):
    other = library.site("other")
    one = live(version(1), site)
    live(version(1), other)
    live(version(2), site)
    three = live(version(3), site)
    report = gc(library)
    assert (report.dropped, report.releases) == ({"main": (one,), "other": ()}, [])
    assert one not in kept(site)
    assert served(library, other, "app.css") == version(1)["app.css"]
    assert site.read().active == three
    check(library)


def test_a_locked_site_is_collected_too(library, site, live):
    for number in (1, 2, 3):
        live(version(number), site)
    site.change(lambda state: lock_site(state, "audit"))
    assert len(gc(library).releases) == 1
    assert site.read().lock == "audit"


def test_where_nothing_was_published_nothing_is_made(library):
    assert gc(library).files == {}
    assert not os.path.exists(library.folder)


def test_litter_of_the_killed_goes_and_what_may_be_in_flight_stays(library, site, live):
    live(version(1), site)
    before = files_of(library)
    put(library.blobs, b"a blob that no manifest names")
    shelf = Path(library.folder, "codings", "ab")
    shelf.mkdir(exist_ok=True)
    litter = [shelf / ".new-dead", Path(library.folder, "blobs", "tmp", "dead"), Path(site.folder, ".new-dead")]
    litter += [Path(library.folder, "releases", f"{'0' * 64}.{end}") for end in ("json.minisig", "index")]
    litter += [Path(library.folder, "releases", ".new-dead"), shelf / f"ab{'0' * 62}.json"]
    for path in litter:
        path.write_bytes(b"half")
    facts = Path(library.folder, "facts", "00", f"{'0' * 64}-names")
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_bytes(b"{}")
    in_flight = [path for path in litter if path.name == ".new-dead" and path.parent != shelf]
    gc(library)
    assert files_of(library) == sorted({*before, *(str(path.relative_to(library.folder)) for path in in_flight)})
    for path in in_flight:
        os.utime(path, (1, 1))
    assert gc(library).files == {"temporary file": 2}
    assert files_of(library) == before


def test_files_that_are_not_ours_stay(library, site, live):
    live(version(1), site)
    others = [Path(library.folder, at, "README") for at in ("", "releases", "sites", "sites/main", "codings", "blobs")]
    for path in others:
        path.write_text("from the administrator")
    os.mkdir(os.path.join(library.folder, "sites", "Not a site"))
    gc(library)
    assert all(path.exists() for path in others)


def test_records_of_what_is_live_stay(library, site, live):
    live(version(1), site)
    digest = digest_of(TEXT)
    facts = Path(library.folder, "facts", digest[:2], f"{digest}-names")
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_bytes(b"{}")
    gc(library)
    assert facts.exists()
    assert library.codings_of(digest)


def snapshot(library):
    return {name: Path(library.folder, name).read_bytes() for name in files_of(library)}


def damage_state(library, site):
    Path(site.path).write_bytes(b"{")


def delete_state(library, site):
    Path(site.path).unlink()


def damage_manifest(library, site):
    with open(os.path.join(library.folder, "releases", f"{site.read().active}.json"), "ab") as file:
        file.write(b" ")


def delete_manifest(library, site):
    library.delete_manifest(site.read().active)


def damage_record(library, site):
    digest = digest_of(TEXT)
    Path(library.folder, "codings", digest[:2], f"{digest}.json").write_bytes(b"[")


@pytest.mark.parametrize("damage", [damage_state, delete_state, damage_manifest, delete_manifest, damage_record])
def test_where_what_is_needed_is_not_known_nothing_goes(library, site, live, damage):
    for number in (2, 3):
        live(version(number), site)
    damage(library, site)
    before = snapshot(library)
    for dry_run in (True, False):
        with pytest.raises(PublishError, match=r"verify|publish again|bring it back"):
            gc(library, dry_run=dry_run)
        assert snapshot(library) == before
    if damage is not damage_state:
        live(version(3), site)
        gc(library)
        assert served(library, site, "app.css") == version(3)["app.css"]
        check(library)


def test_a_damaged_manifest_of_what_is_dropped_does_not_matter(library, site, live):
    one = live(version(1), site)
    for number in (2, 3):
        live(version(number), site)
    with open(os.path.join(library.folder, "releases", f"{one}.json"), "ab") as file:
        file.write(b" ")
    assert gc(library).releases == [one]
    check(library)


def test_files_go_only_after_servers_had_time_to_see_the_new_state(library, site, live, monkeypatch):
    for number in (1, 2, 3):
        live(version(number), site)
    waited = []

    def sleep(seconds):
        assert len(kept(site)) == 2
        waited.append((seconds, len(list(library.manifests()))))

    monkeypatch.setattr(collecting.time, "sleep", sleep)
    collect(library, NOTHING, grace_s=1000)
    ((seconds, manifests),) = waited
    assert 900 < seconds <= 1000
    assert manifests == 3
    assert len(list(library.manifests())) == 2
    os.utime(site.path, (1, 1))
    collect(library, NOTHING, grace_s=1000)
    assert waited[1][0] == 0


def test_publishing_is_waited_for_and_waits(library, site, live):
    live(version(1), site)
    told = threading.Event()
    with publishing_lock(library.folder), publishing_lock(library.folder, pytest.fail):
        thread = threading.Thread(target=gc, args=(library,), kwargs={"on_wait": told.set})
        thread.start()
        assert told.wait(60)
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
    with collecting_lock(library.folder):
        thread = threading.Thread(target=lambda: publishing_lock(library.folder).__enter__())
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(60)


def test_what_was_collected_is_not_activated(library, site, live):
    one = live(version(1), site)
    for number in (2, 3):
        live(version(number), site)
    gc(library)
    before = site.read()
    with pytest.raises(ReleaseMissingError, match=one[:12]):
        activate_release(library, site, one)
    assert site.read() == before


def test_what_was_dropped_is_not_activated_even_while_its_files_are_there(library, site, live, monkeypatch):
    one, *_ = (live(version(number), site) for number in (1, 2, 3))
    change = site.change

    def change_after_dropping(how):
        change(lambda state: drop_releases(state, 0, float("inf")))
        return change(how)

    monkeypatch.setattr(site, "change", change_after_dropping)
    with pytest.raises(ReleaseMissingError, match=one[:12]):
        activate_release(library, site, one)
    assert library.load_manifest(one)
    assert served(library, site, "app.css") == version(3)["app.css"]


def test_what_is_activated_in_the_last_moment_stays(library, site, live):
    """The states are read, then changed under the lock: what happened in between counts."""
    one, *_ = (live(version(number), site) for number in (1, 2, 3))
    collected = []

    class LateSite(type(site)):
        def change(self, how):
            if not collected:
                collected.append(self.name)
                activate_release(library, site, one)
            return super().change(how)

    class LateLibrary(type(library)):
        def site(self, name):
            return LateSite(os.path.join(self.folder, "sites"), name)

    report = gc(LateLibrary(library.folder, library.blobs))
    assert collected
    assert one not in report.releases
    assert served(library, site, "app.css") == version(1)["app.css"]
    check(library)


def test_collections_beside_promotions_leave_what_is_live_whole(library, site, live):
    contents = [version(number) for number in range(4)]
    for _ in range(5):
        releases = [live(files, site) for files in contents]
        together = threading.Barrier(3)

        def promote(release, together=together):
            together.wait()
            with suppress(ReleaseMissingError):
                activate_release(library, site, release)

        def collect_too(together=together):
            together.wait()
            gc(library)

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(promote, releases[0]), pool.submit(promote, releases[1]), pool.submit(collect_too)]
            for job in jobs:
                job.result()
        check_whole(library, library.load_manifest(site.read().active))
        gc(library)
        check(library)


@pytest.fixture
def collecting_all_the_time(library) -> Iterator[list[int]]:
    """Two threads that collect one after the other until the test ends; the list grows with each."""
    ended = threading.Event()
    counts: list[int] = []

    def run() -> None:
        while not ended.is_set():
            counts.append(len(gc(library).releases))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run), pool.submit(run)]
        yield counts
        ended.set()
        for job in jobs:
            job.result()


def test_no_publish_fails_or_misses_a_blob_while_others_collect(library, site, tmp_path, collecting_all_the_time):
    """The same few contents come and go: what one publish finds there, a collection is about to remove."""

    def publish_often(thread: int) -> None:
        root = tmp_path / f"thread-{thread}"
        root.mkdir()
        for number in range(12):
            for name in range(5):
                (root / f"{name}.bin").write_bytes(b"%d" % ((number + name) % 7) * 100)
            with publishing_lock(library.folder):
                release = publish_folder(library, str(root), lambda *_: None).release
                keep_release(library, site, release)
                activate_release(library, site, release)
                check_whole(library, library.load_manifest(release))
            if number % 3 == 2:  # the lock is not fair: let collections in
                wait_for_collections()

    def wait_for_collections() -> None:
        begun, deadline_s = len(collecting_all_the_time), time.monotonic() + 60
        while len(collecting_all_the_time) < begun + 3:  # of two threads: one began after this
            assert time.monotonic() < deadline_s
            time.sleep(0.001)

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(publish_often, thread) for thread in range(4)]:
            job.result()
    assert sum(collecting_all_the_time) > 0
    gc(library)
    check(library)


def test_a_full_disk_is_helped_by_what_was_left_earlier(library, site, live):
    """No new state can be written: what needs none goes first, and then there is room."""
    for number in (1, 2, 3):
        live(version(number), site)
    put(library.blobs, b"left by a publish that the full disk ended")
    calls = []

    def build(library, site, state):
        calls.append(library.blobs.size_of(digest_of(b"left by a publish that the full disk ended")))
        if len(calls) == 1:
            raise OSError(28, "No space left on device")

    report = gc(library, build=build)
    assert calls == [42, None]
    assert len(report.releases) == 1

"""Activation: the index of a site is whole and durable before its state names it."""

import os
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.errors import ConflictError, LockedError, PublishError, ReleaseMissingError
from assetserver.releases.activation import activate_release, build_index, is_index, keep_release, kept_path
from assetserver.releases.library import Library
from assetserver.releases.manifest import ReleaseId
from assetserver.releases.publish import publish_folder
from assetserver.releases.serving import ActiveIndex
from assetserver.releases.sites import activate
from assetserver.storage.files import FileBlobs


def name_of(content: bytes) -> str:
    return f"chunk.{sha256(content).hexdigest()[:10]}.js"


OLD, NEW = name_of(b"old"), name_of(b"new")
V1 = {"index.html": b"one", OLD: b"old", "only-in-one.txt": b"1"}
V2 = {"index.html": b"two", NEW: b"new"}


@pytest.fixture
def site(library):
    return library.site("main")


@pytest.fixture
def release(library, site, publish):
    """Publish files and keep the release; ``release(files)`` is its id."""

    def make(files):
        made = publish(files).release
        keep_release(library, site, made)
        return made

    return make


@pytest.fixture
def served(library, site):
    def look(path):
        entry = ActiveIndex(library, site)()[1].get(path)
        return entry and entry.digest

    return look


def test_activation_makes_a_release_what_the_site_serves(library, site, release, served):
    one = release(V1)
    before, after = activate_release(library, site, one)
    assert (before.active, after.active, site.read().active) == (None, one, one)
    assert served("index.html") == sha256(b"one").digest()


def test_names_that_content_proves_stay_from_old_releases_and_no_others(library, site, release, served):
    for files in (V1, V2):
        activate_release(library, site, release(files))
    assert served("index.html") == sha256(b"two").digest()
    assert served(OLD) == sha256(b"old").digest()
    assert served(NEW) == sha256(b"new").digest()
    assert served("only-in-one.txt") is None


def test_a_release_published_later_lends_its_proved_names_after_a_rollback(library, site, release, served):
    one, two = release(V1), release(V2)
    activate_release(library, site, two)
    activate_release(library, site, one)
    assert served("index.html") == sha256(b"one").digest()
    assert served(NEW) == sha256(b"new").digest()


def test_activating_again_changes_nothing(library, site, release):
    one = release(V1)
    _, first = activate_release(library, site, one)
    before, after = activate_release(library, site, one)
    assert before == after == first


def test_activation_under_a_false_expectation_leaves_the_site(library, site, release):
    one, two = release(V1), release(V2)
    activate_release(library, site, one, if_active="")
    with pytest.raises(ConflictError):
        activate_release(library, site, two, if_active="")
    assert site.read().active == one


def test_a_locked_site_keeps_its_release(library, site, release):
    one, two = release(V1), release(V2)
    activate_release(library, site, one)
    site.change(lambda state: replace(state, lock="audit"))
    with pytest.raises(LockedError, match="audit"):
        activate_release(library, site, two)
    assert site.read().active == one


def test_of_two_activations_at_once_with_the_same_expectation_one_wins(library, site, release):
    one, two, three = release(V1), release(V2), release(V1 | {"more.txt": b"more"})
    activate_release(library, site, one)
    outcomes: list[object] = []

    def race(to: ReleaseId) -> None:
        try:
            outcomes.append(activate_release(library, site, to, if_active=one)[1].active)
        except ConflictError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=race, args=(to,)) for to in (two, three)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ConflictError in outcomes
    assert site.read().active in outcomes


def test_the_state_before_is_the_one_that_was_replaced(library, site, release, monkeypatch):
    one, two = release(V1), release(V2)
    change = site.change

    def change_after_another(how):
        change(lambda state: activate(state, one))
        return change(how)

    monkeypatch.setattr(site, "change", change_after_another)
    before, after = activate_release(library, site, two)
    assert (before.active, after.active) == (one, two)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_release_with_a_damaged_blob_is_not_activated(library, site, release, damage):
    one = release(V1)
    path = Path(library.blobs.path_of(sha256(b"one").hexdigest()))
    path.chmod(0o644)
    path.unlink() if damage == "gone" else path.write_bytes(b"o")
    with pytest.raises(ReleaseMissingError, match=r"index\.html cannot be served: .* publish it again"):
        activate_release(library, site, one)
    assert site.read().active is None


def test_a_release_that_is_not_kept_is_not_activated(library, site):
    with pytest.raises(ReleaseMissingError, match="not kept here"):
        activate_release(library, site, ReleaseId("0" * 64))


def test_the_indexes_are_durable_before_the_state(library, site, release, monkeypatch):
    one = publish_one(library, site)
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        steps.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync")
        fsync(descriptor)

    def record_replace(source, target):
        steps.append(os.path.basename(target)[:4])
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    keep_release(library, site, one)
    assert steps[-6:] == ["fsync", "kept", "fsync folder", "fsync", "stat", "fsync folder"]
    steps.clear()
    activate_release(library, site, one)
    assert steps == ["fsync", "stat", "fsync folder"]


def publish_one(library, site):
    """Publish a release that no site keeps."""
    folder = os.path.join(library.folder, "..", "unkept")
    os.makedirs(folder)
    Path(folder, "index.html").write_bytes(b"one")
    return publish_folder(library, folder, lambda *_: None).release


def indexes_of(library, site):
    state = site.read()
    return [library.index_path(state.active), kept_path(site, state)]


@pytest.mark.parametrize("which", [0, 1], ids=["of the release", "of kept names"])
def test_an_index_that_is_there_is_not_made_again(library, site, release, which):
    activate_release(library, site, release(V1))
    path = indexes_of(library, site)[which]
    before = os.stat(path).st_ino
    build_index(library, site, site.read())
    assert os.stat(path).st_ino == before


@pytest.mark.parametrize("which", [0, 1], ids=["of the release", "of kept names"])
@pytest.mark.parametrize("content", [b"", b"ASCATv0\n" + bytes(16), None], ids=["empty", "older version", "lost"])
def test_an_index_that_cannot_be_used_is_made_again(library, site, release, which, content):
    activate_release(library, site, release(V1))
    path = Path(indexes_of(library, site)[which])
    path.unlink() if content is None else path.write_bytes(content)
    _, index = ActiveIndex(library, site)()
    assert index.get("index.html").digest == sha256(b"one").digest()
    assert index.get(OLD).digest == sha256(b"old").digest()
    assert is_index(str(path))


def test_the_active_index_is_none_where_nothing_is_active(library, site, release):
    active = ActiveIndex(library, site)
    assert active() == (None, None)
    release(V1)
    assert active()[1] is None


def test_the_mark_changes_with_the_site_and_only_then(library, site, release):
    one, two = release(V1), release(V2)
    active = ActiveIndex(library, site)
    activate_release(library, site, one)
    first = active()
    assert active() == first
    activate_release(library, site, two)
    second = active()
    assert second[0] != first[0]
    assert first[1].get("index.html").digest == sha256(b"one").digest()
    assert second[1].get("index.html").digest == sha256(b"two").digest()


def test_a_damaged_manifest_of_the_release_stops_activation(library, site, release):
    one = release(V1)
    path = Path(library.folder, "releases", f"{one}.json")
    path.write_bytes(b"{}")
    with pytest.raises(PublishError, match="is damaged"):
        activate_release(library, site, one)


def test_a_site_removed_meanwhile_serves_nothing(library, site, release):
    activate_release(library, site, release(V1))
    active = ActiveIndex(library, site)
    active()
    os.unlink(site.path)
    assert active() == (None, None)


def test_a_damaged_manifest_of_an_old_release_does_not_keep_a_sound_one_from_going_live(tmp_path, caplog):
    library = Library(str(tmp_path / "data"), FileBlobs(str(tmp_path / "data/blobs")))
    site = library.site("default")
    releases = []
    for text in ("old", "new"):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "index.html").write_text(text)
        releases.append(publish_folder(library, str(folder), lambda *_: None).release)
        keep_release(library, site, releases[-1])
    (tmp_path / "data/releases" / f"{releases[0]}.json").write_text("{}")
    os.unlink(library.index_path(releases[0]))

    _, after = activate_release(library, site, releases[1])

    assert after.active == releases[1]
    assert f"the manifest of release {releases[0][:12]} is damaged" in caplog.text


def test_keeping_a_release_writes_the_index_so_that_no_worker_has_to(tmp_path):
    library = Library(str(tmp_path / "data"), FileBlobs(str(tmp_path / "data/blobs")))
    site = library.site("default")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/index.html").write_text("one")
    first = publish_folder(library, str(tmp_path / "dist"), lambda *_: None).release
    keep_release(library, site, first)
    activate_release(library, site, first)
    (tmp_path / "dist/index.html").write_text("two")

    state = keep_release(library, site, publish_folder(library, str(tmp_path / "dist"), lambda *_: None).release)

    assert is_index(kept_path(site, state))

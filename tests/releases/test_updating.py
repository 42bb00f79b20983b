"""Publishing makes deltas for the visitors of the releases before, and what goes takes them along."""

import json
import os
from pathlib import Path

import pytest

from assetserver.releases import updating
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.collect import Retention, collect
from assetserver.releases.publish import publish_folder
from assetserver.releases.serving import ActiveIndex
from assetserver.releases.sites import visited_releases
from assetserver.releases.verify import verify
from assetserver.storage.codecs import DCZ_MAGIC, Effort, compress_against, decode_against

from ..contracts.blobstore import digest_of, put
from .test_pairing import text_of


@pytest.fixture
def site(library):
    return library.site("main")


@pytest.fixture
def live(library, site, tmp_path):
    """``live({"a.js": b"…"})`` publishes files and makes them what the site serves; returns the report."""

    def make(files, **options):
        root = tmp_path / f"build-{len(list(tmp_path.iterdir()))}"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        report = publish_folder(library, str(root), lambda *_: None, before=visited_releases(site.read()), **options)
        keep_release(library, site, report.release)
        activate_release(library, site, report.release)
        return report

    return make


def deltas_at(library, site, path):
    """Return what the index says of deltas of the file at ``path``: dictionary, content of the delta."""
    entry = ActiveIndex(library, site)()[1].get(path)
    return {one[0].hex(): b"".join(library.blobs.read(one[1].hex())) for one in entry.deltas}


def version(number: int) -> dict[str, bytes]:
    return {"app.js": text_of(1, number), "style.css": text_of(2, number), "same.js": text_of(3), "photo.webp": bytes(2000)}


def gc(library, **retention):
    return collect(library, Retention(**{"keep": 0, "keep_days": 0, **retention}), grace_s=0)


def test_visitors_of_the_last_three_releases_get_what_changed(library, site, live):
    assert live(version(0)).deltas.made == 0
    reports = [live(version(number)).deltas for number in range(1, 5)]
    assert [one.made for one in reports] == [2, 4, 6, 6]
    assert [one.files for one in reports] == [2, 2, 2, 2]
    assert all(one.delta_bytes < one.plain_bytes / 3 for one in reports)
    found = deltas_at(library, site, "app.js")
    assert set(found) == {digest_of(version(number)["app.js"]) for number in (1, 2, 3)}
    for number in (1, 2, 3):
        old = version(number)["app.js"]
        delta = found[digest_of(old)]
        assert delta.startswith(DCZ_MAGIC + bytes.fromhex(digest_of(old)))
        assert b"".join(decode_against(old, delta)) == version(4)["app.js"]
    assert deltas_at(library, site, "same.js") == deltas_at(library, site, "photo.webp") == {}


def test_publishing_the_same_again_makes_nothing_and_tells_the_same(library, live, monkeypatch):
    live(version(0))
    first = live(version(1))
    again = live(version(1))
    assert again.release == first.release
    assert again.deltas.made == 0
    assert (again.deltas.files, again.deltas.delta_bytes) == (first.deltas.files, first.deltas.delta_bytes)
    back = live(version(0))  # what is served again is new to those who hold the other
    assert (back.deltas.made, back.deltas.files) == (2, 2)


def test_what_is_no_use_is_tried_once(library, live, monkeypatch):
    live({"app.js": text_of(1)})
    tried = []
    real = updating.make_delta
    monkeypatch.setattr(updating, "make_delta", lambda *task: tried.append(task) or real(*task))
    other = {"app.js": os.urandom(5000).hex().encode()}
    report = live(other)
    assert (len(tried), report.deltas.files, report.deltas.made) == (1, 0, 0)
    live(other)
    assert len(tried) == 1
    assert library.deltas_of(digest_of(other["app.js"])) == ()
    assert verify(library, lambda *_: None).faults == []


def test_the_id_of_a_release_does_not_depend_on_deltas(library, live, tmp_path, publish):
    live(version(0))
    with_deltas = live(version(1))
    assert with_deltas.deltas.made == 2
    assert publish(version(1)).release == with_deltas.release
    content = Path(library.manifest_path(with_deltas.release)).read_bytes()
    assert set(json.loads(content)) == {"files", "format"}


def test_a_bundler_tells_what_became_of_what_after_its_manifest_is_gone(library, site, live):
    def build(name: str, topic: int) -> dict[str, bytes]:
        manifest = {"src/main.ts": {"file": name, "src": "src/main.ts", "isEntry": True}}
        return {name: text_of(1, 0)[:4000] + text_of(topic)[4000:], ".vite/manifest.json": json.dumps(manifest).encode()}

    live(build("x/aa11bb22.js", 1))
    assert live(build("y/cc33dd44.mjs", 2)).deltas.files == 1
    assert len(deltas_at(library, site, "y/cc33dd44.mjs")) == 1


def test_gc_takes_deltas_along(library, site, live):
    for number in range(4):
        live(version(number))
    gc(library)
    assert set(deltas_at_recorded(library, version(3)["app.js"])) == {digest_of(version(2)["app.js"])}
    assert deltas_at_recorded(library, version(1)["app.js"]) == []
    report = verify(library, lambda *_: None)
    assert (report.faults, report.unreferenced) == ([], 0)
    live({"app.js": text_of(9)})
    live({"app.js": text_of(8)})
    gc(library)
    assert library.blobs_with_deltas() == {digest_of(text_of(8))}  # that nothing of the one before is in it
    report = verify(library, lambda *_: None)
    assert (report.faults, report.unreferenced) == ([], 0)
    assert gc(library).files == {}


def deltas_at_recorded(library, content: bytes) -> list[str]:
    return [one.dictionary for one in library.deltas_of(digest_of(content))]


@pytest.mark.parametrize("damage", ["altered", "cut", "gone", "another", "header", "record"])
def test_verify_names_a_damaged_delta_and_publishing_mends_it(library, site, live, damage):
    live(version(0))
    live(version(1))
    new = digest_of(version(1)["app.js"])
    (delta,) = library.deltas_of(new)
    path = Path(library.blobs.path_of(delta.digest))
    content = path.read_bytes()
    path.chmod(0o644)
    if damage == "altered":
        path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "gone":
        path.unlink()
    elif damage == "record":
        Path(library.deltas_path(new)).write_bytes(b"[[")
    else:
        known = version(0)["app.js"]
        other = compress_against(known, bytes.fromhex(digest_of(known)), b"something else")
        wrong = put(library.blobs, other if damage == "another" else content[:8] + bytes(32) + content[40:])
        Path(library.deltas_path(new)).write_text(json.dumps([[delta.dictionary, wrong, library.blobs.size_of(wrong)]]))
    faults = verify(library, lambda *_: None).faults
    assert [one.kind for one in faults] == ["delta"]
    assert faults[0].used[0][1] == "app.js"
    assert verify(library, lambda *_: None, repair=True).faults[0].repaired
    assert verify(library, lambda *_: None).faults == []
    assert live(version(1)).deltas.files == 2
    assert library.deltas_of(new) == (delta,)
    assert verify(library, lambda *_: None).faults == []


def test_damage_before_does_not_stop_a_publish(library, site, live):
    releases = [live(version(number)).release for number in (0, 1)]
    Path(library.manifest_path(releases[0])).write_bytes(b"{}")
    old = Path(library.blobs.path_of(digest_of(version(1)["app.js"])))
    old.unlink()
    report = live(version(2))
    assert (report.deltas.files, report.deltas.made) == (1, 1)
    assert set(deltas_at(library, site, "style.css")) == {digest_of(version(1)["style.css"])}
    assert deltas_at(library, site, "app.js") == {}


@pytest.mark.parametrize(("limit", "older"), [(0, {Effort.QUICK}), (1 << 20, {Effort.THOROUGH})])
def test_most_work_is_done_for_visitors_of_the_last_release(library, live, monkeypatch, limit, older):
    live(version(0))
    live(version(1))
    tried = []
    real = updating.make_delta
    monkeypatch.setattr(updating, "make_delta", lambda *task: tried.append(task) or real(*task))
    monkeypatch.setattr(updating, "THOROUGH_BYTES", limit)
    live(version(2))
    efforts = {number: set() for number in range(2)}
    for number in efforts:
        digests = {digest_of(content) for content in version(number).values()}
        efforts[number] = {effort for _, _, dictionary, _, effort in tried if dictionary in digests}
    assert efforts == {0: older, 1: {Effort.THOROUGH}}

"""The same files are the same release, wherever they were published; what is missing, damaged or lied about is told."""

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.data import open_empty
from assetserver.errors import PublishError
from assetserver.releases.activation import keep_release
from assetserver.releases.checks import CheckPolicy
from assetserver.releases.library import Library
from assetserver.releases.publish import PublishOptions, publish_folder
from assetserver.releases.sites import visited_releases
from assetserver.releases.updating import DeltaPolicy, DeltaReport
from assetserver.remote.client import SiteInfo
from assetserver.remote.finishing import Missing, Ready, finish_release
from assetserver.remote.sending import read_build
from assetserver.remote.submission import Submission, WantedFile, encode_submission
from assetserver.storage.blobs import Digest

from .conftest import submission_of, write

STATIC = Path(__file__).parents[2] / "static"
KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg" + b"\n-----END PRIVATE KEY-----\n"
SCRIPT = b"console.log('a script')\n" * 40
EVERYTHING = {
    "index.html": b'<script type=module src="/assets/app-4f2a9c01.js"></script><link rel=stylesheet href="/gone.css">',
    "docs/index.html": b"<p>docs",
    "assets/app-4f2a9c01.js": SCRIPT,
    "assets/app-4f2a9c01.js.map": b"{}",
    "assets/lazy-77ee88dd.js": b"export default 1",
    f"proved.{sha256(b'proved').hexdigest()[:12]}.txt": b"proved",
    "sidecar.css": b"body {}",
    "sidecar.css.gz": b"whatever",
    "UPPER.TXT": b"one",
    "upper.txt": b"two",
    "empty": b"",
    "same-as-upper.txt": b"two",
    "ä/ö ü.html": b"<p>umlauts",
    ".well-known/security.txt": b"Contact: mailto:security@example.com",
    ".hidden": b"hidden",
    "_headers": b"/assets/*\n  X-Test: yes\n",
    "_redirects": b"/old /docs/ 301\n",
    ".vite/manifest.json": json.dumps(
        {
            "index.html": {
                "file": "assets/app-4f2a9c01.js",
                "src": "index.html",
                "isEntry": True,
                "imports": ["_lazy"],
            },
            "_lazy": {"file": "assets/lazy-77ee88dd.js", "name": "lazy"},
        }
    ).encode(),
}
ALL_OPTIONS = [
    PublishOptions(),
    PublishOptions("cloudflare", ("assets/*",), CheckPolicy(source_maps="leave-out"), "/", fallback=True),
    PublishOptions(policy=CheckPolicy(secrets="leave-out"), mount="/app/"),
]


def library_in(folder: Path) -> Library:
    return open_empty(str(folder))


def read(tmp_path: Path, folder: Path, options: PublishOptions):
    info = SiteInfo("default", None, "", "", options)
    return read_build(library_in(tmp_path / "nothing"), str(folder), info, lambda *_: None)


def store(library: Library, build) -> None:
    """Have all blobs of a build arrive."""
    for digest, found in build.sources.items():
        library.blobs.put(Digest(digest), [Path(found.full).read_bytes()])


def finish(library: Library, submission: Submission, options: PublishOptions = ALL_OPTIONS[0]):
    return finish_release(library, "default", options, encode_submission(submission), lambda _: None)


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_the_same_files_are_the_same_release_here_and_there(tmp_path, options):
    folder = write(tmp_path / "site", EVERYTHING | ({"id_rsa": b"not really"} if options.policy.secrets != "stop" else {}))
    here, there = library_in(tmp_path / "here"), library_in(tmp_path / "there")
    report = publish_folder(here, str(folder), lambda *_: None, options)
    build = read(tmp_path, folder, options)
    store(there, build)
    ready = finish(there, submission_of(build), options)
    assert isinstance(ready, Ready)
    assert ready.id == report.release
    assert there.load_manifest(report.release) == here.load_manifest(report.release)
    one, other = (Path(library.index_path(report.release)).read_bytes() for library in (here, there))
    assert one == other
    assert ready.findings == report.findings
    assert (ready.files, ready.bytes, ready.saved) == (report.files, report.size, report.saved)
    assert ready.has_rooted_references == report.has_rooted_references
    manifest = here.load_manifest(report.release)
    assert manifest.rules.headers
    assert manifest.files["assets/lazy-77ee88dd.js"].fingerprint
    assert ("lazy-77ee88dd" in str(manifest.links)) == (options.mount == "/")  # elsewhere "/assets/" is another site's
    assert finish(there, submission_of(build), options).existed


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_sample_site_is_the_same_release_here_and_there(tmp_path, version):
    here, there = library_in(tmp_path / "here"), library_in(tmp_path / "there")
    report = publish_folder(here, str(STATIC / version), lambda *_: None)
    build = read(tmp_path, STATIC / version, ALL_OPTIONS[0])
    store(there, build)
    assert finish(there, submission_of(build)).id == report.release


def test_the_same_deltas_are_made_here_and_there(tmp_path):
    here, there = library_in(tmp_path / "here"), library_in(tmp_path / "there")
    reports, answers = [], []
    for version in ("v1", "v2"):
        site = here.site("default")
        before = visited_releases(site.read())
        reports.append(publish_folder(here, str(STATIC / version), lambda *_: None, before=before))
        keep_release(here, site, reports[-1].release)
        build = read(tmp_path, STATIC / version, ALL_OPTIONS[0])
        store(there, build)
        answers.append(finish(there, submission_of(build)))
    assert reports[1].deltas.made == reports[1].deltas.files > 5
    assert [one.deltas for one in answers] == [one.deltas for one in reports]
    release = reports[1].release
    one, other = (Path(library.index_path(release)).read_bytes() for library in (here, there))
    assert one == other
    none = finish(there, submission_of(build), PublishOptions(deltas=DeltaPolicy(releases=0)))
    assert none.deltas == DeltaReport()


def test_what_is_missing_is_told_once_and_nothing_is_published(tmp_path):
    library = library_in(tmp_path / "data")
    build = read(tmp_path, write(tmp_path / "site", {"a": b"1", "b": b"2", "c": b"1"}), ALL_OPTIONS[0])
    one, two = (sha256(content).hexdigest() for content in (b"1", b"2"))
    assert finish(library, submission_of(build)) == Missing((one, two))
    library.blobs.put(Digest(two), [b"2"])
    assert finish(library, submission_of(build)) == Missing((one,))
    assert finish(library, submission_of(build, dry_run=True)) == Missing((one,))
    assert list(library.manifests()) == []
    assert library.site("default").read().generation == 0
    library.blobs.put(Digest(one), [b"1"])
    assert finish(library, submission_of(build, dry_run=True)) == Missing(())
    assert list(library.manifests()) == []
    assert isinstance(finish(library, submission_of(build)), Ready)


def test_a_release_is_kept_with_what_is_said_of_it_and_is_not_active(tmp_path):
    library = library_in(tmp_path / "data")
    build = read(tmp_path, write(tmp_path / "site", {"a": b"1"}), ALL_OPTIONS[0])
    store(library, build)
    ready = finish(library, submission_of(build, message="first", alias="staging"))
    state = library.site("default").read()
    assert [(one.id, one.message) for one in state.releases] == [(ready.id, "first")]
    assert state.aliases == {"staging": ready.id}
    assert state.active is None


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_lie_about_a_size_is_refused(tmp_path, size):
    library = library_in(tmp_path / "data")
    digest = sha256(b"12").hexdigest()
    library.blobs.put(Digest(digest), [b"12"])
    with pytest.raises(PublishError, match=r"'a\.txt' has 2 bytes, not"):
        finish(library, Submission({"a.txt": WantedFile(digest, size)}))
    assert library.blobs.size_of(Digest(digest)) == 2


@pytest.mark.parametrize("content", [b"damaged", b"dam", b"much longer than it should be"])
@pytest.mark.parametrize("name", ["a.txt", "_headers", ".vite/manifest.json"])
def test_a_blob_that_the_disk_changed_is_asked_for_again(tmp_path, name, content):
    library = library_in(tmp_path / "data")
    folder = write(tmp_path / "site", {"index.html": b"<p>", name: b"correct"})
    if name == "_headers":
        (folder / name).write_bytes(b"#orrect")
    build = read(tmp_path, folder, ALL_OPTIONS[0])
    store(library, build)
    digest = Digest(build.files[name].sha256)
    os.chmod(library.blobs.path_of(digest), 0o644)
    Path(library.blobs.path_of(digest)).write_bytes(content)
    assert finish(library, submission_of(build)) == Missing((digest,))
    assert library.blobs.size_of(digest) is None
    store(library, build)
    assert isinstance(finish(library, submission_of(build)), Ready)


@pytest.mark.parametrize("name", [".env", ".git/config", "id_rsa", "certs/site.p12"])
def test_secrets_are_told_by_their_names_before_anything_is_sent(tmp_path, name):
    files = {one: WantedFile(sha256(b"").hexdigest(), 0) for one in ("index.html", name)}
    with pytest.raises(PublishError, match="looks like"):
        finish(library_in(tmp_path / "data"), Submission(files))


def test_what_was_left_out_by_the_client_counts_as_if_it_were_there(tmp_path):
    files = {"index.html": WantedFile(sha256(b"").hexdigest(), 0)}
    with pytest.raises(PublishError, match=r"\.git looks like the history of a repository"):
        finish(library_in(tmp_path / "data"), Submission(files, left_out=(".git",)))


def test_a_secret_in_a_blob_stops_even_if_it_came_another_way(tmp_path):
    library = library_in(tmp_path / "data")
    digest = Digest(sha256(KEY).hexdigest())
    library.blobs.put(digest, [KEY])
    with pytest.raises(PublishError, match="looks like a private key"):
        finish(library, Submission({"notes.txt": WantedFile(digest, len(KEY))}))
    assert list(library.manifests()) == []


def test_what_the_policy_leaves_out_by_name_need_not_be_sent(tmp_path):
    library = library_in(tmp_path / "data")
    options = PublishOptions(policy=CheckPolicy(secrets="leave-out", source_maps="leave-out"))
    digest = sha256(b"1").hexdigest()
    files = {name: WantedFile(digest if name == "a" else "ab" * 32, 1) for name in ("a", "a.js.map", "id_rsa")}
    assert finish(library, Submission(files), options) == Missing((digest,))
    library.blobs.put(Digest(digest), [b"1"])
    assert finish(library, Submission(files), options).files == 1
    del files["a"]
    with pytest.raises(PublishError, match="nothing of it is published"):
        finish(library, Submission(files), options)


def test_an_alias_that_cannot_be_one_is_told_before_anything_is_sent(tmp_path):
    with pytest.raises(PublishError, match="cannot be an alias"):
        finish(library_in(tmp_path / "data"), Submission({"a": WantedFile("ab" * 32, 1)}, alias="No/Alias"))


def test_a_folder_of_the_servers_own_urls_is_refused(tmp_path):
    with pytest.raises(PublishError, match="URLs below /-/ are the server's own"):
        finish(library_in(tmp_path / "data"), Submission({"-/a": WantedFile("ab" * 32, 1)}))

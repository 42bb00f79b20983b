"""Damage of every kind is found, named with what it harms, and healed by publishing again."""

import os
from pathlib import Path

import pytest

from assetserver.errors import PublishError
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.collect import publishing_lock
from assetserver.releases.verify import verify
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.codecs import compress

from ..contracts.blobstore import digest_of, put

TEXT = b"body { color: rebeccapurple }\n" * 40
FILES = {"app.css": TEXT, "index.html": b"<p>hello", "copy/index.html": b"<p>hello"}


def silent(*_):
    pass


@pytest.fixture
def site(library):
    return library.site("main")


@pytest.fixture
def release(library, site, publish):
    """Publish files and make them live; ``release(files)`` is the id."""

    def make(files=FILES):
        made = publish(files).release
        keep_release(library, site, made)
        activate_release(library, site, made)
        return made

    return make


def blob(library, content):
    """Return the file of a blob, writable."""
    path = Path(library.blobs.path_of(digest_of(content)))
    path.chmod(0o644)
    return path


def br_form(library):
    (form,) = (one for one in library.codings_of(digest_of(TEXT)) if one.coding == "br")
    path = Path(library.blobs.path_of(form.digest))
    path.chmod(0o644)
    return path


def record(library):
    digest = digest_of(TEXT)
    return Path(library.folder, "codings", digest[:2], f"{digest}.json")


def manifest(library):
    (path,) = Path(library.folder, "releases").glob("*.json")
    return path


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"altered": alter, "truncated": truncate, "deleted": Path.unlink, "emptied": lambda path: path.write_bytes(b"")}


def test_what_was_published_is_sound(library, release):
    one = release()
    report = verify(library, silent)
    assert report.faults == []
    forms = library.codings_of(digest_of(TEXT))
    assert (report.releases, report.blobs, report.unreferenced) == (1, 2 + len(forms), 0)
    assert report.bytes == len(TEXT) + len(b"<p>hello") + sum(form.size for form in forms)
    assert verify(library, silent, one).faults == []


def test_where_nothing_was_published_all_is_sound_and_nothing_is_made(library):
    assert verify(library, silent).faults == []
    assert not os.path.exists(library.folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_named_with_every_path_and_release(library, release, damage):
    one, two = release(), release(FILES | {"new.txt": b"new"})
    DAMAGES[damage](blob(library, b"<p>hello"))
    (fault,) = verify(library, silent).faults
    assert (fault.kind, fault.blob) == ("blob", digest_of(b"<p>hello"))
    assert digest_of(b"<p>hello")[:12] in fault.what
    assert set(fault.used) == {(made, path) for made in (one, two) for path in ("index.html", "copy/index.html")}
    assert "publish" in fault.remedy


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_compressed_form_is_named_with_its_file(library, release, damage):
    one = release()
    path = br_form(library)
    DAMAGES[damage](path)
    (fault,) = verify(library, silent).faults
    assert (fault.kind, fault.blob, fault.used) == ("form", digest_of(TEXT), ((one, "app.css"),))
    assert path.name[:12] in fault.what
    assert "the br form" in fault.what


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'[["br"]]', b"\xff"])
def test_a_damaged_record_is_named_with_its_file(library, release, content):
    one = release()
    record(library).write_bytes(content)
    (fault,) = verify(library, silent).faults
    assert (fault.kind, fault.used) == ("codings", ((one, "app.css"),))


@pytest.mark.parametrize("form", ['["br","x",5]', '["br","../../state",5]', '["lzw","%s",5]'], ids=["short", "path", "coding"])
def test_a_record_that_names_what_cannot_be_is_a_fault(library, release, form):
    release()
    digest = put(library.blobs, b"lines")
    record(library).write_text(f"[{form.replace('%s', digest)}]")
    faults = verify(library, silent, repair=True).faults
    assert [fault.kind for fault in faults] == ["form"]
    assert not record(library).exists()


def test_a_form_that_decodes_to_other_bytes_is_found(library, release):
    release()
    content = b"".join(compress(ContentCoding.BR, [b"other"], 5))
    record(library).write_text(f'[["br","{put(library.blobs, content)}",{len(content)}]]')
    (fault,) = verify(library, silent).faults
    assert "decodes to other bytes" in fault.what


def test_a_form_that_does_not_decode_is_found(library, release):
    release()
    record(library).write_text(f'[["br","{put(library.blobs, b"no brotli at all")}",16]]')
    (fault,) = verify(library, silent).faults
    assert "does not decode" in fault.what


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_named_with_its_site(library, release, damage):
    one = release()
    DAMAGES[damage](manifest(library))
    faults = verify(library, silent).faults
    assert [fault.kind for fault in faults] == ["manifest"]
    assert one[:12] in faults[0].what
    assert "site main" in faults[0].what
    assert [fault.kind for fault in verify(library, silent, one).faults] == ["manifest"]


@pytest.mark.parametrize("content", [b"", b'{"generation": 1', b"[]", b"\xff"])
def test_a_damaged_state_is_named_and_the_rest_is_checked(library, site, release, content):
    release()
    Path(site.path).write_bytes(content)
    blob(library, TEXT).unlink()
    assert [fault.kind for fault in verify(library, silent).faults] == ["state", "blob"]


def test_an_altered_state_that_names_what_is_not_kept_is_found(library, site, release):
    one = release()
    Path(site.path).write_text(Path(site.path).read_text().replace(f'"active": "{one}"', f'"active": "{"0" * 64}"'))
    faults = verify(library, silent).faults
    assert {fault.kind for fault in faults} == {"state", "manifest"}
    assert all("0" * 12 in fault.what for fault in faults)


def test_a_deleted_state_is_named_and_its_releases_are_checked(library, site, release):
    release()
    Path(site.path).unlink()
    report = verify(library, silent)
    assert [fault.kind for fault in report.faults] == ["state"]
    assert (report.releases, report.unkept) == (1, 1)


def test_a_site_never_published_to_has_no_fault(library, site):
    site.change(lambda state: state)
    assert verify(library, silent).faults == []


def test_an_alias_of_what_is_not_kept_is_found(library, site, release):
    one = release()
    keep_release(library, site, one, alias="staging")
    text = Path(site.path).read_text()
    Path(site.path).write_text(text.replace(f'"staging": "{one}"', f'"staging": "{"0" * 64}"'))
    assert "@staging is release 000000000000, which is not kept" in verify(library, silent).faults[0].what


def test_one_release_is_checked_alone(library, release):
    one, two = release({"a": b"1"}), release({"b": b"2"})
    blob(library, b"1").unlink()
    assert verify(library, silent, two).faults == []
    assert len(verify(library, silent, one).faults) == 1


def test_blobs_that_nobody_needs_are_counted_and_no_fault(library, release):
    release()
    put(library.blobs, b"unknown")
    report = verify(library, silent)
    assert (report.faults, report.unreferenced, report.unreferenced_bytes) == ([], 1, 7)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["blob", "form", "record"])
def test_repairing_and_publishing_again_heals(library, release, what, damage):
    one = release()
    path = {"blob": lambda: blob(library, TEXT), "form": lambda: br_form(library), "record": lambda: record(library)}[what]()
    (truncate if what == "record" else DAMAGES[damage])(path)
    (fault,) = verify(library, silent, repair=True).faults
    assert fault.repaired
    assert not path.exists()
    assert release() == one
    assert verify(library, silent).faults == []
    assert path.exists()


def test_a_repair_leaves_manifests_and_states(library, site, release):
    release()
    alter(manifest(library))
    before = manifest(library).read_bytes(), site.read()
    (fault,) = verify(library, silent, repair=True).faults
    assert not fault.repaired
    assert (manifest(library).read_bytes(), site.read()) == before


def test_a_repair_waits_for_publishing_and_checking_does_not(library, release):
    release()
    with publishing_lock(library.folder):
        assert verify(library, silent, on_wait=pytest.fail).faults == []

        def complain():
            raise InterruptedError

        with pytest.raises(InterruptedError):
            verify(library, silent, repair=True, on_wait=complain)


def test_a_manifest_that_may_not_be_trusted_is_a_fault(library, release):
    one = release()
    asked = []

    def check(made):
        asked.append(made)
        raise PublishError("nobody signed it; sign it")

    (fault,) = verify(library, silent, check_manifest=check).faults
    assert (asked, fault.kind, fault.remedy) == ([one], "signature", "sign it")


def test_progress_ends_with_everything(library, release):
    release()
    told = []
    verify(library, lambda *rest: told.append(rest))
    total = len(TEXT) + len(b"<p>hello")
    assert told[-1] == ("verifying", total, total)


def test_everything_is_named_where_much_is_damaged(library, release):
    contents = [b"file %d" % number for number in range(50)]
    release({f"{content.decode()}.txt": content for content in contents})
    for content in contents:
        alter(blob(library, content))
    assert {fault.blob for fault in verify(library, silent).faults} == {digest_of(content) for content in contents}

"""The manifest: the same files are the same bytes, and anything else is noticed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import PublishError
from assetserver.releases.manifest import FileRecord, Manifest, ReleaseId, decode_manifest
from assetserver.storage.blobs import Digest

A, B = Digest("a" * 64), Digest("b" * 64)
FILES = {"index.html": FileRecord(A, 10), "app.0123abcd.js": FileRecord(B, 20, "proved"), "ü/Ω.txt": FileRecord(A, 10)}

records = st.builds(
    FileRecord,
    st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest),
    st.integers(0, 2**53),
    st.sampled_from(["", "proved", "declared"]),
)
files = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), records, max_size=8)


@given(files=files, data=st.data())
def test_the_order_of_files_does_not_matter(files, data):
    shuffled = dict(data.draw(st.permutations(list(files.items()))))
    assert Manifest(shuffled).encode() == Manifest(files).encode()
    assert Manifest(shuffled).id == Manifest(files).id


@given(files=files)
def test_what_is_encoded_is_decoded(files):
    manifest = Manifest(files)
    assert decode_manifest(manifest.encode(), manifest.id) == manifest


@pytest.mark.parametrize(
    "changed",
    [
        FILES | {"index.html": FileRecord(B, 10)},
        FILES | {"index.html": FileRecord(A, 11)},
        FILES | {"index.html": FileRecord(A, 10, "proved")},
        FILES | {"more": FileRecord(A, 10)},
        {name: record for name, record in FILES.items() if name != "index.html"},
        {name.upper(): record for name, record in FILES.items()},
    ],
    ids=["digest", "size", "fingerprint", "more", "fewer", "names"],
)
def test_any_difference_is_another_release(changed):
    assert Manifest(changed).id != Manifest(FILES).id


def test_the_encoding_is_canonical_json_and_never_changes():
    content = Manifest(FILES).encode()
    assert content.endswith(b"}\n")
    canonical = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert content == canonical.encode() + b"\n"
    # What is stored under this id today must be found under it by the next version.
    assert Manifest({"a": FileRecord(A, 1)}).encode() == b'{"files":{"a":{"sha256":"%s","size":1}},"format":1}\n' % A.encode()


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_cut_manifest_is_refused(cut):
    manifest = Manifest(FILES)
    with pytest.raises(PublishError, match="is damaged"):
        decode_manifest(manifest.encode()[:cut], manifest.id)


def test_a_manifest_with_one_other_byte_is_refused():
    manifest = Manifest(FILES)
    with pytest.raises(PublishError, match=manifest.id[:12]):
        decode_manifest(manifest.encode().replace(b'"size":10', b'"size":11'), manifest.id)


def test_a_manifest_of_another_release_is_refused():
    with pytest.raises(PublishError):
        decode_manifest(Manifest(FILES).encode(), ReleaseId("0" * 64))

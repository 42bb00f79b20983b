"""What was published the last time: what is kept of it, and what happens to a cache that others touch."""

from __future__ import annotations

import os
import stat
from hashlib import sha256

import pytest

from assetserver.remote.previous import LIMIT_BYTES, Previous, is_kept
from assetserver.storage.codecs import DELTA_LIMIT_BYTES

URL = "https://www.example.com"
OLD = b"const a = 1;\n" * 100
OTHER = b"const b = 2;\n" * 200


def digest_of(content):
    return sha256(content).hexdigest()


def keep(folder, files, site="default"):
    contents = {digest_of(content): content for content in files.values()}
    known = [(path, digest_of(content), len(content)) for path, content in files.items()]
    Previous(str(folder), URL, site).keep(known, lambda digest: [contents[digest]])


def find(folder, path, size=1000, url=URL, site="default"):
    found = Previous(str(folder), url, site).find(path, size)
    return None if found is None else found[1]


def test_what_was_kept_is_found_under_its_path_for_its_site_alone(tmp_path):
    keep(tmp_path, {"a/app.js": OLD, "b.css": OTHER})
    assert Previous(str(tmp_path), URL, "default").find("a/app.js", 999) == (digest_of(OLD), OLD)
    assert find(tmp_path, "b.css") == OTHER
    assert (find(tmp_path, "app.js"), find(tmp_path, "a/app.js", site="other")) == (None, None)
    assert find(tmp_path, "a/app.js", url="https://other.example.com") is None


def test_names_that_differ_in_their_hash_are_versions_of_each_other(tmp_path):
    keep(tmp_path, {"app-BX2k9fQ3.js": OLD, "vendor-Cd8Fk2Lw.js": OTHER})
    assert find(tmp_path, "app-h3Jd8Kw1.js") == OLD
    assert find(tmp_path, "vendor-h3Jd8Kw1.js") == OTHER
    assert find(tmp_path, "page-h3Jd8Kw1.js") is None


def test_of_several_versions_the_one_of_the_nearest_size_is_taken(tmp_path):
    keep(tmp_path, {"chunk-BX2k9fQ3.js": OLD, "chunk-Cd8Fk2Lw.js": OTHER})
    assert find(tmp_path, "chunk-h3Jd8Kw1.js", len(OTHER) - 5) == OTHER
    assert find(tmp_path, "chunk-h3Jd8Kw1.js", len(OLD) + 5) == OLD


def test_the_version_before_last_goes(tmp_path):
    keep(tmp_path, {"a.js": OLD, "gone.js": OTHER})
    keep(tmp_path, {"a.js": OLD + b"//"})
    assert find(tmp_path, "a.js") == OLD + b"//"
    [own] = tmp_path.iterdir()
    assert sorted(path.name for path in own.iterdir()) == sorted(["index", digest_of(OLD + b"//")])


@pytest.mark.parametrize(
    ("path", "size", "kept"),
    [
        ("a.js", 511, False),
        ("a.js", 512, True),
        ("a.js", DELTA_LIMIT_BYTES, True),
        ("a.js", DELTA_LIMIT_BYTES + 1, False),
        ("a.jpg", 5000, False),
        ("page.html", 5000, True),
    ],
)
def test_texts_are_kept_that_are_neither_tiny_nor_huge(path, size, kept):
    assert is_kept(path, size) is kept


def test_no_more_is_kept_of_a_site_than_the_limit(tmp_path):
    contents = {
        str(number): b"%03d" % number * (DELTA_LIMIT_BYTES // 3) for number in range(LIMIT_BYTES // DELTA_LIMIT_BYTES + 3)
    }
    keep(tmp_path, {f"{name}.txt": content for name, content in contents.items()})
    sizes = [len(content) for name, content in contents.items() if find(tmp_path, f"{name}.txt", len(content)) is not None]
    assert LIMIT_BYTES - DELTA_LIMIT_BYTES <= sum(sizes) <= LIMIT_BYTES


def test_a_file_that_changed_meanwhile_is_not_kept(tmp_path):
    Previous(str(tmp_path), URL, "default").keep([("a.js", digest_of(OLD), len(OLD))], lambda _: [OTHER])
    assert find(tmp_path, "a.js") is None


@pytest.mark.parametrize("damage", [b"", b"nothing of ours", b"\x28\xb5\x2f\xfd"])
def test_a_cache_that_is_damaged_is_none(tmp_path, damage):
    keep(tmp_path, {"a.js": OLD})
    [own] = tmp_path.iterdir()
    (own / digest_of(OLD)).write_bytes(damage)
    assert find(tmp_path, "a.js") is None
    (own / "index").write_bytes(damage)
    assert find(tmp_path, "a.js") is None
    keep(tmp_path, {"a.js": OTHER})
    assert find(tmp_path, "a.js") == OTHER


def test_an_index_leads_nowhere_else(tmp_path):
    keep(tmp_path, {"a.js": OLD})
    [own] = tmp_path.iterdir()
    (own / "index").write_text('{"a.js": {"digest": "../../secret", "size": 1000}}')
    assert find(tmp_path, "a.js") is None


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    keep(tmp_path / "file", {"a.js": OLD})
    assert find(tmp_path / "file", "a.js") is None
    keep("", {"a.js": OLD})
    assert find("", "a.js") is None


def test_what_is_kept_is_for_its_user_alone(tmp_path):
    keep(tmp_path, {"a.js": OLD})
    [own] = tmp_path.iterdir()
    assert stat.S_IMODE(os.stat(own).st_mode) == 0o700

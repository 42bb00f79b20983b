"""What strangers may write in place of a list of files, and what becomes of an honest one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import AssetServerError, BadRequestError, PublishError
from assetserver.releases import scan
from assetserver.remote.submission import Submission, WantedFile, decode_submission, encode_submission, plan_files

DIGEST = "ab" * 32
OTHER = "cd" * 32


def files(*paths: str, digest: str = DIGEST, size: int = 1) -> Submission:
    return Submission({path: WantedFile(digest, size) for path in paths})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"files":' * 10_000,
        b'{"files": []}',
        b'{"files": {"a": []}}',
        b'{"files": {"a": {}}}',
        b'{"files": {"a": {"sha256": "%s"}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": -1}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": 1e300}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": 99999999999999999999}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": 2251799813685249}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": "1"}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": 1, "mode": 4}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "%s", "size": 1}}}' % DIGEST.upper().encode(),
        b'{"files": {"a": {"sha256": "%s\\n", "size": 1}}}' % DIGEST.encode(),
        b'{"files": {"a": {"sha256": "../../etc/passwd", "size": 1}}}',
        b'{"files": {}, "file": {}}',
        b'{"files": {}, "message": "%s"}' % (b"x" * 5000),
        b'{"files": {"a": {"sha256": "%s", "size": 1}}} trailing' % DIGEST.encode(),
    ],
)
def test_what_is_no_submission_is_the_clients_fault(content):
    with pytest.raises(BadRequestError):
        decode_submission(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"files": {"a": {"sha256": "%s", "size": 1}, "a": {"sha256": "%s", "size": 1}}}',
        b'{"files": {"a": {"sha256": "%s", "size": 1}, "\\u0061": {"sha256": "%s", "size": 1}}}',
        b'{"files": {"a": {"sha256": "%s", "sha256": "%s", "size": 1}}}',
    ],
)
def test_what_is_told_twice_is_refused(content):
    with pytest.raises(BadRequestError, match="is told twice"):
        decode_submission(content % (DIGEST.encode(), OTHER.encode()))


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\\b",
        "a\x7f",
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "a" * 256,
        "a/" * 3000 + "b",
        "\ud800",
        "C:\\a",
    ],
)
def test_a_path_that_can_have_no_url_is_refused(path):
    with pytest.raises(PublishError):
        plan_files(files("index.html", path))


@given(st.dictionaries(st.text(max_size=12), st.just(WantedFile(DIGEST, 1)), max_size=6))
def test_whatever_the_paths_are_what_is_published_stays_inside(paths):
    try:
        plan = plan_files(Submission(paths))
    except AssetServerError:
        return
    for path in plan.published:
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\0" not in path


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b/c", "a/b"), ("x/y", "x/y/z/w", "x/y0")])
def test_a_file_cannot_be_the_folder_of_another(paths):
    with pytest.raises(PublishError, match="cannot be a file and the folder of"):
        plan_files(files(*paths))


def test_one_digest_cannot_have_two_sizes():
    with pytest.raises(PublishError, match="cannot have 2 bytes: another file of the same digest has 1"):
        plan_files(Submission({"a": WantedFile(DIGEST, 1), "b": WantedFile(DIGEST, 2)}))


@pytest.mark.parametrize("paths", [(), (".env",), ("_headers",), (".git/config", ".vite/manifest.json")])
def test_a_submission_of_nothing_to_publish_is_refused(paths):
    with pytest.raises(PublishError, match="holds no files to publish"):
        plan_files(files(*paths))


def test_too_many_files_are_refused(monkeypatch):
    monkeypatch.setattr(scan, "LIMIT_FILES", 3)
    assert len(plan_files(files("a", "b", "c")).published) == 3
    with pytest.raises(PublishError, match="holds 4 files; a release may hold 3"):
        plan_files(files("a", "b", "c", "d"))


def test_names_that_differ_in_case_alone_are_two_files():
    assert list(plan_files(files("a.JS", "A.js", "a.js")).published) == ["A.js", "a.JS", "a.js"]


def test_files_are_sorted_as_a_folder_of_them_is():
    wanted = files(
        "b.css",
        "b.css.br",
        "archive.gz",
        "_headers",
        "_redirects",
        "docs/_headers",
        ".env",
        ".git/config",
        ".git/HEAD",
        ".well-known/security.txt",
        ".well-known/.secret",
        "docs/.well-known/x",
        ".vite/manifest.json",
        "manifest.json",
    )
    plan = plan_files(wanted)
    assert list(plan.published) == [".well-known/security.txt", "archive.gz", "b.css", "docs/_headers", "manifest.json"]
    assert sorted(plan.beside) == [".vite/manifest.json", "_headers", "_redirects"]
    assert plan.left_out == (".env", ".git", ".vite", ".well-known/.secret", "docs/.well-known")
    assert set(plan.needed) == {*plan.published, *plan.beside}


def test_what_is_encoded_is_decoded_and_always_the_same_bytes():
    one = Submission({"b": WantedFile(DIGEST, 1), "a": WantedFile(OTHER, 2)}, "said", "staging", (".env",), dry_run=True)
    again = Submission(dict(reversed(one.files.items())), "said", "staging", (".env",), dry_run=True)
    assert decode_submission(encode_submission(one)) == one
    assert encode_submission(one) == encode_submission(again)
    assert json.loads(encode_submission(one))["files"]["a"] == {"sha256": OTHER, "size": 2}

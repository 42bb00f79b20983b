"""What differs between two releases, in files and bytes."""

from hashlib import sha256

import pytest

from assetserver.errors import ReleaseMissingError
from assetserver.releases.compare import FileChange, Kind, Weight, compare_releases
from assetserver.releases.manifest import ReleaseId

TEXT = b"the same words again and again, " * 40


def hashed(stem: str, content: bytes, extension: str = "js") -> str:
    return f"{stem}.{sha256(content).hexdigest()[:12]}.{extension}"


@pytest.fixture
def compare(library, publish):
    """``compare(old, new)`` publishes both and compares them."""

    def run(old, new):
        return compare_releases(library, publish(old).release, publish(new).release)

    return run


def kinds(found):
    return [(one.kind, one.old, one.new) for one in found.changes]


def test_files_are_added_removed_changed_or_the_same(compare):
    found = compare({"a": b"1", "b": b"2", "same": b"0"}, {"a": b"11", "c": b"333", "same": b"0"})
    assert found.changes == (
        FileChange(Kind.CHANGED, "a", "a", Weight(1, 1), Weight(2, 2)),
        FileChange(Kind.ADDED, "", "c", Weight(), Weight(3, 3)),
        FileChange(Kind.REMOVED, "b", "", Weight(1, 1), Weight()),
    )
    assert (found.files, found.same) == ((3, 3), 1)
    assert found.weights == (Weight(3, 3), Weight(6, 6))


def test_a_release_does_not_differ_from_itself(library, publish):
    release = publish({"a": b"1", "b": b"1"}).release
    found = compare_releases(library, release, release)
    assert (found.changes, found.same, found.weights[0]) == ((), 2, Weight(2, 2))


def test_the_same_bytes_at_another_path_are_renamed(compare):
    found = compare({"old/a.txt": b"1", "x": b"x"}, {"new/b.txt": b"1", "x": b"x"})
    assert kinds(found) == [(Kind.RENAMED, "old/a.txt", "new/b.txt")]


def test_a_name_with_another_fingerprint_is_renamed(compare):
    one, two = hashed("assets/app", b"one"), hashed("assets/app", b"twoo")
    found = compare({one: b"one", "x": b"x"}, {two: b"twoo", "x": b"x"})
    assert found.changes == (FileChange(Kind.RENAMED, one, two, Weight(3, 3), Weight(4, 4)),)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a.txt": b"1", "b.txt": b"1"}, {"c.txt": b"1"}),
        ({hashed("app", b"1"): b"1"}, {hashed("app", b"2"): b"2", hashed("app", b"3"): b"3"}),
        ({hashed("app", b"1"): b"1"}, {hashed("app", b"2", "css"): b"2"}),
        ({hashed("a/app", b"1"): b"1"}, {hashed("b/app", b"2"): b"2"}),
        ({"app-20240101.js": b"1"}, {"app-20250101.js": b"2"}),
    ],
    ids=["two the same", "two successors", "extension", "folder", "date"],
)
def test_what_may_be_several_things_is_not_called_renamed(compare, old, new):
    assert compare(old, new).of(Kind.RENAMED) == []


def test_weights_count_the_br_form_where_one_is_kept(compare, library):
    found = compare({"a.txt": b"1"}, {"a.txt": TEXT})
    (change,) = found.changes
    assert change.after.raw == len(TEXT)
    assert 0 < change.after.br < 100
    assert found.weights[1] == change.after


def test_the_same_bytes_at_two_paths_weigh_twice(compare):
    assert compare({"a": b"1"}, {"a": b"12", "b": b"12"}).weights[1] == Weight(4, 4)


def test_a_release_that_is_not_kept_is_an_error(library, publish):
    with pytest.raises(ReleaseMissingError):
        compare_releases(library, publish({"a": b"1"}).release, ReleaseId("0" * 64))

import pytest

from assetserver.semantics.targets import (
    LIMIT_BYTES,
    SEGMENT_LIMIT_BYTES,
    RefusedTarget,
    Target,
    format_target,
    is_spelled,
    parse_target,
    strip_prefix,
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", ""),
        ("/file.txt", "file.txt"),
        ("/docs/", "docs/"),
        ("/docs/a.css", "docs/a.css"),
        ("/a%20b.css", "a b.css"),
        ("/%C3%A9", "é"),
        ("/a%2520b", "a%20b"),
        ("/%3F%23%25", "?#%"),
        ("/!$&'()*+,;=:@-._~", "!$&'()*+,;=:@-._~"),
        ("/...", "..."),
        ("/.env", ".env"),
    ],
)
def test_canonical_path_names_a_file_or_folder(raw, path):
    assert parse_target(raw) == Target(path, raw)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("//file.txt", "/file.txt"),
        ("///evil.example//x", "/evil.example/x"),
        ("/docs//", "/docs/"),
        ("//", "/"),
        ("/d//e//", "/d/e/"),
        ("/st%61tic", "/static"),
        ("/%7Euser", "/~user"),
        ("/é", "/%C3%A9"),
        ("/a b", "/a%20b"),
        ('/"', "/%22"),
        ("/%3A%40", "/:@"),
    ],
)
def test_other_spelling_leads_to_the_canonical_one(raw, canonical):
    target = parse_target(raw)

    assert isinstance(target, Target)
    assert target.canonical == canonical
    assert parse_target(canonical) == target


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "not a path"),
        ("*", "not a path"),
        ("http://example.com/", "not a path"),
        ("/%", "broken percent escape"),
        ("/%4", "broken percent escape"),
        ("/%zz", "broken percent escape"),
        ("/a%2Fb", "encoded slash"),
        ("/a%2fb", "encoded slash"),
        ("/%ff", "not UTF-8"),
        ("/%C0%AE%C0%AE/", "not UTF-8"),
        ("/%ED%A0%80", "not UTF-8"),
        ("/\ud800", "not UTF-8"),
        ("/%00", "control character or backslash"),
        ("/a%0d%0ab", "control character or backslash"),
        ("/%7f", "control character or backslash"),
        ("/a%5Cb", "control character or backslash"),
        ("/a\\b", "control character or backslash"),
        ("/.", "dot segment"),
        ("/..", "dot segment"),
        ("/d/../file.txt", "dot segment"),
        ("/./file.txt", "dot segment"),
        ("/%2e%2E/file.txt", "dot segment"),
        ("/d/.%2e/", "dot segment"),
        ("/" + "a" * (SEGMENT_LIMIT_BYTES + 1), "segment too long"),
        ("/" + "%C3%A9" * (SEGMENT_LIMIT_BYTES // 2 + 1), "segment too long"),
        ("/abc" * (LIMIT_BYTES // 4) + "d", "path too long"),
        ("/" + '"/' * (LIMIT_BYTES // 2 - 1), "path too long"),
    ],
)
def test_path_that_can_name_nothing_is_refused_with_a_reason(raw, reason):
    assert parse_target(raw) == RefusedTarget(reason)


@pytest.mark.parametrize("raw", ["/" + "a" * SEGMENT_LIMIT_BYTES, "/abc" * (LIMIT_BYTES // 4)])
def test_longest_names_are_still_names(raw):
    assert parse_target(raw) == Target(raw[1:], raw)


def test_path_is_formatted_with_every_other_character_encoded():
    assert format_target("a b/ü?#%.css") == "/a%20b/%C3%BC%3F%23%25.css"


@pytest.mark.parametrize(
    ("raw", "prefix", "rest"),
    [
        ("/a/b", "", "/a/b"),
        ("/static/a/b", "/static", "/a/b"),
        ("/static/", "/static", "/"),
        ("/static", "/static", "/"),
        ("/static//a", "/static", "//a"),
        ("/st%61tic/a%20b", "/static", "/a%20b"),
        ("/static/v1/a", "/static/v1", "/a"),
        ("/st%C3%A4dte/a", "/städte", "/a"),
    ],
)
def test_prefix_is_stripped_however_it_is_spelled(raw, prefix, rest):
    assert strip_prefix(raw, prefix) == rest


@pytest.mark.parametrize(
    ("raw", "prefix"),
    [("/static%2Fv1/a", "/static/v1"), ("/static%2fv1/x/a", "/static/v1"), ("/other/a", "/static"), ("//static/a", "/static")],
)
def test_prefix_of_other_segments_is_not_stripped(raw, prefix):
    assert strip_prefix(raw, prefix) is None


@pytest.mark.parametrize(
    ("raw", "is_same"),
    [
        ("/a%20b.css", True),
        ("/%c3%a9", True),
        ("/%5Bid%5D.html", True),
        ("/[id].html", True),
        ('/{a}|^`"<>', True),
        ("/%61.css", False),
        ("//a.css", False),
        ("/a%2Bb", False),
        ("/a%2bb", False),
    ],
)
def test_only_what_no_proxy_rewrites_is_another_spelling(raw, is_same):
    target = parse_target(raw)
    assert isinstance(target, Target)
    assert is_spelled(raw, target.canonical) is is_same

import pytest

from assetserver.semantics.etags import ETag, parse_etag, parse_etag_list, strong_match, weak_match
from assetserver.semantics.fields import LIMIT_BYTES


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"xyzzy"', ETag("xyzzy")),
        ('W/"xyzzy"', ETag("xyzzy", weak=True)),
        ('""', ETag("")),
        ('"a,b"', ETag("a,b")),
        ('"a\\"', ETag("a\\")),
        ('"\xe4"', ETag("\xe4")),
    ],
)
def test_tag_is_read_and_written_alike(text, tag):
    assert parse_etag(text) == tag
    assert str(tag) == text


@pytest.mark.parametrize(
    "text", ["", "xyzzy", '"xyzzy', 'xyzzy"', 'w/"a"', 'W/ "a"', 'W"a"', '"a b"', '"a"b"', '"\x7f"', '"\u0100"', "'a'"]
)
def test_anything_else_is_not_a_tag(text):
    assert parse_etag(text) is None


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('"a"', (ETag("a"),)),
        ('"a","b" , W/"c"', (ETag("a"), ETag("b"), ETag("c", weak=True))),
        ('"a,b",, "c"', (ETag("a,b"), ETag("c"))),
        ('"a\\", "b"', (ETag("a\\"), ETag("b"))),
        ('a, "b"', (ETag("b"),)),
        ('"a", *', (ETag("a"),)),
        ('"a", "b', (ETag("a"),)),
        ("", ()),
        ("a", ()),
    ],
)
def test_list_of_tags_keeps_the_well_formed_ones(text, tags):
    assert parse_etag_list(text) == tags


def test_star_alone_is_the_star():
    assert parse_etag_list(" *\t") == "*"


def test_list_longer_than_the_limit_holds_no_tag():
    assert parse_etag_list('"a"'.ljust(LIMIT_BYTES)) == (ETag("a"),)
    assert parse_etag_list('"a"'.ljust(LIMIT_BYTES + 1)) == ()
    assert parse_etag_list(" " * LIMIT_BYTES + "*") == ()


@pytest.mark.parametrize(
    ("given", "current", "strongly", "weakly"),
    [  # the table of RFC 9110 §8.8.3.2
        (ETag("1", weak=True), ETag("1", weak=True), False, True),
        (ETag("1", weak=True), ETag("2", weak=True), False, False),
        (ETag("1", weak=True), ETag("1"), False, True),
        (ETag("1"), ETag("1", weak=True), False, True),
        (ETag("1"), ETag("1"), True, True),
        (ETag("1"), None, False, False),
    ],
)
def test_tags_compare_as_the_specification_shows(given, current, strongly, weakly):
    others = (ETag("other"), given)

    assert strong_match(others, current) is strongly
    assert weak_match(others, current) is weakly

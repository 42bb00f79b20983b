"""``_headers``: every row of ``tests/vectors/headers.toml``, limits, what is stored, and any text and path at all."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import PublishError
from assetserver.releases.headersfile import LIMIT_LINE, NO_CHANGES, HeaderRule, HeaderTable, parse_headers
from assetserver.releases.patterns import LIMIT_RULES, LIMIT_TEXT
from assetserver.semantics.fields import is_token

CASES = tomllib.loads((Path(__file__).parents[1] / "vectors" / "headers.toml").read_text("utf-8"))["headers"]
DIALECTS = st.sampled_from(["netlify", "cloudflare"])
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["/*", "/a/:b", "/a", "x-a: 1", "  x-a: :b :splat", "! x-a", "# c", "vary: *", "cache-control: MAX", "/a*"]
        ),
        st.text("/*:ab!# \t-é\\%.\r", max_size=20),
        st.text(max_size=20),
    ),
    max_size=8,
).map("\n".join)
PATHS = st.one_of(st.text(max_size=40), st.text("/ab.*:%\\\r\n,;é\udc80", max_size=40).map("/".__add__))


def assert_lines(found, wanted):
    """Check that the lines of ``found`` are those of ``wanted``, each with its words."""
    assert [int(line.split(":")[1]) for line in found] == [number for number, _ in wanted], found
    assert [line for line, (_, words) in zip(found, wanted, strict=True) if words not in line] == []


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    dialect = case.get("dialect", "netlify")
    if "errors" in case:
        with pytest.raises(PublishError) as caught:
            parse_headers(case["text"], dialect)
        assert_lines(str(caught.value).split("\n"), case["errors"])
        return
    rules, warnings = parse_headers(case["text"], dialect)
    changes = HeaderTable(rules, dialect).select(case["path"])
    assert [[name.decode(), value.decode("latin-1")] for name, value in changes.set] == case["set"]
    assert sorted(name.decode() for name in changes.unset) == case.get("unset", [])
    assert_lines(warnings, case.get("warnings", []))


def test_every_vector_has_a_name_of_its_own():
    names = [case["name"] for case in CASES]

    assert sorted(set(names)) == sorted(names)


def test_rules_come_back_from_what_is_stored():
    rules, _ = parse_headers("/*\n x-a: 1\n/b\n ! x-a\n x-é: 1".replace("é", "e"), "cloudflare")

    assert msgspec.convert(msgspec.to_builtins(rules), tuple[HeaderRule, ...]) == rules
    assert msgspec.json.decode(msgspec.json.encode(rules), type=tuple[HeaderRule, ...]) == rules


def test_comments_and_spelling_of_names_do_not_change_what_is_stored():
    plain, _ = parse_headers("/*\nx-a: 1", "netlify")
    dressed, _ = parse_headers("# hello\r\n\r\n  /*  \r\n\tX-A :  1 \r\n", "netlify")

    assert msgspec.json.encode(plain) == msgspec.json.encode(dressed)


def test_nothing_is_changed_where_nothing_matches():
    assert HeaderTable((), "netlify").select("/a") is NO_CHANGES


def test_the_same_blocks_give_the_same_object():
    table = HeaderTable(parse_headers("/*\n x-a: 1", "netlify")[0], "netlify")

    assert table.select("/a") is table.select("/b")


@pytest.mark.parametrize("path", ["", "a", "*", "/" + "a" * 5000])
def test_what_is_no_path_gets_nothing(path):
    assert HeaderTable(parse_headers("/*\n x-a: 1", "netlify")[0], "netlify").select(path) is NO_CHANGES


@pytest.mark.parametrize("dialect", ["netlify", "cloudflare"])
def test_a_line_too_long_is_refused_and_one_just_short_enough_is_not(dialect):
    line = "x-a: ".ljust(LIMIT_LINE[dialect], "a")

    assert parse_headers(f"/*\n{line}", dialect)[0]
    with pytest.raises(PublishError, match=r"_headers:2: the line is .* long"):
        parse_headers(f"/*\n{line}a", dialect)


def test_a_file_too_long_is_refused():
    with pytest.raises(PublishError, match="_headers:1: the file is"):
        parse_headers("#" * (LIMIT_TEXT + 1), "netlify")


def test_too_many_blocks_are_refused_at_the_first_that_is_too_much():
    with pytest.raises(PublishError, match=f"_headers:{LIMIT_RULES * 2 + 1}: 10,001 blocks"):
        parse_headers("/a\nx:y\n" * (LIMIT_RULES + 1), "netlify")


def test_thousands_of_bad_lines_are_counted():
    with pytest.raises(PublishError, match="and 500 more lines") as caught:
        parse_headers("bad\n" * 1500, "netlify")

    assert str(caught.value).count("\n") == 1000


@given(LINES, DIALECTS, PATHS)
def test_any_text_is_parsed_or_refused_and_any_path_is_answered(text, dialect, path):
    try:
        rules, _ = parse_headers(text, dialect)
    except PublishError as error:
        assert all(re.match(r"_headers:\d+: .", line) for line in str(error).split("\n"))  # noqa: PT017 - both ways are right
        return
    changes = HeaderTable(rules, dialect).select(path)
    names = [name for name, _ in changes.set]
    assert all(is_token(name.decode()) and name == name.lower() for name in names)
    assert all(re.fullmatch(rb"[\t !-~\xa0-\xff]+", value) for _, value in changes.set)
    assert changes.unset.isdisjoint(names)
    assert len(set(names)) == len([name for name in names if name != b"set-cookie"]) + (b"set-cookie" in names)


@given(PATHS)
def test_what_a_path_fills_in_is_a_word_of_its_own(path):
    table = HeaderTable(parse_headers("/*\n x-a: <:splat>", "cloudflare")[0], "cloudflare")

    for _, value in table.select(path).set:
        assert re.fullmatch(rb"<[A-Za-z0-9/._~%-]*>", value)

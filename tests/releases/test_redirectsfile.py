"""``_redirects``: every row of ``tests/vectors/redirects.toml``, limits, what is stored, and any text and request at all."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assetserver.errors import PublishError
from assetserver.releases.patterns import LIMIT_RULES
from assetserver.releases.redirectsfile import (
    LIMIT_LINE,
    LIMIT_TARGET,
    RedirectKind,
    RedirectRule,
    RedirectTable,
    parse_redirects,
)

CASES = tomllib.loads((Path(__file__).parents[1] / "vectors" / "redirects.toml").read_text("utf-8"))["redirects"]
DIALECTS = st.sampled_from(["netlify", "cloudflare"])
TOKENS = st.one_of(
    st.sampled_from(
        ["/a/*", "/:x/b", "/a", "a=:b", "/c/:splat", "/:x", "/:b", "https://h.example/:splat", "200", "301!", "#c", "//x"]
    ),
    st.text("/*:ab!#?=.-é\\%", max_size=12),
    st.text(max_size=8),
)
LINES = st.lists(st.lists(TOKENS, max_size=5).map(" ".join), max_size=5).map("\n".join)
HOSTILE = st.text("/\\ab.:@%?#&=\r\n\t é\udc80\u2028", max_size=30)
PATHS = st.one_of(st.text(max_size=30), HOSTILE.map("/".__add__), HOSTILE.map("/a/".__add__))
QUERIES = st.one_of(st.text(max_size=30), HOSTILE, HOSTILE.map("b=".__add__))
TARGETS = ["/:splat", "/:x", "/:b", "/:x/:splat", "/:splat:x", "/.:b", "/:x.:b/:splat", "/in/:b?q=:x#:splat", "/x:b:splat"]


def make_table(text, dialect="netlify"):
    return RedirectTable(parse_redirects(text, dialect)[0], dialect)


def assert_lines(found, wanted):
    """Check that the lines of ``found`` are those of ``wanted``, each with its words."""
    assert [int(line.split(":")[1]) for line in found] == [number for number, _ in wanted], found
    assert [line for line, (_, words) in zip(found, wanted, strict=True) if words not in line] == []


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    dialect = case.get("dialect", "netlify")
    if "errors" in case:
        with pytest.raises(PublishError) as caught:
            parse_redirects(case["text"], dialect)
        assert_lines(str(caught.value).split("\n"), case["errors"])
        return
    rules, warnings = parse_redirects(case["text"], dialect)
    found = RedirectTable(rules, dialect).select(case["path"], case.get("query", ""))
    wanted = [(kind, *case[kind.name.lower()]) for kind in RedirectKind if kind.name.lower() in case]
    assert [(one.kind, one.status, one.target) for one in [found] if one] == wanted
    assert found is None or found.force is case.get("force", False)
    assert_lines(warnings, case.get("warnings", []))


def test_every_vector_has_a_name_of_its_own():
    names = [case["name"] for case in CASES]

    assert sorted(set(names)) == sorted(names)


def test_a_file_wins_over_a_rule_without_force():
    table = make_table("/a /b\n/c /d 301!")

    assert table.wins_over_files
    assert table.select("/a", "", forced_only=True) is None
    assert table.select("/c", "", forced_only=True).target == "/d"


def test_a_file_is_kept_by_the_first_rule_that_matches():
    assert make_table("/a /b\n/* /c/:splat 200!").select("/a", "", forced_only=True) is None


def test_without_force_nobody_need_ask_before_files():
    assert not make_table("/a /b").wins_over_files
    assert make_table("/a /b", "cloudflare").wins_over_files


def test_every_rule_of_cloudflare_wins_over_files():
    assert make_table("/a /b", "cloudflare").select("/a", "", forced_only=True).target == "/b"


def test_rules_come_back_from_what_is_stored():
    rules, _ = parse_redirects("/a b=:c /d/:c 302!\n/x/* /y/:splat", "netlify")

    assert msgspec.convert(msgspec.to_builtins(rules), tuple[RedirectRule, ...]) == rules
    assert msgspec.json.decode(msgspec.json.encode(rules), type=tuple[RedirectRule, ...]) == rules


def test_comments_and_order_of_parameters_do_not_change_what_is_stored():
    plain, _ = parse_redirects("/a x=1 y=2 /b", "netlify")
    dressed, _ = parse_redirects("# hello\r\n\r\n /a\ty=2  x=1 /b 301 # moved\r\n", "netlify")

    assert msgspec.json.encode(plain) == msgspec.json.encode(dressed)


@pytest.mark.parametrize("path", ["", "a", "*", "/" + "a" * 5000])
def test_what_is_no_path_leads_nowhere(path):
    assert make_table("/* /index.html 200").select(path, "") is None


def test_a_target_does_not_grow_beyond_measure():
    table = make_table("/a/* https://h.example/" + ":splat/" * 100)

    assert len(table.select("/a/" + "b" * 100, "").target) <= LIMIT_TARGET
    assert table.select("/a/" + "é" * 100, "") is None


def test_only_so_many_parameters_are_looked_at():
    table = make_table("/a b=1 /c")

    assert table.select("/a", "&" * 99 + "b=1") is not None
    assert table.select("/a", "&" * 100 + "b=1") is None


def test_a_line_too_long_is_refused():
    with pytest.raises(PublishError, match=r"_redirects:1: the line is .* long"):
        parse_redirects("/a /".ljust(LIMIT_LINE + 1, "b"), "netlify")


def test_too_many_rules_are_refused_at_the_first_that_is_too_much():
    text = "".join(f"/a{number} /b\n" for number in range(LIMIT_RULES + 1))

    with pytest.raises(PublishError, match=f"_redirects:{LIMIT_RULES + 1}: 10,001 rules"):
        parse_redirects(text, "netlify")


@given(LINES, DIALECTS, PATHS, QUERIES, st.booleans())
def test_any_text_is_parsed_or_refused_and_any_request_is_answered(text, dialect, path, query, forced_only):
    try:
        table = make_table(text, dialect)
    except PublishError as error:
        assert all(re.match(r"_redirects:\d+: .", line) for line in str(error).split("\n"))  # noqa: PT017 - both ways are right
        return
    found = table.select(path, query, forced_only=forced_only)
    assert found is None or re.fullmatch(r"(?:https?://[^/?#]+)?(?:/(?!/)|[?#]|\Z)[!-~]*|https?://[!-~]+", found.target)


@given(st.sampled_from(TARGETS), st.sampled_from([200, 301, 404]), PATHS, QUERIES)
@example("/:splat", 301, "/a//evil.example", "")
@example("/:b", 301, "/a/x/y", "b=/evil.example")
@example("/.:b", 301, "/a/x", "b=./..//evil.example")
def test_a_target_of_this_site_never_leaves_it(target, status, path, query):
    table = make_table(f"/a/:x/* b=:b {target} {status}\n/a/* /{status}/:splat\n")

    found = table.select(path, query)

    if found is not None:
        assert re.fullmatch(r"/(?![/\\])[!-~]*", found.target)
        assert "\\" not in found.target
        there = urlsplit(urljoin("https://here.example/a/b", found.target))
        assert (there.scheme, there.netloc) == ("https", "here.example")


@given(st.sampled_from(TARGETS), PATHS, QUERIES)
def test_a_target_elsewhere_never_leaves_its_host_or_folder(target, path, query):
    table = make_table(f"/a/:x/* b=:b https://there.example:81/in{target}\n/a/* https://there.example:81/in/:splat\n")

    found = table.select(path, query)

    if found is not None:
        there = urlsplit(urljoin("https://here.example/a/b", found.target))
        assert re.fullmatch(r"[!-~]*", found.target)
        assert there.netloc == "there.example:81"
        assert there.path.startswith("/in")

"""Path patterns: against a slow, plain reading of the rules; no path takes long; the index finds what each pattern finds."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assetserver.releases.patterns import PatternIndex, SplitPath, compile_pattern, fold

DIALECTS = st.sampled_from(["netlify", "cloudflare"])
PATTERNS = st.lists(
    st.sampled_from(["/a", "/b", "/*", "/:x", "/:y", "/a*", "/*b", "/A", "/", "/:z.b", "/a*b*"]), min_size=1, max_size=5
)
PATHS = st.lists(st.sampled_from(["/", "/a", "/b", "a", "b", ".b", "A", "/é"]), max_size=7).map(
    lambda parts: "/" + "".join(parts)
)


def read_plainly(text, dialect):
    """Return the expression that the documentation describes, whatever time it takes."""
    if dialect == "cloudflare":
        return re.compile(re.sub(r"\*|:[a-z]", lambda one: ".*" if one[0] == "*" else "[^/]+", text.replace(".", r"\.")))
    text = text[:1] + text[1:].removesuffix("/")
    body = text.removesuffix("/*") if (is_open := text.endswith("/*")) else text.removesuffix("/")
    body = re.sub(r"\*|(?<=/):[a-z](?=/|$)", lambda one: ".*" if one[0] == "*" else "[^/]+", body.replace(".", r"\."))
    return re.compile(body + ("(?:/.*)?" if is_open else "/?"), re.IGNORECASE | re.ASCII)


def compile_or_skip(text, dialect):
    try:
        return compile_pattern(text, dialect)
    except ValueError:
        assume(False)  # noqa: FBT003 - hypothesis' way to skip


@settings(max_examples=500)
@given(PATTERNS, DIALECTS, PATHS)
def test_a_pattern_matches_what_its_documentation_says(parts, dialect, path):
    text = "".join(parts)
    pattern = compile_or_skip(text, dialect)

    matched = pattern.match(SplitPath(path, dialect)) is not None

    assert matched == (read_plainly(text, dialect).fullmatch(path) is not None)


@settings(max_examples=300)
@given(st.lists(PATTERNS.map("".join), max_size=6), DIALECTS, PATHS)
def test_the_index_finds_what_each_pattern_finds_in_order(texts, dialect, path):
    patterns = [compile_or_skip(text, dialect) for text in texts]
    split = SplitPath(path, dialect)

    found = list(PatternIndex(patterns, dialect).find(path))

    each = ((position, pattern.match(split)) for position, pattern in enumerate(patterns))
    assert found == [(position, captures) for position, captures in each if captures is not None]


@given(st.text(), DIALECTS, st.text())
def test_any_text_is_a_pattern_or_a_value_error_and_any_path_is_looked_up(text, dialect, path):
    try:
        pattern = compile_pattern("/" + text, dialect)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - both ways are right
        return
    assert list(PatternIndex([pattern], dialect).find("/" + path)) in ([], [(0, pattern.match(SplitPath("/" + path, dialect)))])


@pytest.mark.parametrize(
    ("text", "dialect", "path"),
    [
        ("/*a*a*a*a*a*a*a*a*a*b", "netlify", "/" + "a" * 4000),
        ("/*/*/*/*/*/*/*/*/x", "netlify", "/a" * 2000),
        ("/*/:a/*/:b/*/:c/*/x", "netlify", "/a" * 2000),
        ("/*a*a*a*a*b/*", "netlify", "/" + "a" * 4000),
        ("/:a.x/:b.x/*.x", "cloudflare", "/" + ".x" * 2000),
        ("/*" + "/:a/:b/:c/:d/:e/:f" + "/x", "cloudflare", "/a" * 2000),
    ],
)
def test_a_hostile_path_is_refused_at_once(text, dialect, path):
    """With plain stars the first row would take longer than the time that a test may have."""
    index = PatternIndex([compile_pattern(text, dialect)], dialect)

    for _ in range(20):
        assert list(index.find(path)) == []


def test_placeholders_keep_the_case_and_slashes_of_the_path():
    pattern = compile_pattern("/Blog/:slug/*", "netlify")

    assert pattern.match(SplitPath("/bLOG/Ab/C/D/", "netlify")) == {"slug": "Ab", "splat": "C/D/"}


def test_only_letters_of_ascii_are_folded():
    assert fold("/ÀB/", "netlify") == "/Àb"
    assert compile_pattern("/À*", "netlify").match(SplitPath("/àb", "netlify")) is None
    assert fold("/ÀB/", "cloudflare") == "/ÀB/"


def test_wildcards_are_counted():
    text = "".join(f"/:a{number}" for number in range(32))

    assert compile_pattern(text, "netlify")
    with pytest.raises(ValueError, match="33 wildcards"):
        compile_pattern(text + "/*", "netlify")

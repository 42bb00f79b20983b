import pytest

from assetserver.semantics.caching import (
    ASSET,
    ERROR,
    IMMUTABLE,
    MISSING_PAGE,
    PAGE,
    PROFILES,
    REDIRECT,
    CachePolicy,
    CacheRule,
    CacheTable,
    check_cache_control,
    compile_glob,
)
from assetserver.semantics.fields import LIMIT_BYTES


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("*.html", ["index.html", "docs/a.html", ".html"], ["index.htm", "index.html/a", "a.html.gz", "xhtml"]),
        ("robots.txt", ["robots.txt", "docs/robots.txt"], ["xrobots.txt", "robots_txt"]),
        ("/robots.txt", ["robots.txt"], ["docs/robots.txt"]),
        ("docs/*.css", ["docs/a.css"], ["a.css", "docs/x/a.css", "x/docs/a.css"]),
        ("/docs/**", ["docs/", "docs/a", "docs/x/a"], ["docs", "docs2/a", "x/docs/a"]),
        ("**/*.js", ["a.js", "x/a.js", "x/y/a.js"], ["a.mjs", "a.js/"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "x/a/b", "a/b/c"]),
        ("a/**/b/**/c", ["a/b/c", "a/b/b/c", "a/x/b/y/c", "a/c/b/c"], ["a/c", "a/b/x", "a/bc"]),
        ("a**/b", ["a/b", "ax/b", "a/x/b"], ["ab"]),
        ("**", ["", "a", "a/b/c.js"], []),
        ("a**z", ["az", "a/z", "x/a/b/z"], ["a/zz/b"]),
        ("a?c", ["abc", "x/a?c"], ["ac", "a/c", "abbc"]),
        ("a*b*c", ["abc", "aXbYc", "abbc", "abcbc"], ["acb", "a/bc", "ab/c"]),
        ("[abc].js", ["a.js", "x/c.js"], ["d.js", "ab.js", "[.js"]),
        ("[!abc].js", ["d.js", "!.js"], ["a.js", ".js"]),
        ("[a-c0-9].js", ["b.js", "7.js"], ["d.js", "-.js"]),
        ("[a-].js", ["a.js", "-.js"], ["b.js"]),
        ("[\\^&|~].js", ["\\.js", "^.js", "&.js", "|.js", "~.js"], ["a.js"]),
        ("a[!b]c", ["axc"], ["abc", "a/c"]),
        ("a[+-9]c", ["a5c", "a.c"], ["a/c"]),
        ("a.(js|css)+", ["a.(js|css)+"], ["a.js"]),
        ("a\nb*", ["a\nb\nc"], ["a"]),
    ],
)
def test_glob_matches(glob, matching, others):
    pattern = compile_glob(glob)

    assert [path for path in matching if not pattern.fullmatch(path)] == []
    assert [path for path in others if pattern.fullmatch(path)] == []


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("", "must not be empty"),
        ("/", "must not be empty"),
        ("//", "must not be empty"),
        ("[abc", "not closed"),
        ("a[", "not closed"),
        ("[]", "not closed"),
        ("[!]", "is empty"),
        ("[z-a]", "runs backwards: z-a"),
    ],
)
def test_glob_that_cannot_match_anything_is_refused(glob, message):
    with pytest.raises(ValueError, match=message):
        compile_glob(glob)


@pytest.mark.parametrize(
    ("text", "targeted"),
    [
        ("", False),
        (ASSET, False),
        (IMMUTABLE, False),
        (PAGE, False),
        (REDIRECT, False),
        (MISSING_PAGE, False),
        (ERROR, False),
        ("public, max-age=60, s-maxage=600, no-transform", False),
        ('private="set-cookie", max-age=0', False),
        ("max-age=31536000, stale-while-revalidate=60, stale-if-error=86400", True),
        ("no-store", True),
        ("no-store".ljust(LIMIT_BYTES), False),
    ],
)
def test_sound_cache_control_passes(text, targeted):
    check_cache_control(text, targeted=targeted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Max-Age=60", "lower case"),
        ("max-age: 60", "not a directive"),
        ("max-age=1 day", "not a directive"),
        ("max-age=-1", "not a directive"),
        ("max-age=12345678901", "not a directive"),
        ('private="a\r\nset-cookie: b"', "not a directive"),
        ('private="ä"', "not a directive"),
        ("max-age", "needs a number of seconds: max-age=60"),
        ('max-age="60"', "needs a number of seconds"),
        ("no-store=1", "takes no number"),
        ("maxage=60", "not a cache directive of a response; known are"),
        ("only-if-cached", "not a cache directive of a response"),
        ("max-age=60, max-age=61", "max-age stands twice"),
        ("s-maxage=60, stale-while-revalidate=60", "s-maxage forbids serving stale"),
        ("s-maxage=60, stale-if-error=60", "s-maxage forbids serving stale"),
        ("public, immutable", "without max-age"),
        ("no-store".ljust(LIMIT_BYTES + 1), "longer than"),
    ],
)
def test_unsound_cache_control_is_refused_with_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        check_cache_control(text)


def test_targeted_value_takes_no_s_maxage():
    check_cache_control("s-maxage=60")
    with pytest.raises(ValueError, match="a targeted value takes max-age"):
        check_cache_control("s-maxage=60", targeted=True)


@pytest.mark.parametrize(
    ("path", "facts", "browser"),
    [
        ("index.html", {"page": True}, PAGE),
        ("app.js", {}, ASSET),
        ("app.3f2a91c0.js", {}, ASSET),
        ("app.3f2a91c0.js", {"fingerprinted": True}, IMMUTABLE),
        ("fonts/inter.woff2", {}, IMMUTABLE),
        ("fonts/page.html", {"page": True}, IMMUTABLE),
        ("manifest.json", {"fingerprinted": True}, "no-store"),
    ],
)
def test_first_rule_wins_then_proof_or_declaration_then_the_kind_of_file(path, facts, browser):
    table = CacheTable(
        rules=(CacheRule("manifest.json", CachePolicy("no-store")), CacheRule("*.json", CachePolicy("private"))),
        immutable=("fonts/*",),
    )

    assert table.select_policy(path, **facts) == CachePolicy(browser)


def test_versioned_prefix_makes_every_file_immutable_but_for_the_rules():
    table = CacheTable(rules=(CacheRule("*.html", CachePolicy(PAGE)),), versioned=True)

    assert table.select_policy("a.js").browser == IMMUTABLE
    assert table.select_policy("a.html", page=True).browser == PAGE


def test_rules_see_the_prefix_of_the_mount():
    table = CacheTable(rules=(CacheRule("/docs/*.css", CachePolicy("no-store")),), prefix="docs/")

    assert table.select_policy("a.css").browser == "no-store"
    assert table.select_policy("docs/a.css").browser == ASSET


@pytest.mark.parametrize(
    ("profile", "fields"),
    [
        ("none", {}),
        ("generic", {b"cdn-cache-control": b"max-age=600", b"cache-tag": b"site,docs"}),
        ("cloudflare", {b"cloudflare-cdn-cache-control": b"max-age=600", b"cache-tag": b"site,docs"}),
        ("fastly", {b"surrogate-control": b"max-age=600", b"surrogate-key": b"site docs"}),
        ("varnish", {b"surrogate-control": b"max-age=600", b"xkey": b"site docs"}),
        ("akamai", {b"cdn-cache-control": b"max-age=600", b"edge-cache-tag": b"site,docs"}),
    ],
)
def test_each_profile_has_its_own_targeted_field_and_tags(profile, fields):
    table = CacheTable(profile=profile, tags=("site",))
    policy = CachePolicy("no-cache", "max-age=600", ("docs", "site"))

    assert dict(table.fields_of(policy)) == {b"cache-control": b"no-cache", **fields}


@pytest.mark.parametrize("profile", PROFILES)
def test_policy_without_targeted_value_and_tags_is_one_field(profile):
    assert CacheTable(profile=profile).fields_of(CachePolicy()) == ((b"cache-control", ASSET.encode()),)


def test_empty_policy_sends_nothing():
    assert CacheTable().fields_of(CachePolicy("")) == ()


def test_a_profile_that_nobody_has_is_refused_at_once_with_those_there_are():
    with pytest.raises(ValueError, match=r"'cloudfare' is not a CDN profile; known are none, generic, cloudflare"):
        CacheTable(profile="cloudfare")

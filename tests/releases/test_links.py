"""What a URL means inside a release, and the ``Link`` values of a page."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver.releases.examine import examine
from assetserver.releases.facts import Facts, Preload
from assetserver.releases.links import LIMIT_FIELD_BYTES, LIMIT_LINKS, link_fields
from assetserver.releases.references import find_file, is_local, resolve

LINK = re.compile(
    r"""<[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*>(?:; [a-z]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[ !#-\[\]-~]|\\["\\])*"))?)+"""
)
"""``link-value`` of RFC 8288 §3, as we write it; no bare quote, no line end, no ">" in the URL."""


@pytest.mark.parametrize(
    ("url", "page", "expected"),
    [
        ("a.css", "index.html", "a.css"),
        ("a.css", "docs/index.html", "docs/a.css"),
        ("/a.css", "docs/index.html", "a.css"),
        ("../a.css?v=1#x", "docs/index.html", "a.css"),
        ("../../../a.css", "docs/index.html", "a.css"),
        ("./", "docs/index.html", "docs/"),
        (".", "docs/index.html", "docs/"),
        ("..", "docs/index.html", ""),
        ("/", "docs/index.html", ""),
        ("x/./y/../z", "a.html", "x/z"),
        ("/%2e%2e/%2E/a.css", "a.html", "a.css"),
        ("\\assets\\a.css", "docs/a.html", "assets/a.css"),
        ("a%20b.css", "a.html", "a b.css"),
        ("a b.css", "a.html", "a b.css"),
        ("é.css", "a.html", "é.css"),
        ("%C3%A9.css", "a.html", "é.css"),
        ("b.css", "100%/a.html", "100%/b.css"),
        ("b.css", "a%20b/a.html", "a%20b/b.css"),
        ("a%2Fb.css", "a.html", None),
        ("100%.css", "a.html", None),
        ("a%00b", "a.html", None),
        ("https://example.test/a.css", "a.html", None),
        ("//example.test/a.css", "a.html", None),
        ("#x", "a.html", None),
        ("", "a.html", None),
        ("x" * 5000, "a.html", None),
        ("x" * 256, "a.html", None),
    ],
)
def test_reference_means_a_path(url, page, expected):
    assert resolve(url, page) == expected


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("a.js", "/", "a.js"),
        ("a.js", "/app/", "app/a.js"),
        ("a.js", "/app/page", "app/a.js"),
        ("../a.js", "sub/x/", "docs/sub/a.js"),
        ("a.js", "page", "docs/a.js"),
        ("a.js", "./?q=/x/", "docs/a.js"),
        ("/a.js", "/app/", "a.js"),
        ("a.js", "https://cdn.test/", None),
    ],
)
def test_base_is_honoured(url, base, expected):
    assert resolve(url, "docs/index.html", base) == expected


def test_what_lies_outside_of_the_mount_is_elsewhere():
    assert resolve("/static/a.js", "index.html", mount="/static/") == "a.js"
    assert resolve("a.js", "x/index.html", mount="/static/") == "x/a.js"
    assert resolve("/a.js", "index.html", mount="/static/") is None
    assert resolve("../a.js", "index.html", mount="/static/") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "index.html"),
        ("docs/", "docs/index.html"),
        ("docs", "docs/index.html"),
        ("about", "about.html"),
        ("about/", "about.html"),
        ("old/", "old/index.htm"),
        ("a.css", "a.css"),
        ("a", None),
    ],
)
def test_file_that_answers_a_path(path, expected):
    assert find_file(path, {"index.html", "docs/index.html", "about.html", "old/index.htm", "a.css"}) == expected


def test_page_without_its_extension_counts_only_with_clean_urls():
    assert find_file("about", {"about.html"}, clean_urls=False) is None


VITE_PAGE = b"""<!doctype html><html><head><meta charset="UTF-8" />
<link rel="icon" type="image/svg+xml" href="/vite.svg" />
<script type="module" crossorigin src="/assets/index-DiwrgTda.js"></script>
<link rel="modulepreload" crossorigin href="/assets/vendor-BwqTnXYz.js">
<link rel="stylesheet" crossorigin href="/assets/index-n_ryQ3BS.css">
</head><body><div id="root"></div></body></html>"""
VITE_FILES = {"vite.svg", "assets/index-DiwrgTda.js", "assets/vendor-BwqTnXYz.js", "assets/index-n_ryQ3BS.css"}


def test_a_page_of_vite_gets_its_links():
    assert link_fields("index.html", examine("html", VITE_PAGE), VITE_FILES) == (
        "</assets/index-DiwrgTda.js>; rel=modulepreload; crossorigin",
        "</assets/vendor-BwqTnXYz.js>; rel=modulepreload; crossorigin",
        "</assets/index-n_ryQ3BS.css>; rel=preload; as=style; crossorigin",
    )


def test_what_the_release_does_not_hold_is_not_announced():
    assert link_fields("index.html", examine("html", VITE_PAGE), {"vite.svg"}) == ()


def test_a_file_is_announced_once():
    facts = Facts(
        preloads=(Preload("a.js", "modulepreload"), Preload("a.js", "preload", "script"), Preload("b.js", "modulepreload"))
    )
    assert link_fields("index.html", facts, {"a.js", "b.js"}) == ("<a.js>; rel=modulepreload", "<b.js>; rel=modulepreload")


@pytest.mark.parametrize(
    ("preload", "base", "expected"),
    [
        (Preload('é b.js?x="1"#f', "modulepreload"), "", "<%C3%A9%20b.js?x=%221%22>; rel=modulepreload"),
        (Preload("%C3%A9 b.js", "modulepreload"), "", "<%C3%A9%20b.js>; rel=modulepreload"),
        (Preload("é b.js", "modulepreload"), "/", "</%C3%A9%20b.js>; rel=modulepreload"),
        (
            Preload("é b.js", "modulepreload", "", "use-credentials"),
            "",
            "<%C3%A9%20b.js>; rel=modulepreload; crossorigin=use-credentials",
        ),
        (
            Preload("é b.js", "preload", "font", None, "font/woff2", "sha384-a/b="),
            "",
            '<%C3%A9%20b.js>; rel=preload; as=font; type="font/woff2"; integrity="sha384-a/b="',
        ),
        (
            Preload("é b.js", "preload", "image", imagesrcset='a.png 1x, "\\b.png 2x', imagesizes="(width > 1px) 50vw"),
            "",
            '<%C3%A9%20b.js>; rel=preload; as=image; imagesrcset="a.png 1x, \\"\\\\b.png 2x"; imagesizes="(width > 1px) 50vw"',
        ),
    ],
)
def test_values_are_encoded_and_quoted(preload, base, expected):
    fields = link_fields("index.html", Facts(preloads=(preload,), base=base), {"é b.js"})
    assert fields == (expected,)
    assert LINK.fullmatch(fields[0])


def test_what_cannot_be_said_is_left_out():
    for preload, base in (
        (Preload("a.png", "preload", "image", imagesrcset="é.png 1x"), ""),
        (Preload("a.png", "preload", "image", type="x\r\nSet-Cookie: a"), ""),
        (Preload("a.png", "preload", "image", imagesrcset="b.png 1x"), "/"),
        (Preload("https://cdn.test/a.png", "preload", "image"), ""),
        (Preload("", "preload", "image"), ""),
    ):
        assert link_fields("index.html", Facts(preloads=(preload,), base=base), {"a.png"}) == ()


def test_links_are_few_and_the_field_is_small():
    names = [f"assets/{number:03}-{'x' * 180}.js" for number in range(50)]
    fields = link_fields("index.html", Facts(preloads=tuple(Preload(one, "modulepreload") for one in names)), set(names))
    assert 0 < len(fields) < LIMIT_LINKS
    assert len(", ".join(fields)) <= LIMIT_FIELD_BYTES
    short = [f"{number}.js" for number in range(50)]
    fields = link_fields("index.html", Facts(), set(short), [Preload(one, "modulepreload") for one in short])
    assert len(fields) == LIMIT_LINKS


class Everything(frozenset):
    """A release that holds any file."""

    def __contains__(self, path: object) -> bool:
        return True


TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from('<>"\\;,=\r\n%/ '), max_size=30)


@settings(max_examples=300, deadline=None)
@given(url=TEXT, type_=TEXT, integrity=TEXT, srcset=TEXT, base=st.sampled_from(["", "/", "/a b/", "x/"]))
def test_nothing_can_be_injected(url, type_, integrity, srcset, base):
    preload = Preload(url, "preload", "image", "", type_, integrity, "", srcset, "")
    for field in link_fields("docs/index.html", Facts(preloads=(preload,), base=base), Everything()):
        assert LINK.fullmatch(field)
        assert field.partition(">")[0][1:2] not in ("", "#", "?")
        assert not field.startswith("<//")


@settings(max_examples=300, deadline=None)
@given(url=TEXT, page=TEXT, base=TEXT)
def test_resolving_never_raises_and_stays_inside(url, page, base):
    path = resolve(url, page, base)
    assert path is None or not ({"", ".", ".."} & set(path.removesuffix("/").split("/")) - ({""} if path == "" else set()))
    assert isinstance(is_local(url), bool)

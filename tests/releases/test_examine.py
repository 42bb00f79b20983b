"""What a file says of others: references with their lines, names, preloads; for any bytes at all."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver.releases.examine import LIMIT_BYTES, LIMIT_NAMES, examine, kind_of
from assetserver.releases.facts import Facts, Preload
from assetserver.releases.hashlike import holds_hash, is_hash_behind
from assetserver.releases.pages import LIMIT_PRELOADS, LIMIT_REFERENCES

SAMPLE = Path(__file__).parents[2] / "static"
MIB = 1 << 20


def urls(html: str) -> list[str]:
    return [one.url for one in examine("html", html.encode()).references]


def css_urls(css: str) -> list[str]:
    return [one.url for one in examine("css", css.encode()).references]


def preloads(html: str) -> tuple[Preload, ...]:
    return examine("html", html.encode()).preloads


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "html"),
        ("a/b.HTM", "html"),
        ("a.css", "css"),
        ("a.mjs", "script"),
        ("a.json", "script"),
        ("site.webmanifest", "script"),
        ("a.svg", "script"),
        ("a.png", None),
        ("a.js/readme", None),
        ("LICENSE", None),
    ],
)
def test_kind_is_told_by_the_extension(path, kind):
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a href="/a b">', ["/a b"]),
        ("<img src=a.png alt=x>", ["a.png"]),
        ("<IMG SRC='a.png'>", ["a.png"]),
        ('<img srcset="a.png 1x, b.png 2x,c.png 3x">', ["a.png", "b.png", "c.png"]),
        ('<img srcset="a,b.png">', ["a,b.png"]),
        ('<source srcset="a.avif, b.avif 100w">', ["a.avif", "b.avif"]),
        ('<link rel=preload as=image imagesrcset="a.png 1x">', ["a.png"]),
        ('<video poster=p.jpg src="v.mp4"><track src=t.vtt>', ["v.mp4", "p.jpg", "t.vtt"]),
        ('<svg><use href="s.svg#a"/><use xlink:href="t.svg#b"/></svg>', ["s.svg#a", "t.svg#b"]),
        ("<p style=\"background:url('x.png')\">", ["x.png"]),
        ("<style>a{background:url(x.png)}</style><b>url(no.png)</b>", ["x.png"]),
        ('<meta http-equiv=refresh content="3; URL=/next/">', ["/next/"]),
        ('<meta http-equiv=refresh content="3">', []),
        ('<a href="?q=1&amp;r=2">', []),
        ('<a href="/s?q=1&amp;r=2">', ["/s?q=1&r=2"]),
        ('<form action="/send"><button formaction="/x">', []),
        ('<div data-src="lazy.png" data-href=x>', []),
        ('<link rel="preconnect" href="/x">', []),
        ("<noscript><img src=n.png></noscript><template><img src=t.png></template>", ["n.png", "t.png"]),
        ("<textarea><img src=no.png></textarea><title><img src=no.png></title>", []),
        ("<script>'<img src=no.png>'</script><img src=a.png>", ["a.png"]),
        ("<!-- <img src=no.png> --><!--><img src=a.png>", ["a.png"]),
        ("<svg><title/></svg><img src=a.png>", ["a.png"]),
        ("<p title='>'><img title=\"<\" src=a.png>", ["a.png"]),
        ("<p don't><img src='a.png'>", ["a.png"]),
        ("<img src=a.png src=b.png>", ["a.png"]),
        ("<img src = a.png/>", ["a.png/"]),
        ("< img src=a.png><3 <img src=b.png>", ["b.png"]),
        ("<img src=a.png", []),
        ('<img src="a.png>', []),
        ("<img src='a&#99999999999999999999;.png'>", ["a\ufffd.png"]),
        ('<a href=" \n/a\n/b ">', ["/a/b"]),
    ],
)
def test_references_of_a_page(html, expected):
    assert urls(html) == expected


@pytest.mark.parametrize(
    "url",
    [
        "#top",
        "?q",
        "",
        "data:image/png;base64,AAAA",
        "mailto:a@b",
        "TEL:1",
        "javascript:void(0)",
        "blob:x",
        "https://example.test/a",
        "//example.test/a",
        "\\\\example.test/a",
        "/\\example.test/a",
        "{{ url }}",
        "/a/${id}",
        "{% url 'x' %}",
        "<%= x %>",
        "/" + "a" * 5000,
    ],
)
def test_what_names_no_file_of_the_site_is_no_reference(url):
    assert urls(f'<a href="{url}">') == []
    assert css_urls('a{background:url("' + url.replace("\\", "\\\\") + '")}') == []


@pytest.mark.parametrize(
    ("css", "expected"),
    [
        ("a{background:url(a.png)}", ["a.png"]),
        ("a{background:URL( 'a b.png' )}", ["a b.png"]),
        ("@import \"a.css\";@IMPORT url(b.css) screen;@import/**/ 'c.css';", ["a.css", "b.css", "c.css"]),
        ("/* url(no.png) */ a{} /* open url(no.png)", []),
        ("a::before{content:'url(no.png)'}b{background:url(b.png)}", ["b.png"]),
        ("a{content:'open\nurl(a.png)}", ["a.png"]),
        ('a{content:"\\"url(no.png)"}', []),
        ("@font-face{src:url(f.eot?#iefix),url(f.woff2)}", ["f.eot?#iefix", "f.woff2"]),
        ("a{mask:url(#id)}", []),
        ("a{background:url()}", []),
        ("a{background:url(a b.png)}", []),
        ("a{background:url(a\\ b.png)}b{background:url('\\26 c.png')}", ["a b.png", "&c.png"]),
        ("a{x:my-url(no.png)}", []),
        (".url\\(a{x:url(b.png)}", ["b.png"]),
        ("a{background:url('\\110000 \\d800 x.png')}", ["\ufffd\ufffdx.png"]),
        ("a{background:url(open.png", ["open.png"]),
    ],
)
def test_references_of_a_style_sheet(css, expected):
    assert css_urls(css) == expected


def test_lines_count_from_one_through_style_and_text():
    html = "\ufeff<!doctype html>\n<img src=a>\n<style>\n\nb{background:url(b)}</style>\n<p\n><a\nhref=c>"
    found = [(one.url, one.line) for one in examine("html", html.encode()).references]
    assert found == [("a", 2), ("b", 5), ("c", 7)]
    assert [one.line for one in examine("css", b"a{}\n\n@import 'b';\r\nc{d:url(e)}").references] == [3, 4]


def test_base_is_kept_and_one_on_another_host_leaves_no_references():
    facts = examine("html", b'<base href="/app/"><base href="/other/"><img src=a.png>')
    assert (facts.base, facts.references[0].url) == ("/app/", "a.png")
    html = b'<link rel=stylesheet href=a.css><base href="https://cdn.example.test/"><img src=a.png>'
    assert examine("html", html) == Facts()


def test_names_are_those_that_may_hold_a_hash():
    js = (
        b'import("./details-DiwrgTda.js");const m=["/assets/vendor-D-wr_Tda.js","a.js"];'
        b'x="main.4f2a9c01.chunk.css?v=1";"https://cdn.test/d41d8cd98f00b204e980.png"'
    )
    names = ("d41d8cd98f00b204e980.png", "details-DiwrgTda.js", "main.4f2a9c01.chunk.css", "vendor-D-wr_Tda.js")
    for kind in ("html", "css", "script"):
        assert set(names) <= set(examine(kind, js).names)
    assert "a.js" not in examine("script", js).names
    assert examine("script", js).names == tuple(sorted(examine("script", js).names))


def test_names_and_references_and_preloads_are_bounded():
    names = b" ".join(b"a-%08xQz.js" % number for number in range(LIMIT_NAMES + 100))
    assert len(examine("script", names).names) == LIMIT_NAMES
    page = examine("html", b"<script type=module src=a.js></script>" * (LIMIT_REFERENCES + 100))
    assert (len(page.references), len(page.preloads)) == (LIMIT_REFERENCES, LIMIT_PRELOADS)
    assert len(examine("css", b"a{b:url(c)}" * (LIMIT_REFERENCES + 100)).references) == LIMIT_REFERENCES


def test_what_is_larger_than_the_limit_is_not_looked_into():
    page = b"<img src=a.png>"
    assert examine("html", page.ljust(LIMIT_BYTES)).references
    assert examine("html", page.ljust(LIMIT_BYTES + 1)) == Facts()


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<link rel=stylesheet href=a.css>", [Preload("a.css", "preload", "style")]),
        ("<link rel=stylesheet crossorigin href=/a.css>", [Preload("/a.css", "preload", "style", "")]),
        (
            "<link rel=preload as=font type=font/woff2 href=a.woff2 crossorigin=anonymous>",
            [Preload("a.woff2", "preload", "font", "", "font/woff2")],
        ),
        (
            "<link rel=modulepreload href=a.js crossorigin=use-credentials>",
            [Preload("a.js", "modulepreload", "", "use-credentials")],
        ),
        ("<script type=module crossorigin src=/a.js></script>", [Preload("/a.js", "modulepreload", "", "")]),
        ("<script src=a.js integrity=sha384-AA></script>", [Preload("a.js", "preload", "script", integrity="sha384-AA")]),
        ("<script type=text/javascript src=a.js></script>", [Preload("a.js", "preload", "script")]),
        (
            '<link rel=preload as=image href=a.png imagesrcset="a.png 1x" imagesizes=50vw fetchpriority=high>',
            [Preload("a.png", "preload", "image", None, "", "", "high", "a.png 1x", "50vw")],
        ),
        ("<script async src=a.js></script><script defer src=b.js></script><script nomodule src=c.js></script>", []),
        ("<script type=importmap src=a.js></script><script>inline</script>", []),
        ("<link rel=stylesheet media=print href=a.css><link rel=stylesheet disabled href=b.css>", []),
        ("<link rel=stylesheet media=Screen href=a.css>", [Preload("a.css", "preload", "style")]),
        ("<link rel='alternate stylesheet' href=a.css><link rel=icon href=a.ico><link rel=prefetch href=b.js>", []),
        ("<link rel=preload as=worker href=a.js><link rel=preload href=b.js>", []),
        ("<noscript><link rel=stylesheet href=a.css></noscript><template><script src=b.js></script></template>", []),
        ("<link rel=stylesheet href=https://cdn.test/a.css>", []),
    ],
)
def test_preloads_say_what_the_element_says(html, expected):
    assert list(preloads(f"<head><meta charset=utf-8><title>t</title><style>a{{}}</style>{html}</head>")) == expected


@pytest.mark.parametrize("start", ["<body>", "<p>", "</head>"])
def test_only_scripts_of_the_head_block(start):
    html = f"<script src=a.js></script>{start}<script src=b.js></script><script type=module src=c.js></script>"
    assert [one.url for one in preloads(html)] == ["a.js", "c.js"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("assets/index-C3wrgTdA.js", True),
        ("index-DiwrgTda.js", False),  # a hash of Vite that could be two words: one in a hundred is
        ("index-BwqTnXYz.js", True),
        ("index-D-wr_Tda.js", True),
        ("main.4f2a9c01.js", True),
        ("main.4f2a9c01.chunk.css", True),
        ("d41d8cd98f00b204e980.png", True),
        ("chunk-7RZ3QK2A.js", True),
        ("app.js", False),
        ("vendor-bootstrap5.js", False),
        ("vendor-ReactDomClient.js", False),
        ("app-20261122.js", False),
        ("app-2026-11-22.js", False),
        ("jquery-3.7.1.min.js", False),
        ("README-CONTRIBUTING.md", False),
        ("bootstrap.bundle.min.js", False),
        ("apple-touch-icon-precomposed.png", False),
        ("runtime-polyfills.js", False),
        ("a" * 300 + "-DiwrgTda.js", False),
        ("", False),
    ],
)
def test_what_holds_something_like_a_hash(name, expected):
    assert holds_hash(name) is expected


@pytest.mark.parametrize(
    ("name", "stem", "expected"),
    [
        ("chunk-BHFKLMNQ.js", "chunk", True),
        ("my-DiwrgTda.js", "my-DiwrgTda", False),
        ("my-DiwrgTda-4f2a9c01.js", "my-DiwrgTda", True),
        ("app-legacy.js", "app", False),
        ("4f2a9c01.js", "app", True),
    ],
)
def test_what_stands_behind_a_known_stem(name, stem, expected):
    assert is_hash_behind(name, stem) is expected


def test_facts_survive_being_kept():
    facts = examine("html", (SAMPLE / "v1" / "index.html").read_bytes())
    assert facts.references
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=Facts) == facts
    assert msgspec.json.decode(msgspec.json.encode(facts), type=Facts) == facts


def test_every_hashed_file_of_the_sample_is_named_by_another():
    for version in ("v1", "v2"):
        root = SAMPLE / version
        named = {
            name for file in root.rglob("*") if (kind := kind_of(file.name)) for name in examine(kind, file.read_bytes()).names
        }
        hashed = {file.name for file in (root / "assets").iterdir()}
        assert hashed
        assert hashed <= named


SIGNS = (
    "< > / = ' \" <!-- --> <a <img <script </script> <style> </style> <svg> <base href= src= srcset= style= url( ) @import "
    "/* */ \\ & &# &#x41; \n , ; # ? : // a.js index-C3wrgTdA.js {{ \x00 é \ud7ff"
)
PIECES = st.lists(st.sampled_from([*SIGNS.split(" "), " "]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(pieces=PIECES, rest=st.binary(max_size=40), kind=st.sampled_from(["html", "css", "script"]))
def test_any_bytes_are_examined_and_the_lines_are_those_of_the_file(pieces, rest, kind):
    content = "".join(pieces).encode() + rest
    facts = examine(kind, content)
    last = content.count(b"\n") + 1
    lines = [one.line for one in facts.references]
    assert lines == sorted(lines)
    assert all(1 <= line <= last for line in lines)
    assert all(re.search(r"[\t\n\r]", one.url) is None for one in facts.references)
    assert all(name.encode() in content for name in facts.names)


HOSTILE_HTML = [
    "<",
    "<!--",
    "<!",
    "</",
    "<a ",
    "<a b",
    "<a b = ",
    '<a href="',
    "<a href='x",
    "<img srcset='a,",
    "<script>",
    "<title",
    "<svg><title/>",
    "<style>/*",
    "<style>url(",
    "<p style='url(\\",
    "&#9",
    "a-4f2a9c01.",
]
HOSTILE_CSS = ["/*", "*/", '"', "'\\", "\\", "url(", "url( ", "@import", "@import/*", "@import/**/", " url(\\", '"\n']


@pytest.mark.parametrize("piece", HOSTILE_HTML)
def test_hostile_pages_of_four_mebibytes_come_to_an_end(piece):
    facts = examine("html", piece.encode() * (4 * MIB // len(piece)))
    assert len(facts.references) <= LIMIT_REFERENCES
    assert len(facts.names) <= LIMIT_NAMES


@pytest.mark.parametrize("piece", HOSTILE_CSS)
def test_hostile_style_sheets_of_four_mebibytes_come_to_an_end(piece):
    assert len(examine("css", piece.encode() * (4 * MIB // len(piece))).references) <= LIMIT_REFERENCES


def test_one_attribute_of_four_mebibytes_is_data():
    for before in ("<img srcset='", "<a href='", "<p style='", "<a "):
        assert urls(before + ", " * (2 * MIB) + "'><img src=a.png>")[-1:] == ["a.png"]

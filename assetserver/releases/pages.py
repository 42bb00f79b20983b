"""A page's text → what it refers to, and what of it is worth asking for early. Pure.

Source: the HTML standard (which attributes hold URLs, which scripts and style sheets block), RFC 8288 (``Link``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .facts import Facts, Preload, Reference
from .markup import Tag, scan_tags
from .references import clean_url, is_local
from .stylesheets import scan_urls

LIMIT_REFERENCES = 20_000
LIMIT_PRELOADS = 100
_URL_ATTRIBUTES = {
    "a": ("href",),
    "area": ("href",),
    "audio": ("src",),
    "embed": ("src",),
    "frame": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src",),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src",),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_SET_ATTRIBUTES = {"img": "srcset", "source": "srcset", "link": "imagesrcset"}
_HINTS = frozenset({"preconnect", "dns-prefetch"})
"""Links that name a host; their path means nothing."""

_HEAD = frozenset({"html", "head", "title", "base", "meta", "link", "style", "script", "noscript", "template"})
"""Elements of a head: any other begins the body, even where ``<body>`` is not written."""

_INERT = ("noscript", "template")
_CARRIED = ("type", "integrity", "fetchpriority", "imagesrcset", "imagesizes")
_WANTED = frozenset(
    [one for names in _URL_ATTRIBUTES.values() for one in names]
    + [
        "srcset",
        "style",
        "rel",
        "as",
        "crossorigin",
        "media",
        "disabled",
        "async",
        "defer",
        "nomodule",
        "content",
        "http-equiv",
    ]
    + list(_CARRIED)
)
_DESTINATIONS = frozenset({"audio", "fetch", "font", "image", "script", "style", "track", "video"})
_CLASSIC = frozenset({"", "text/javascript", "application/javascript", "text/ecmascript", "application/x-javascript"})
_REFRESH = re.compile(r"[\s\d.]*+[;,]?+\s*+(?:url\s*+=\s*+)?+['\"]?+([^'\"]*+)", re.IGNORECASE)
_CANDIDATE = re.compile(r"[\s,]*+(\S++)")


def examine_page(text: str) -> Facts:
    """Return what the page refers to and may preload; ``names`` stay empty. Never raises; linear in time."""
    page = _Page(text)
    for tag in scan_tags(text, _WANTED):
        page.take(tag)
    if page.is_elsewhere:
        return Facts()
    return Facts(tuple(page.references), (), tuple(page.preloads), page.base)


def split_srcset(value: str) -> Iterator[str]:
    """Yield the URLs of a ``srcset``: a comma belongs to its URL unless it ends it (HTML standard, section 4.8.4.2.2)."""
    at = 0
    while match := _CANDIDATE.match(value, at):
        at = match.end()
        url = match[1].rstrip(",")
        if url == match[1]:
            comma = value.find(",", at)
            at = comma + 1 if comma >= 0 else len(value)
        if url:
            yield url


class _Page:
    """What was seen of a page up to here."""

    def __init__(self, text: str) -> None:
        self.references: list[Reference] = []
        self.preloads: list[Preload] = []
        self.base = ""
        self.is_elsewhere = False
        self._text = text
        self._line, self._line_at = 1, 0
        self._in_head = True
        self._inert = 0
        self._has_base = False

    def take(self, tag: Tag) -> None:
        """Note what ``tag`` says; tags come in the order of the document."""
        if tag.name == "/head" or (tag.name[:1] != "/" and tag.name not in _HEAD):
            self._in_head = False
        if tag.name in _INERT:
            self._inert += 1
        elif tag.name[:1] == "/":
            self._inert = max(0, self._inert - (tag.name[1:] in _INERT))
            return
        if tag.name == "base":
            self._set_base(tag)
        for url in _urls_of(tag):
            self._refer(url, tag.at)
        if tag.name == "style":
            for url, at in scan_urls(tag.content):
                self._refer(url, tag.content_at + at)
        if not self._inert and len(self.preloads) < LIMIT_PRELOADS:
            self.preloads += _preloads_of(tag, in_head=self._in_head)

    def _set_base(self, tag: Tag) -> None:
        """Take the first ``<base href>``: it holds for the whole page, also for what stands before it."""
        if "href" not in tag.attributes or self._has_base:
            return
        self._has_base = True
        self.base = clean_url(tag.attributes["href"])
        self.is_elsewhere = self.base[:1] not in ("", "#", "?") and not is_local(self.base)

    def _refer(self, written: str, at: int) -> None:
        url = clean_url(written)
        if is_local(url) and len(self.references) < LIMIT_REFERENCES:
            self.references.append(Reference(url, self._line_of(at)))

    def _line_of(self, at: int) -> int:
        if at > self._line_at:
            self._line += self._text.count("\n", self._line_at, at)
            self._line_at = at
        return self._line


def _urls_of(tag: Tag) -> Iterator[str]:
    attributes = tag.attributes
    if not attributes or (tag.name == "link" and _HINTS & set(attributes.get("rel", "").lower().split())):
        return
    for name in _URL_ATTRIBUTES.get(tag.name, ()):
        if url := attributes.get(name):
            yield url
    if srcset := attributes.get(_SET_ATTRIBUTES.get(tag.name, "")):
        yield from split_srcset(srcset)
    if style := attributes.get("style"):
        yield from (url for url, _ in scan_urls(style))
    if tag.name == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
        match = _REFRESH.match(attributes.get("content", ""))
        yield match[1] if match else ""


def _preloads_of(tag: Tag, *, in_head: bool) -> Iterator[Preload]:
    if tag.name == "link" and _applies(tag.attributes):
        yield from _preload_of_link(tag.attributes)
    elif tag.name == "script":
        yield from _preload_of_script(tag.attributes, in_head=in_head)


def _applies(attributes: dict[str, str]) -> bool:
    return "disabled" not in attributes and attributes.get("media", "").strip().lower() in ("", "all", "screen")


def _preload_of_link(attributes: dict[str, str]) -> Iterator[Preload]:
    rels = set(attributes.get("rel", "").lower().split())
    destination = attributes.get("as", "").strip().lower()
    if "preload" in rels and destination in _DESTINATIONS:
        yield from _preload(attributes, "href", "preload", destination)
    elif "modulepreload" in rels:
        yield from _preload(attributes, "href", "modulepreload", destination)
    elif "stylesheet" in rels and "alternate" not in rels:
        yield from _preload(attributes, "href", "preload", "style")


def _preload_of_script(attributes: dict[str, str], *, in_head: bool) -> Iterator[Preload]:
    kind = attributes.get("type", "").strip().lower()
    if kind == "module":
        yield from _preload({**attributes, "type": ""}, "src", "modulepreload", "")
    elif kind in _CLASSIC and in_head and not attributes.keys() & {"async", "defer", "nomodule"}:
        yield from _preload({**attributes, "type": ""}, "src", "preload", "script")


def _preload(attributes: dict[str, str], name: str, rel: str, destination: str) -> Iterator[Preload]:
    url = clean_url(attributes.get(name, ""))
    if not is_local(url):
        return
    crossorigin = attributes.get("crossorigin")
    if crossorigin is not None:  # an invalid value means anonymous, as none does
        crossorigin = "use-credentials" if crossorigin.lower() == "use-credentials" else ""
    carried = {one: attributes.get(one, "") for one in _CARRIED}
    yield Preload(url, rel, destination, crossorigin, **carried)

r"""The bytes of a file → what publish needs to know of it: references, names, preloads. Pure.

Names in escaped forms (``\u002F``, percent-encoding) are not undone: what stands before or after such an escape may be missed,
and a name that a script puts together from pieces is not seen at all.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from assetserver.semantics.fingerprints import split_name

from .facts import Facts, Reference
from .pages import LIMIT_REFERENCES, examine_page
from .references import clean_url, is_local
from .stylesheets import scan_urls

Kind = Literal["html", "css", "script"]

LIMIT_BYTES = 8 << 20
"""Larger files are not looked into: no page or bundle that people wrote is, and looking costs time."""

LIMIT_NAMES = 20_000
_KINDS: dict[str, Kind] = {
    "html": "html",
    "htm": "html",
    "css": "css",
    "js": "script",
    "mjs": "script",
    "json": "script",
    "webmanifest": "script",
    "svg": "script",
}
_NAME = re.compile(rb"[A-Za-z0-9_.~-]{10,255}+")
"""The shortest is eight characters of hash, a dot, an extension; possessive, or long runs would take quadratic time."""

_SHAPE = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*\.[A-Za-z0-9]{1,8}")


def kind_of(path: str) -> Kind | None:
    """Return what kind of text a file is, by its extension; None for those that are not looked into."""
    return _KINDS.get(path.rpartition("/")[2].rpartition(".")[2].lower())


def examine(kind: Kind, content: bytes) -> Facts:
    """Return what ``content`` says of other files; nothing if it is larger than ``LIMIT_BYTES``.

    Never raises, and takes time linear in the size. At most 20,000 references and 20,000 names are listed.
    """
    if len(content) > LIMIT_BYTES:
        return Facts()
    facts = Facts()
    if kind == "html":
        facts = examine_page(content.decode("utf-8-sig", "replace"))
    elif kind == "css":
        facts = Facts(_references_of_css(content.decode("utf-8-sig", "replace")))
    return msgspec.structs.replace(facts, names=_names_in(content))


def _names_in(content: bytes) -> tuple[str, ...]:
    names: set[str] = set()
    seen: set[bytes] = set()
    for match in _NAME.finditer(content):
        token = match[0]
        if token in seen:
            continue
        seen.add(token)
        name = token.decode().rstrip(".")
        if _SHAPE.fullmatch(name) and split_name(name):
            names.add(name)
            if len(names) == LIMIT_NAMES:
                break
    return tuple(sorted(names))


def _references_of_css(text: str) -> tuple[Reference, ...]:
    references: list[Reference] = []
    line, line_at = 1, 0
    for written, at in scan_urls(text):
        url = clean_url(written)
        if not is_local(url):
            continue
        line += text.count("\n", line_at, at)
        line_at = at
        references.append(Reference(url, line))
        if len(references) == LIMIT_REFERENCES:
            break
    return tuple(references)

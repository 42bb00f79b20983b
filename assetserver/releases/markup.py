"""HTML text → its start tags, in one pass. Pure.

A tokenizer for looking at pages, not a parser: it knows comments, attributes, and elements whose content is text, and builds no
tree. Not known: ``<!--<script>`` inside a script (double escaping), CDATA in SVG.
Source: the HTML standard, section 13.2.5 (tokenization).

Laws:
- Any text is taken, nothing raises, and time is linear: what is not closed runs to the end of the text, as the standard has it,
  so nothing is looked for twice; every repetition in an expression is possessive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple

_SPACE = r" \t\n\f\r"
_OPENING = re.compile(rf"<(?:(/?[A-Za-z][^{_SPACE}/>]*+)|(!--)|[!?/])")
_COMMENT_END = re.compile(r"--!?>")
_ATTRIBUTE = re.compile(
    rf"""[{_SPACE}/]*+([^{_SPACE}/>][^{_SPACE}/>=]*+)"""
    rf"""(?:[{_SPACE}]*+=[{_SPACE}]*+("[^"]*+"?+|'[^']*+'?+|[^{_SPACE}>"'][^{_SPACE}>]*+)?+)?+"""
)
_GAP = re.compile(rf"[{_SPACE}/]*+")
_TEXT_END = {
    name: re.compile(rf"</{name}(?=[{_SPACE}/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
_FOREIGN = ("svg", "math")
LIMIT_VALUE = 1 << 16
"""Longest attribute value that is read, in characters; longer ones are data, not URLs."""


class Tag(NamedTuple):
    """A tag: its name in lower case ("/head" for an end tag), where it begins, its attributes, and its content if that is text.

    Attributes without a value are "". Of two with one name the first counts.
    """

    name: str
    at: int
    attributes: dict[str, str]
    content_at: int
    content: str


def scan_tags(text: str, wanted: frozenset[str]) -> Iterator[Tag]:
    """Yield the tags of ``text`` in order, with those attributes that are ``wanted``. Never raises; linear in time."""
    at = 0
    foreign = 0
    while opening := _OPENING.search(text, at):
        name = opening[1]
        if name is None:
            at = _skip_comment(text, opening)
            continue
        name = name.lower()
        attributes, end = _read_attributes(text, opening.end(), wanted)
        at = end + 1
        if text[end : end + 1] != ">":
            return  # the file ends inside a tag: the standard drops it
        closed = text[end - 1] == "/"
        foreign = max(0, foreign + _depth_of(name, closed=closed))
        content = ""
        if name in _TEXT_END and not (closed and foreign > 0):
            closing = _TEXT_END[name].search(text, at)
            content = text[at : closing.start() if closing else len(text)]
        yield Tag(name, opening.start(), attributes, at, content)
        at += len(content)


def _skip_comment(text: str, opening: re.Match[str]) -> int:
    """Return where a comment or declaration ends: the end of the text if nothing closes it."""
    if opening[2] is None:
        end = text.find(">", opening.start())
        return end + 1 if end >= 0 else len(text)
    closing = _COMMENT_END.search(text, opening.start() + 2)
    return closing.end() if closing else len(text)


def _depth_of(name: str, *, closed: bool) -> int:
    if name in _FOREIGN and not closed:
        return 1
    return -1 if name[:1] == "/" and name[1:] in _FOREIGN else 0


def _read_attributes(text: str, at: int, wanted: frozenset[str]) -> tuple[dict[str, str], int]:
    """Return the wanted attributes of the tag whose name ends at ``at``, and where its ">" should be."""
    found: dict[str, str] = {}
    match = _ATTRIBUTE.match(text, at)
    while match:
        at = match.end()
        name = match[1].lower()
        if name in wanted and name not in found:
            found[name] = _value_of(match[2] or "")
        match = _ATTRIBUTE.match(text, at)
    gap = _GAP.match(text, at)
    return found, gap.end() if gap else at


def _value_of(written: str) -> str:
    if len(written) > LIMIT_VALUE:
        return ""
    value = written[1:].removesuffix(written[0]) if written[:1] in ("'", '"') else written
    if "&" not in value:
        return value
    try:
        return unescape(value)
    except ValueError:  # "&#" and more digits than Python converts
        return ""

"""Entity tags: parse, format, compare. Source: RFC 9110 §8.8.3, §13.1.1, §13.1.2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .fields import LIMIT_BYTES, OWS

_MEMBER = re.compile(r'(?:[^",]|"[^"]*"?)+')
"""A list member: a backslash inside the quotes is a character like any other, it escapes nothing (RFC 9110 §8.8.3)."""

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
"""``entity-tag = [ %s"W/" ] opaque-tag``; the weakness indicator is case-sensitive."""


@dataclass(frozen=True, slots=True)
class ETag:
    """An entity tag; ``opaque`` is what stands between the quotes."""

    opaque: str
    weak: bool = False

    def __str__(self) -> str:
        """Return the field value."""
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'


ETagList = tuple[ETag, ...] | Literal["*"]


def parse_etag(text: str) -> ETag | None:
    """Return the entity tag that ``text`` is, or None."""
    match = _ETAG.fullmatch(text)
    return match and ETag(match[2], weak=match[1] is not None)


def parse_etag_list(text: str) -> ETagList:
    """Return the tags of an ``If-Match`` or ``If-None-Match`` value.

    Malformed members are dropped; a value with none left, or one longer than ``fields.LIMIT_BYTES``, is the empty list, which
    matches nothing: ``If-Match`` then fails and ``If-None-Match`` lets the full response through, the safe side of both.
    """
    if len(text) > LIMIT_BYTES:
        return ()
    if text.strip(OWS) == "*":
        return "*"
    return tuple(tag for member in _MEMBER.findall(text) if (tag := parse_etag(member.strip(OWS))))


def strong_match(tags: Iterable[ETag], current: ETag | None) -> bool:
    """Tell whether a tag equals ``current`` and both are strong (RFC 9110 §8.8.3.2)."""
    return current is not None and not current.weak and any(tag == current for tag in tags)


def weak_match(tags: Iterable[ETag], current: ETag | None) -> bool:
    """Tell whether a tag has the opaque part of ``current``, weak or not (RFC 9110 §8.8.3.2)."""
    return current is not None and any(tag.opaque == current.opaque for tag in tags)

"""Field values: lists with quoted commas, weights, and the small part of Structured Fields that an origin reads.

Decides how the text of a field becomes members and weights; does not know what any single field means.
Source: RFC 9110 §5.5, §5.6, §12.4.2; RFC 9651.

Laws:
- Every function takes any string, never raises, and runs in time linear in its length.
- A value longer than ``LIMIT_BYTES`` is malformed: Uvicorn with httptools accepts a field of 16 MiB (measured 2026-11-22),
  and no legitimate value of the fields read here comes near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LIMIT_BYTES = 16 * 1024
"""Longest field value that is read at all."""

OWS = " \t"
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
"""One list member: anything but commas, and quoted strings whatever they hold. An unclosed quote runs to the end."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
"""``qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`` (RFC 9110 §12.4.2)."""

_INTEGER_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=([0-9]{1,15})")


def parse_list(text: str) -> Iterator[str]:
    """Yield the members of ``#element``: split at commas outside quotes, trimmed, empty ones dropped (RFC 9110 §5.6.1.2)."""
    if len(text) > LIMIT_BYTES:
        return
    for match in _MEMBER.finditer(text):
        if member := match[0].strip(OWS):
            yield member


def is_token(text: str) -> bool:
    """Tell whether ``text`` is a ``token`` (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def parse_weight(text: str) -> int | None:
    """Return a ``qvalue`` in thousandths, 0 to 1000, or None if it is not one: ``0.5`` → 500, ``.5`` → None."""
    if _WEIGHT.fullmatch(text) is None:
        return None
    return round(float(text) * 1000)


def parse_weighted_list(text: str) -> Iterator[tuple[str, int]]:
    """Yield ``(lower-case token, weight in thousandths)`` for each well-formed member of an ``Accept-…`` list.

    A member with a malformed token or weight is dropped, the others stand. Parameters other than ``q`` are not in the
    grammar of ``Accept-Encoding`` and make a member malformed.
    """
    for member in parse_list(text):
        token, separator, parameter = member.partition(";")
        token = token.rstrip(OWS)
        if not is_token(token):
            continue
        weight: int | None = 1000
        if separator:
            name, _, value = parameter.strip(OWS).partition("=")
            weight = parse_weight(value) if name in ("q", "Q") else None
        if weight is not None:
            yield token.lower(), weight


def parse_integer_dictionary(text: str) -> dict[str, int]:
    """Return the integer members of a Structured Fields dictionary (RFC 9651 §3.2), the last of a key wins.

    Anything that is not ``key=integer`` voids the whole field, as the specification demands: an empty dictionary.
    """
    result: dict[str, int] = {}
    for member in parse_list(text):
        match = _INTEGER_MEMBER.fullmatch(member)
        if match is None:
            return {}
        result[match[1]] = int(match[2])
    return result

"""A value with parameters, as in ``Content-Type`` and ``Content-Disposition``, and the file name that the latter gives.

Source: RFC 9110 §5.6.4 (quoted strings), §5.6.6 (parameters); RFC 6266 §4 and RFC 8187 §3.2 (``filename*``); RFC 7578 §4.2
(form data: raw UTF-8 in ``filename``, never ``filename*``).

Laws:
- Every function takes any string, never raises, and runs in time linear in its length.
- A name is what the client calls a file; nothing here makes it safe to use as one.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .fields import LIMIT_BYTES, OWS, is_token

_PARAMETER = re.compile(r'[ \t]*;[ \t]*(?:([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^";]*))?', re.DOTALL)
"""``OWS ";" OWS [ parameter ]``; a value that is not quoted runs to the next semicolon: names with spaces are sent bare."""

_ESCAPED = re.compile(r'\\(["\\])')
"""What must be escaped in a quoted string, and so is (RFC 9110 §5.6.4). Browsers send any other backslash as itself."""

_EXTENDED = re.compile(r"(?i:(utf-8|iso-8859-1))'[A-Za-z0-9-]*'((?:%[0-9A-Fa-f]{2}|[!#$&+.^_`|~0-9A-Za-z-])*)")
"""``ext-value`` (RFC 8187 §3.2.1): charset, language, percent-encoded bytes."""


class Parameterised(NamedTuple):
    """A value in lower case, and its parameters by lower-case name; the first of a name stands."""

    value: str
    parameters: dict[str, str]


def parse_parameterised(text: str) -> Parameterised | None:
    """Return ``value; name=value; …``, or None if that is not what ``text`` is."""
    if len(text) > LIMIT_BYTES:
        return None
    value, _, _ = text.partition(";")
    parameters: dict[str, str] = {}
    position = len(value.rstrip(OWS))
    while position < len(text.rstrip(OWS)):
        match = _PARAMETER.match(text, position)
        if match is None:
            return None
        if match[1] is not None:
            parameters.setdefault(match[1].lower(), unquote_string(match[2]))
        position = match.end()
    return Parameterised(value.strip(OWS).lower(), parameters)


def parse_media_type(text: str) -> Parameterised | None:
    """Return a ``Content-Type`` value (RFC 9110 §8.3.1), or None if it is none."""
    found = parse_parameterised(text)
    if found is None:
        return None
    kind, slash, subtype = found.value.partition("/")
    return found if slash and is_token(kind) and is_token(subtype) else None


def parse_filename(text: str) -> str | None:
    """Return the file name of a ``Content-Disposition`` value, or None if it gives none.

    ``filename*`` wins where it can be decoded (RFC 6266 §4.3). In ``filename``, what is UTF-8 read as Latin-1 becomes what was
    meant: that is what clients send, whatever the specification says.
    """
    found = parse_parameterised(text)
    if found is None:
        return None
    extended = parse_extended_value(found.parameters.get("filename*", ""))
    return found.parameters.get("filename") and decode_utf8(found.parameters["filename"]) if extended is None else extended


def parse_extended_value(text: str) -> str | None:
    """Return the text of an ``ext-value`` such as ``UTF-8''na%C3%AFve.txt`` (RFC 8187), or None if it is none."""
    match = _EXTENDED.fullmatch(text)
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return None


def decode_utf8(text: str) -> str:
    """Return the UTF-8 text whose bytes were read as Latin-1, or ``text`` as it is if they are not that."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def unquote_string(text: str) -> str:
    """Return the text of a token or a quoted string."""
    return _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text.rstrip(OWS)

"""Names that clients give to files: what one is, and how one is made of what is none.

A name is one path component, in NFC, of at most 255 bytes in UTF-8, without what would make it look like another: control
and formatting characters (bidi overrides turn ``exe.gpj`` into ``jpg.exe``), blanks around it. It is shown and sent,
and never opened: what is stored is named by its content. U+FFFD is what bytes of a URL become that are no UTF-8: any of them
would be the same name.
"""

from __future__ import annotations

import unicodedata

from assetserver.errors import BadRequestError

LIMIT_BYTES = 255
NAMELESS = "upload"
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format, surrogate, private, unassigned; line and paragraph separators."""

_REPLACEMENT = "\ufffd"
"""What a decoder puts where bytes are no UTF-8."""

_JOINERS = "\u200c\u200d"
"""Format characters that words of Persian, Hindi and emoji need."""


def parse_name(text: str) -> str:
    """Return ``text`` in NFC. Raises ``BadRequestError`` if it is not a name."""
    name = unicodedata.normalize("NFC", text)
    if not name or name in (".", "..") or name != name.strip():
        raise BadRequestError(f"{_show(text)} cannot name a file")
    if "/" in name or "\\" in name or _has_forbidden(name):
        raise BadRequestError(f"the name {_show(text)} has a slash, a sign that is not shown, or bytes that are no UTF-8")
    if len(name.encode()) > LIMIT_BYTES:
        raise BadRequestError(f"the name {_show(text)} is longer than {LIMIT_BYTES} bytes")
    return name


def clean_name(text: str) -> str:
    """Return a name made of ``text``: its last component, without what a name must not have, and never empty.

    What is too long loses its middle: the end says what it is.
    """
    last = unicodedata.normalize("NFC", text.replace("\\", "/")).rpartition("/")[2]
    name = _shorten("".join(sign for sign in last if not _is_forbidden(sign)).strip()).strip()
    return NAMELESS if name in ("", ".", "..") else name


def _has_forbidden(name: str) -> bool:
    return not (name.isascii() and name.isprintable()) and any(map(_is_forbidden, name))


def _is_forbidden(sign: str) -> bool:
    return sign == _REPLACEMENT or (unicodedata.category(sign) in _FORBIDDEN and sign not in _JOINERS)


def _shorten(name: str) -> str:
    content = name.encode()
    if len(content) <= LIMIT_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = (dot + suffix).encode()
    if not stem or len(end) > LIMIT_BYTES // 2:
        return content[:LIMIT_BYTES].decode(errors="ignore")
    return stem.encode()[: LIMIT_BYTES - len(end)].decode(errors="ignore") + dot + suffix


def _show(text: str) -> str:
    return ascii(text[:80])

"""CSS text → the URLs in it: ``url(…)`` and ``@import "…"``, outside comments and strings. Pure.

Not known: bare strings in ``image-set()``, which bundlers write as ``url()``.
Source: CSS Syntax Level 3, section 4 (tokenization).

Laws:
- Any text is taken, nothing raises, and time is linear: a comment that is not closed runs to the end, a string to its line's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = r" \t\n\f\r"
_START = re.compile(r"""/\*|["']|\\.|(?<![\w-])url\(|@import(?![\w-])""", re.IGNORECASE | re.DOTALL)
_REST = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\.)*+", re.DOTALL) for quote in "'\""}
_BARE = re.compile(rf"(?:[^\"'()\\{_SPACE}]|\\.)*+", re.DOTALL)
_GAP = re.compile(rf"(?:[{_SPACE}]|/\*(?:[^*]|\*(?!/))*+(?:\*/)?+)*+")
_BLANK = re.compile(rf"[{_SPACE}]*+")
_ESCAPE = re.compile(rf"\\(?:([0-9A-Fa-f]{{1,6}})[{_SPACE}]?|(.))", re.DOTALL)
_LAST_SCALAR = 0x10FFFF
LIMIT_URL = 4096
"""Longest URL that is read, in characters; longer ones are data."""


def scan_urls(text: str) -> Iterator[tuple[str, int]]:
    """Yield each URL of a style sheet, escapes undone, and where it begins in ``text``. Never raises; linear in time."""
    at = 0
    while start := _START.search(text, at):
        opening = start[0].lower()
        at = start.end()
        if opening == "/*":
            at = _after_comment(text, at)
        elif opening[0] == "\\":
            continue
        elif opening == "url(":
            at = _match_end(_BLANK, text, at)
            end = _end_of_url(text, at)
            yield from _url(text, at, end)
            at = end
        elif opening == "@import":
            at = _match_end(_GAP, text, at)
            end = _end_of_string(text, at)
            yield from _url(text, at, end)
            at = end
        else:
            at = _end_of_string(text, at - 1)


def _after_comment(text: str, at: int) -> int:
    end = text.find("*/", at)
    return end + 2 if end >= 0 else len(text)


def _match_end(expression: re.Pattern[str], text: str, at: int) -> int:
    match = expression.match(text, at)
    return match.end() if match else at


def _end_of_string(text: str, at: int) -> int:
    """Return where the string that begins at ``at`` ends, before its closing quote's successor; ``at`` if none begins."""
    quote = text[at : at + 1]
    if quote not in _REST:
        return at
    end = _match_end(_REST[quote], text, at + 1)
    return end + 1 if text[end : end + 1] == quote else end


def _end_of_url(text: str, at: int) -> int:
    if text[at : at + 1] in _REST:
        return _end_of_string(text, at)
    end = _match_end(_BARE, text, at)
    # Anything but blanks and ")" makes it a bad url, which names nothing.
    behind = _match_end(_BLANK, text, end)
    return end if text[behind : behind + 1] in (")", "") else at


def _url(text: str, at: int, end: int) -> Iterator[tuple[str, int]]:
    written = text[at:end] if end - at <= LIMIT_URL else ""
    if written[:1] in _REST:
        written = written[1:].removesuffix(written[0])
    if written:
        yield _ESCAPE.sub(_unescape, written) if "\\" in written else written, at


def _unescape(match: re.Match[str]) -> str:
    if match[1] is None:
        return "" if match[2] == "\n" else match[2]
    code = int(match[1], 16)
    is_scalar = 0 < code <= _LAST_SCALAR and not 0xD800 <= code <= 0xDFFF  # noqa: PLR2004 - surrogates
    return chr(code) if is_scalar else "\N{REPLACEMENT CHARACTER}"

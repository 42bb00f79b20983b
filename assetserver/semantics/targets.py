"""Request targets → canonical asset paths: one URL for one file.

Decides which spelling of a path is the canonical one, which spellings lead there by redirect, and which are refused.
Source: RFC 3986 §2.3, §3.3, §6.2.2; RFC 9110 §4.2.3.

Laws:
- Decoding happens exactly once; what is still encoded afterwards is a literal name.
- ``AssetPath`` is decoded, starts without "/", holds no empty, "." or ".." segment, and ends in "/" only for a folder.
  Two equal paths are equal strings.
- Dot segments are refused, not resolved: no browser or CDN sends them, only those who look for a hole.
- A canonical URL never begins with "//": as a ``Location`` that would be another host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType
from urllib.parse import quote, unquote_to_bytes

AssetPath = NewType("AssetPath", str)
"""Canonical path inside a release or folder: ``""`` is its root, ``"docs/"`` a folder, ``"docs/a b.css"`` a file."""

LIMIT_BYTES = 4096
"""Longest path, as sent and in its canonical spelling. Linux's PATH_MAX; longer names cannot exist."""

SEGMENT_LIMIT_BYTES = 255
"""Longest name on every file system that matters (NAME_MAX)."""

_PCHAR_SAFE = "!$&'()*+,;=:@-._~"
"""What a path segment may hold unencoded: unreserved, sub-delims, ":" and "@" (RFC 3986 §3.3)."""

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
_REWRITTEN = re.compile(r"%[0-9A-Fa-f]{2}|[^!-~]|[\"<>\[\]^`{|}]")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Target:
    """A path that names something: where it is (``path``) and how its one URL is spelled (``canonical``)."""

    path: AssetPath
    canonical: str


@dataclass(frozen=True, slots=True)
class RefusedTarget:
    """A path that can name nothing, and why, in words for the log."""

    reason: str


def parse_target(raw: str) -> Target | RefusedTarget:
    """Return where ``raw`` (the path of a request target as sent, without query) leads.

    Never raises. Redirect to ``canonical`` unless ``is_spelled``.
    """
    if reason := _refusal(raw):
        return RefusedTarget(reason)
    try:
        decoded = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeError:
        return RefusedTarget("not UTF-8")
    segments = [segment for segment in decoded.split("/") if segment]
    if reason := _refusal_of_names(segments):
        return RefusedTarget(reason)
    path = "/".join(segments)
    if segments and decoded.endswith("/"):
        path += "/"
    canonical = format_target(path)
    if len(canonical) > LIMIT_BYTES:
        return RefusedTarget("path too long")
    return Target(AssetPath(path), canonical)


def format_target(path: str) -> str:
    """Return the canonical URL path of a decoded ``path`` (relative to the root): ``"a b.css"`` → ``"/a%20b.css"``."""
    return "/" + quote(path, safe=_PCHAR_SAFE + "/")


def is_spelled(raw: str, canonical: str) -> bool:
    """Tell whether ``raw`` is the ``canonical`` URL path, but for what proxies on the way rewrite.

    Those are the case of hexadecimal digits (Apache writes ``%c3``), and characters that the grammar wants encoded and nginx
    leaves raw, such as ``[``: to redirect them would be a loop.
    """
    return raw == canonical or _REWRITTEN.sub(_restore, raw) == canonical


def strip_prefix(raw: str, prefix: str) -> str | None:
    """Return what follows the decoded mount ``prefix`` in ``raw``, or None if ``raw`` spells the prefix with other segments.

    ``strip_prefix("/st%61tic/a", "/static")`` is ``"/a"``: the prefix has as many segments encoded as decoded, unless an
    encoded slash hides one.
    """
    if not prefix:
        return raw
    parts = raw.split("/")
    count = prefix.count("/") + 1
    head = "/".join(parts[:count])
    if _ENCODED_SLASH.search(head) or unquote_to_bytes(head) != prefix.encode("utf-8", "surrogateescape"):
        return None
    return "/" + "/".join(parts[count:])


def _restore(match: re.Match[str]) -> str:
    return match[0].upper() if match[0].startswith("%") else quote(match[0])


def _refusal(raw: str) -> str:
    if len(raw) > LIMIT_BYTES:
        return "path too long"
    if not raw.startswith("/"):
        return "not a path"
    if _BROKEN_ESCAPE.search(raw):
        return "broken percent escape"
    if _ENCODED_SLASH.search(raw):
        return "encoded slash"
    return ""


def _refusal_of_names(segments: list[str]) -> str:
    for segment in segments:
        if _FORBIDDEN.search(segment):
            return "control character or backslash"
        if segment in (".", ".."):
            return "dot segment"
        if len(segment.encode()) > SEGMENT_LIMIT_BYTES:
            return "segment too long"
    return ""

"""How bytes that strangers wrote are served: under which type, shown or saved, and with what forbidden.

Shown are types that cannot run. An SVG can: it is shown with a policy that forbids scripts and puts it in an origin of its own.
All else is saved. What pages could load as script or style has another type, too: a page with a hole could be made to use it.
``nosniff`` goes with all of it, always: without, HTML that has no type runs (tried in Chromium 156), and with it alone SVG and
HTML still do.
Source: the Content Security Policy Level 3 specification, §6.5 (sandbox); the MIME Sniffing standard; RFC 6266.

Laws:
- The type is the one found in the content when it was uploaded; the name decides nothing.
- A type that is not known to be harmless is not shown.
"""

from __future__ import annotations

from typing import NamedTuple

from .disposition import format_disposition
from .mediatypes import DEFAULT
from .representation import Field

SVG = "image/svg+xml"
SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox"
STRICT_POLICY = "default-src 'none'; sandbox"

_SHOWN = frozenset(
    {
        "text/plain",
        *("image/apng", "image/avif", "image/bmp", "image/gif", "image/heic", "image/jpeg", "image/jxl", "image/png"),
        *("image/tiff", "image/vnd.microsoft.icon", "image/webp", "image/x-icon"),
        *("audio/aac", "audio/flac", "audio/midi", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm"),
        *("video/mp4", "video/mpeg", "video/ogg", "video/quicktime", "video/webm", "video/x-matroska"),
        *("font/collection", "font/otf", "font/ttf", "font/woff", "font/woff2"),
    }
)
_PLAYED = frozenset({"audio", "video"})
"""Families that a browser shows in a page of its own, which a policy without sources would break."""

_PARTS_OF_PAGES = frozenset(
    {
        *("text/html", "application/xhtml+xml", "text/xml", "application/xml", "text/css", "application/wasm"),
        *("text/javascript", "application/javascript", "application/x-javascript", "application/ecmascript"),
        *("text/ecmascript", "text/jscript", "text/livescript", "text/x-javascript", "text/x-ecmascript"),
        *("application/x-shockwave-flash", "application/manifest+json", "application/x-xpinstall", "text/cache-manifest"),
        *("multipart/x-mixed-replace", "message/rfc822", "multipart/related"),
    }
)


class Serving(NamedTuple):
    """How to serve a file: its ``Content-Type``, and the fields that keep it from doing harm."""

    media_type: str
    fields: tuple[Field, ...]


def select_serving(media_type: str, name: str) -> Serving:
    """Return how to serve a file called ``name`` whose content is of ``media_type`` (parameters may follow)."""
    bare = media_type.partition(";")[0].strip().lower()
    is_shown = bare in _SHOWN or bare == SVG
    fields = [
        (b"content-disposition", format_disposition("inline" if is_shown else "attachment", name).encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    if policy := _select_policy(bare):
        fields.append((b"content-security-policy", policy.encode("ascii")))
    return Serving(_served_type(bare, media_type), tuple(fields))


def _select_policy(bare: str) -> str:
    if bare == SVG:
        return SVG_POLICY
    return "" if bare in _SHOWN and bare.partition("/")[0] in _PLAYED else STRICT_POLICY


def _served_type(bare: str, media_type: str) -> str:
    if bare in _PARTS_OF_PAGES or (bare.endswith("+xml") and bare != SVG) or not _is_type(bare):
        return DEFAULT
    if bare == "text/plain" and "charset" not in media_type.lower():
        return "text/plain; charset=utf-8"
    return media_type if media_type.isascii() and media_type.isprintable() else bare


def _is_type(bare: str) -> bool:
    family, slash, kind = bare.partition("/")
    return (
        bool(slash and family and kind) and all(one.isalnum() or one in "!#$&^_.+-" for one in family + kind) and bare.isascii()
    )

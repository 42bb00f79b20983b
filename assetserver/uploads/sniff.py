"""The media type of bytes, by what they are. A name and a declared type are claims of whoever sent them.

Only a few declared types are believed, and only of what is text: those that tell harmless text apart and that no content
shows (``text/csv``). Everything that a browser would run is called by its own name, so that whoever serves it knows.
Source: WHATWG MIME Sniffing §6, §7; the registrations of each format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEAD_BYTES = 4096
"""How much of a file is looked at."""

UNKNOWN = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\1\0", "image/vnd.microsoft.icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"%PDF-", "application/pdf"),
    (b"PK\3\4", "application/zip"),
    (b"PK\5\6", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"wOF2", "font/woff2"),
    (b"wOFF", "font/woff"),
    (b"OTTO", "font/otf"),
    (b"\0\1\0\0", "font/ttf"),
    (b"ttcf", "font/collection"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\0asm", "application/wasm"),
    (b"glTF", "model/gltf-binary"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
)
_BEGINS = re.compile(b"|".join(re.escape(magic) for magic, _ in _MAGIC))
_TYPES = dict(_MAGIC)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/vnd.avi"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"3gp4": "video/3gpp",
    b"3gp5": "video/3gpp",
}
"""Major brand of an ISO base media file; any other is MP4."""

_MPEG_AUDIO = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_MARKUP = re.compile(
    rb"<(?:!doctype\s+html|(?:html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|img|link|meta|form|svg"
    rb"|object|embed|base|template|video|audio|math|input|button)[\s/>])",
    re.IGNORECASE,
)
_SKIP = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<!--.*?-->|<\?.*?\?>|<!DOCTYPE\s+svg[^>]*>)*", re.DOTALL | re.IGNORECASE)
_SVG = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?svg[\s/>]")
_CONTROLS = bytes([*range(9), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])
_HARMLESS_TEXT = frozenset(
    {
        "text/css",
        "text/csv",
        "text/calendar",
        "text/markdown",
        "text/tab-separated-values",
        "text/vcard",
        "text/vtt",
        "application/json",
    }
)


def sniff(head: bytes, declared: str = "") -> str:
    """Return the media type of a file that begins with ``head``, ``HEAD_BYTES`` of it or all. Never raises.

    ``declared`` decides only between harmless kinds of text.
    """
    if begin := _BEGINS.match(head):
        return _TYPES[begin[0]]
    return _sniff_containers(head) or _sniff_text(head, declared) or UNKNOWN


def is_among(media_type: str, patterns: Iterable[str]) -> bool:
    """Tell whether a media type is one of ``patterns``: ``image/png``, ``image/*`` or ``*/*``; parameters do not count."""
    essence = media_type.partition(";")[0].strip().lower()
    whole = essence.partition("/")[0] + "/*"
    return any(pattern.strip().lower() in (essence, whole, "*/*") for pattern in patterns)


def _sniff_containers(head: bytes) -> str:
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # two letters alone may begin a text
        return "image/bmp"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"OggS":
        return "video/ogg" if b"theora" in head[:256] else "audio/ogg"
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return "audio/mpeg" if _MPEG_AUDIO.match(head) else ""


def _sniff_text(head: bytes, declared: str) -> str:
    start = _SKIP.match(head)
    rest = head[start.end() :] if start else head
    if _SVG.match(rest):
        return "image/svg+xml"
    if _MARKUP.match(rest):
        return "text/html; charset=utf-8"
    if not head or len(head.translate(None, _CONTROLS)) < len(head) or not _is_utf_8(head):
        return ""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        return "text/xml; charset=utf-8"
    essence = declared.partition(";")[0].strip().lower()
    if essence not in _HARMLESS_TEXT:
        return TEXT
    return essence if essence == "application/json" else f"{essence}; charset=utf-8"


def _is_utf_8(head: bytes) -> bool:
    """A sign may be cut at the end of what is looked at."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) >= HEAD_BYTES and error.start > len(head) - 4
    return True

"""Media type by file name: one frozen table, the same on every machine, and which types are worth compressing.

The operating system's table is not asked: on Python 3.11 without /etc/mime.types it knows neither ``.woff2`` nor ``.webp``,
and with Debian's it takes ``.ts`` for a translation file (measured 2026-11-22).
Source: RFC 9110 §8.3, RFC 9239 (JavaScript), the IANA registry.
"""

from __future__ import annotations

DEFAULT = "application/octet-stream"

_UTF_8 = "; charset=utf-8"

_TEXT = {
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html htm",
    "text/javascript": "js mjs cjs",
    "text/markdown": "md markdown",
    "text/plain": "txt text log conf ini toml c h py rs go ts tsx jsx scss less sh diff patch",
    "text/tab-separated-values": "tsv",
    "text/vcard": "vcf",
    "text/vtt": "vtt",
    "text/xml": "xml xsl xsd",
}
"""Types that need a charset: without one, old clients fall back to Latin-1."""

_COMPRESSIBLE = {
    "application/atom+xml": "atom",
    "application/geo+json": "geojson",
    "application/graphql": "graphql gql",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/manifest+json": "webmanifest",
    "application/rss+xml": "rss",
    "application/rtf": "rtf",
    "application/vnd.ms-fontobject": "eot",
    "application/wasm": "wasm",
    "application/wat": "wat",
    "application/xhtml+xml": "xhtml xht",
    "application/yaml": "yaml yml",
    "font/collection": "ttc",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "image/bmp": "bmp",
    "image/svg+xml": "svg",
    "image/vnd.microsoft.icon": "ico cur",
    "model/gltf+json": "gltf",
    "model/obj": "obj",
}

_COMPRESSED = {
    "application/epub+zip": "epub",
    "application/gzip": "gz tgz",
    "application/java-archive": "jar",
    "application/octet-stream": "bin exe dll dmg iso img deb msi dat br pck",
    "application/ogg": "ogx",
    "application/pdf": "pdf",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.rar": "rar",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/zip": "zip",
    "application/zstd": "zst",
    "application/dash+xml": "mpd",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg oga opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg jpeg jfif",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "model/gltf-binary": "glb",
    "model/vnd.usdz+zip": "usdz",
    "video/mp2t": "m2ts mts",
    "video/mp4": "mp4 m4v",
    "video/mpeg": "mpg mpeg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}

_BY_EXTENSION = {
    extension: media_type + suffix
    for table, suffix in ((_TEXT, _UTF_8), (_COMPRESSIBLE, ""), (_COMPRESSED, ""))
    for media_type, extensions in table.items()
    for extension in extensions.split()
}

_WORTH_COMPRESSING = frozenset(
    [media_type + _UTF_8 for media_type in _TEXT]
    + list(_COMPRESSIBLE)
    + ["application/dash+xml", "application/vnd.apple.mpegurl", "application/x-tar"]
)

_NAMES = {"license": "text/plain", "readme": "text/plain", "cname": "text/plain", "authors": "text/plain"}
"""Well-known names without an extension."""


def media_type_of(name: str) -> str:
    """Return the ``Content-Type`` value for a file name or path; ``application/octet-stream`` where nothing is known."""
    last = name.rpartition("/")[2].lower()
    stem, dot, extension = last.rpartition(".")
    if dot and stem:
        return _BY_EXTENSION.get(extension, DEFAULT)
    return _NAMES[last] + _UTF_8 if last in _NAMES else DEFAULT


def has_known_extension(name: str) -> bool:
    """Tell whether the last segment of a path ends in an extension of the table: such a URL asks for a file."""
    stem, dot, extension = name.rpartition("/")[2].lower().rpartition(".")
    return bool(dot and stem) and extension in _BY_EXTENSION


def is_compressible(media_type: str) -> bool:
    """Tell whether a general-purpose coding makes files of this type smaller; ``media_type`` as ``media_type_of`` gives it."""
    return media_type in _WORTH_COMPRESSING

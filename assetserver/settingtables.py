"""What may be set: every table, key, default, limit and form, with one line of text each.

``settings`` reads values for them; help and manual are made from here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

_MIB, _GIB, _TIB = 1 << 20, 1 << 30, 1 << 40
_LAST_PORT = 65535


class Form(NamedTuple):
    """What a text must be, beyond a string; a path is resolved, a name is made lower case."""

    must: str
    accepts: Callable[[str], object]
    is_path: bool = False
    is_name: bool = False


def _matches(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).fullmatch


def _is_network(text: str) -> bool:
    try:
        return bool(ipaddress.ip_network(text))
    except ValueError:
        return False


def _is_inside(path: str) -> bool:
    return not path or ("\0" not in path and not {"", ".", ".."} & set(path.split("/")))


def _is_prefix(text: str) -> bool:
    clean = text.isprintable() and not set("?#%{}") & set(text)
    return text == "/" or (len(text) > 1 and text[0] == "/" and clean and _is_inside(text[1:]))


def _is_public(text: str) -> bool:
    found = re.fullmatch(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]+))?", text)
    return not text or (found is not None and 0 < int(found[1] or 1) <= _LAST_PORT)


def _is_database(text: str) -> bool:
    if text == "sqlite" or re.fullmatch(r"sqlite:///[^\0]+", text):
        return True
    try:
        found = urlsplit(text)
        return (
            found.scheme == "postgresql"
            and found.port != 0
            and len(found.path) > 1
            and re.fullmatch("[!-~]+", text) is not None
        )
    except ValueError:  # brackets or a port that are none
        return False


def _is_shared_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and 24 <= len(base64.b64decode(text[6:], validate=True)) <= 64  # noqa: PLR2004 - bytes
    except ValueError:
        return False


_ANY = Form("", lambda _: True)
_ADDRESS = Form('be a host name or IP address, such as "127.0.0.1"', _matches(r"[!-.0-~]+"))
_DIRECTORY = Form("name a folder", _matches(r"[^\0]+"), is_path=True)
_FIELD = Form('be a field value such as "max-age=3600"', _matches(r"([!-~]([ -~]*[!-~])?)?"))
_EVENTS = Form('be "" or a URL such as "https://example.com/hooks"', _matches(r"(https?://[!-\"$-.0-~]+(/[!-\"$-~]*)?)?"))
_GLOB = Form('be a glob such as "*.html" or "/docs/**"', _matches(r"[^\0]+"))
_HOST = Form("be a host name without port", _matches(r"(?i:[a-z0-9._-]+|\[[0-9a-f:.]+\])?"), is_name=True)
_IMAGE_FORMAT = Form('be "webp" or "avif"', _matches(r"webp|avif"))
_INSIDE = Form('be a path inside the directory, such as "index.html"', _is_inside)
_DATABASE = Form('be "sqlite", "sqlite:///PATH" or "postgresql://USER@HOST/NAME"', _is_database)
_SECRET = Form('be "NAME:SECRET" with a secret of 32 characters or more', _matches(r"[A-Za-z0-9_-]{1,32}:[!-~]{32,}"))
_KEY = Form('be the second line of a .pub file, such as "RWQ…"', _matches(r"RW[0-9A-Za-z+/]{54}"))
_NETWORK = Form('be an IP address or a network such as "10.0.0.0/8"', _is_network)
_ORIGIN = Form(
    'be "", "*" or one lower-case origin such as "https://example.com"',
    _matches(r"(\*|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+)?"),
)
_PUBLIC = Form('be "" or a lower-case origin such as "https://www.example.com", without a path', _is_public)
_OPTIONS = Form('be options such as "width=640,format=webp"', _matches(r"[!-~]+"))
_PATH = Form("be a path without null characters", _matches(r"[^\0]*"), is_path=True)
_PREFIX = Form('start with "/", not end with it, and have no "?", "#", "%", "{", "}", empty, "." or ".." segment', _is_prefix)
_SITE = Form("be lower-case letters, digits, dots and hyphens", _matches(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"))
_SHARED = Form('be "whsec_" and 24 to 64 random bytes in base64', _is_shared_secret)
_TAG = Form("be printable ASCII without space or comma", _matches(r"[!-+\--~]+"))


def _about(description: str, form: Form = _ANY, *, ge: int | None = None, le: int | None = None) -> Meta:
    return Meta(description=description, ge=ge, le=le, extra={"form": form})


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class ServerSettings(Table, frozen=True, kw_only=True):
    """``[server]``: where to listen, and how connections are kept."""

    host: Annotated[str, _about("Address to listen on.", _ADDRESS)] = "127.0.0.1"
    port: Annotated[int, _about("TCP port to listen on; 0 takes any free one.", ge=0, le=_LAST_PORT)] = 8000
    public_url: Annotated[
        str, _about("Where visitors come in, for the URLs that commands print; empty for http://HOST:PORT.", _PUBLIC)
    ] = ""
    uds: Annotated[str, _about("Unix socket to listen on, instead of host and port.", _PATH)] = ""
    fd: Annotated[int, _about("Inherited listening socket, by number; -1 for none.", ge=-1, le=_MIB)] = -1
    workers: Annotated[int, _about("Worker processes.", ge=1, le=64)] = 1
    access_log: Annotated[Literal["combined", "json", "off"], _about("Form of the access log.")] = "combined"
    keep_alive_s: Annotated[int, _about("How long an idle connection is kept open.", ge=1, le=3600)] = 75
    graceful_shutdown_s: Annotated[int, _about("How long a stop waits for running requests.", ge=0, le=3600)] = 30
    connection_limit: Annotated[
        int, _about("Most connections at once, per worker; further ones are answered 503.", ge=1, le=_MIB)
    ] = 16_384
    address_connection_limit: Annotated[
        int,
        _about(
            "Most of them from one address (IPv6: /64); 0 for any. Off for loopback, Unix sockets and trusted_proxies.",
            ge=0,
            le=_MIB,
        ),
    ] = 1024
    minimum_send_bytes_per_s: Annotated[
        int, _about("Who takes an answer more slowly for a minute is cut off; 0 lets everybody.", ge=0, le=_MIB)
    ] = 256
    trusted_proxies: Annotated[tuple[str, ...], _about("Peers whose Forwarded fields are believed.", _NETWORK)] = ()
    request_id: Annotated[bool, _about("Give every request an identifier.")] = True


class MountSettings(Table, frozen=True, kw_only=True):
    """``[[mounts]]``: a folder served live. ``directory`` is absolute once loaded."""

    prefix: Annotated[str, _about("URL path under which the folder is served.", _PREFIX)]
    directory: Annotated[str, _about("Folder to serve.", _DIRECTORY)]
    host: Annotated[str, _about("Host name to answer for; empty for any.", _HOST)] = ""
    cache: Annotated[Literal["default", "immutable"], _about("Immutable declares a versioned prefix.")] = "default"
    html: Annotated[bool, _about("Answer a folder with its index.html, and misses with 404.html.")] = True
    fallback: Annotated[str, _about("HTML file that answers unknown paths of a single-page application.", _INSIDE)] = ""
    clean_urls: Annotated[bool, _about("Answer /about with about.html.")] = False
    listing: Annotated[bool, _about("List folders that have no index.html.")] = False
    follow_symlink: Annotated[bool, _about("Follow symbolic links that leave the folder.")] = False
    dotfiles: Annotated[bool, _about("Serve names that begin with a dot.")] = False
    immutable: Annotated[tuple[str, ...], _about("Globs of fingerprinted names, such as assets/*.", _GLOB)] = ()


class CacheSettings(Table, frozen=True, kw_only=True):
    """``[[cache]]``: the cache policy of the URL paths that match; the first match wins."""

    match: Annotated[str, _about("Glob of URL paths, such as *.html or /docs/**.", _GLOB)]
    browser: Annotated[str, _about("Cache-Control for browsers.", _FIELD)] = ""
    cdn: Annotated[str, _about("Targeted Cache-Control for the CDN.", _FIELD)] = ""
    tags: Annotated[tuple[str, ...], _about("Cache tags by which the CDN can purge.", _TAG)] = ()


class CdnSettings(Table, frozen=True, kw_only=True):
    """``[cdn]``: the CDN in front."""

    profile: Annotated[
        Literal["none", "generic", "cloudflare", "fastly", "varnish", "akamai"], _about("Whose response fields to speak.")
    ] = "none"


class HeadersSettings(Table, frozen=True, kw_only=True):
    """``[headers]``: response fields that every file carries."""

    cors: Annotated[str, _about("Access-Control-Allow-Origin: empty for none, * or one origin.", _ORIGIN)] = "*"
    timing: Annotated[bool, _about("Send Timing-Allow-Origin: *.")] = True
    resource_policy: Annotated[
        Literal["cross-origin", "same-site", "same-origin", ""], _about("Cross-Origin-Resource-Policy; empty for none.")
    ] = "cross-origin"
    nosniff: Annotated[bool, _about("Send X-Content-Type-Options: nosniff.")] = True
    cache_status: Annotated[bool, _about("Send Cache-Status.")] = True


class CompressionSettings(Table, frozen=True, kw_only=True):
    """``[compression]``: compressed forms made on demand."""

    enabled: Annotated[bool, _about("Compress files on demand.")] = True
    minimum_bytes: Annotated[int, _about("Smaller files are not compressed.", ge=0, le=_MIB)] = 256
    limit_bytes: Annotated[int, _about("Larger files are not compressed.", ge=0, le=_GIB)] = 64 * _MIB
    patience_s: Annotated[float, _about("How long a first request waits for its compressed form.", ge=0, le=10)] = 0.25
    threads: Annotated[int, _about("Threads that compress.", ge=1, le=32)] = 2
    cache_directory: Annotated[
        str, _about("Folder of compressed forms; empty for $CACHE_DIRECTORY, else a private temporary one.", _PATH)
    ] = ""
    cache_limit_bytes: Annotated[int, _about("Most bytes of compressed forms kept.", ge=0, le=_TIB)] = _GIB


class MemorySettings(Table, frozen=True, kw_only=True):
    """``[memory]``: file content held in memory, per worker."""

    limit_bytes: Annotated[int, _about("Most bytes held.", ge=0, le=64 * _GIB)] = 64 * _MIB
    file_limit_bytes: Annotated[int, _about("Larger files are sent from disk by the kernel.", ge=0, le=_GIB)] = _MIB // 4
    hot_limit_bytes: Annotated[int, _about("Most bytes of rendered answers held.", ge=0, le=64 * _GIB)] = 256 * _MIB


class DataSettings(Table, frozen=True, kw_only=True):
    """Where releases are kept."""

    path: Annotated[
        str, _about("Folder of releases; empty takes $STATE_DIRECTORY, or else data in the working directory.", _PATH)
    ] = ""

    trusted_keys: Annotated[
        tuple[str, ...], _about("Minisign public keys; a release goes live only if one of them signed it.", _KEY)
    ] = ()


class PublishSettings(Table, frozen=True, kw_only=True):
    """What is checked when a folder is published."""

    dialect: Annotated[Literal["netlify", "cloudflare"], _about("Whose reading of _headers and _redirects applies.")] = (
        "netlify"
    )
    secrets: Annotated[
        Literal["stop", "leave-out", "publish"], _about("What to do with private keys, .env, .git and the like.")
    ] = "stop"
    source_maps: Annotated[
        Literal["publish", "warn", "stop", "leave-out"], _about("What to do with source maps, which show the source.")
    ] = "warn"
    missing_references: Annotated[
        Literal["warn", "stop", "off"], _about("What to do if pages or style sheets name files that are not there.")
    ] = "warn"
    huge_file_bytes: Annotated[int, _about("Larger files are told of.", ge=0, le=_TIB)] = 100 * _MIB
    images: Annotated[bool, _about("Make pictures smaller at once, as publish --images; they are served on demand.")] = False
    remote: Annotated[bool, _about("Let holders of a token with the scope publish do it over HTTP.")] = True
    blob_limit_bytes: Annotated[int, _about("Largest file that is taken over HTTP.", ge=0, le=64 * _TIB)] = 2 * _GIB


class DeltaSettings(Table, frozen=True, kw_only=True):
    """``[deltas]``: for returning visitors, only what changed in a file (RFC 9842)."""

    mode: Annotated[
        Literal["off", "publish", "on-demand"],
        _about("When they are made: never, when a release is published, or also when a visitor could use one."),
    ] = "on-demand"
    releases: Annotated[int, _about("Releases before, for whose visitors they are made at publish.", ge=1, le=10)] = 3
    limit_bytes: Annotated[int, _about("Of larger files none are made at publish.", ge=256, le=100 * _MIB)] = 32 * _MIB


class PreviewSettings(Table, frozen=True, kw_only=True):
    """Kept releases at addresses of their own."""

    enabled: Annotated[bool, _about("Serve kept releases at /-/releases/ID/ and /-/releases/@ALIAS/.")] = True
    host: Annotated[str, _about("Also as hosts below this name, such as ID.preview.example.com; empty for none.", _HOST)] = ""


class SiteSettings(Table, frozen=True, kw_only=True):
    """A site whose releases are published."""

    name: Annotated[str, _about("Name that it is published under.", _SITE)] = "default"
    prefix: Annotated[str, _about("URL path under which it is served.", _PREFIX)] = "/"
    host: Annotated[str, _about("Host name to answer for; empty for any.", _HOST)] = ""
    fallback: Annotated[str, _about("HTML file that answers unknown paths of a single-page application.", _INSIDE)] = ""
    clean_urls: Annotated[bool, _about("Answer /about with about.html.")] = False
    immutable: Annotated[tuple[str, ...], _about("Globs of fingerprinted names, such as assets/*.", _GLOB)] = ()
    links: Annotated[bool, _about("Announce what a page needs in Link fields, which CDNs turn into 103.")] = True


class UploadSettings(Table, frozen=True, kw_only=True):
    """``[uploads]``: what may be uploaded, and how much of it at once."""

    enabled: Annotated[bool, _about("Accept uploads where releases are served from a data folder.")] = True
    max_size: Annotated[int, _about("Largest file, in bytes.", ge=1, le=64 * _TIB)] = 2 * _GIB
    files_per_request: Annotated[int, _about("Most files in one form.", ge=1, le=10_000)] = 100
    concurrent: Annotated[int, _about("Most uploads received at once, per worker.", ge=1, le=10_000)] = 256
    token_unfinished_bytes: Annotated[
        int, _about("Most bytes that one token's unfinished uploads may hold.", ge=0, le=64 * _TIB)
    ] = 16 * _GIB
    unfinished_bytes: Annotated[int, _about("Most bytes that all unfinished uploads may hold.", ge=0, le=64 * _TIB)] = 64 * _GIB
    reserve_bytes: Annotated[int, _about("Space on the disk that uploads leave free.", ge=0, le=64 * _TIB)] = _GIB
    expiry_s: Annotated[int, _about("How long an unfinished upload is kept after its last byte.", ge=60, le=31_536_000)] = (
        86_400
    )
    grace_s: Annotated[int, _about("What is younger is never swept.", ge=60, le=31_536_000)] = 3600
    idle_s: Annotated[int, _about("How long a body may pause.", ge=1, le=30)] = 30
    minimum_rate_bytes_s: Annotated[int, _about("A body that comes more slowly over a minute is cut.", ge=0, le=_GIB)] = 1024
    resumable: Annotated[bool, _about("Speak resumable uploads of the IETF (experimental) beside tus.")] = True
    origins: Annotated[tuple[str, ...], _about("Origins whose pages may upload (CORS); * for all.", _ORIGIN)] = ("*",)
    media_url: Annotated[str, _about("Origin that serves /media alone; recommended. Empty for the same one.", _PUBLIC)] = ""


class CollectionSettings(Table, frozen=True, kw_only=True):
    """``[[collections]]``: uploads that belong together, and who may read them."""

    name: Annotated[str, _about("Name of the collection; uploads that name none are in the one called default.", _SITE)]
    access: Annotated[Literal["public", "signed"], _about("Who may read: everybody, or who has a signed URL.")] = "public"


class ImageSettings(Table, frozen=True, kw_only=True):
    """``[images]``: what is made of uploaded pictures, in the background, and of all on demand."""

    enabled: Annotated[bool, _about("Make smaller ones of uploaded pictures.")] = True
    on_demand: Annotated[bool, _about("Serve what clients ask for as /image/OPTIONS/PATH, such as /image/width=640/a.jpg.")] = (
        False
    )
    widths: Annotated[tuple[int, ...], _about("Widths in pixels; nothing is ever enlarged.", ge=1, le=4096)] = (
        320,
        640,
        960,
        1280,
        1920,
    )
    formats: Annotated[
        tuple[str, ...], _about("Formats beside JPEG, or PNG where it is transparent, which all browsers know.", _IMAGE_FORMAT)
    ] = ("webp", "avif")
    jpeg_quality: Annotated[int, _about("Quality of JPEG.", ge=1, le=100)] = 80
    webp_quality: Annotated[int, _about("Quality of WebP.", ge=1, le=100)] = 85
    avif_quality: Annotated[int, _about("Quality of AVIF.", ge=1, le=100)] = 68
    keep_copyright: Annotated[bool, _about("Keep who made a picture and whose it is; all else is left out.")] = False
    wide_gamut: Annotated[bool, _about("Keep colours beyond sRGB, with their profile.")] = False
    limit_bytes: Annotated[int, _about("Larger files are left as they are.", ge=1, le=_GIB)] = 64 * _MIB
    limit_megapixels: Annotated[int, _about("Larger pictures are left as they are.", ge=1, le=250)] = 50
    concurrent: Annotated[
        int, _about("Pictures made at once by each worker that does jobs, in processes of their own.", ge=1, le=64)
    ] = 2
    off_ladder: Annotated[
        Literal["snap", "refuse"], _about("What becomes of other widths without a signature: the next one up, or 400.")
    ] = "snap"
    iiif: Annotated[
        bool,
        _about("Serve it by the IIIF Image API 3 as well, at /iiif/3/: any region and size, for everybody."),
    ] = False
    signed: Annotated[bool, _about("Serve them to signed URLs alone, as `assetserver sign` makes them.")] = False
    presets: Annotated[dict[str, str], _about("Options by name: /image/NAME/PATH. Any may stand here.", _OPTIONS)] = {}
    patience_s: Annotated[float, _about("How long a first request waits before it gets a larger picture.", ge=0, le=10)] = 2.0
    queue_limit: Annotated[int, _about("Most pictures that wait to be made on demand; then 503.", ge=1, le=100_000)] = 200
    at_once: Annotated[int, _about("Most pictures that a job worker makes at once on demand.", ge=1, le=64)] = 2
    cache_directory: Annotated[
        str, _about("Folder of what was made, shared with job workers; empty for cache/images in the data folder.", _PATH)
    ] = ""
    cache_limit_bytes: Annotated[
        int, _about("Most bytes of that kept; what was not used for longest goes.", ge=_MIB, le=_TIB)
    ] = _GIB


class DatabaseSettings(Table, frozen=True, kw_only=True):
    """``[database]``: where records are kept."""

    url: Annotated[
        str, _about("Where: sqlite for records.sqlite3 in the data folder, another file, or a PostgreSQL database.", _DATABASE)
    ] = "sqlite"


class JobSettings(Table, frozen=True, kw_only=True):
    """``[jobs]``: background work, and who does it."""

    workers: Annotated[
        int, _about("Worker processes that serve runs beside itself, if there is anything to do; 0 for none.", ge=0, le=64)
    ] = 1
    lease_s: Annotated[
        int, _about("How long a worker may give no sign of life before others take its jobs.", ge=2, le=3600)
    ] = 10
    keep_done_s: Annotated[int, _about("How long jobs that are done are kept.", ge=0, le=31_536_000)] = 86_400
    keep_dead_s: Annotated[int, _about("How long jobs that failed for good are kept.", ge=0, le=315_360_000)] = 2_592_000


class WebhookSettings(Table, frozen=True, kw_only=True):
    """``[webhooks]``: who is told of events."""

    url: Annotated[str, _about("Where events are sent to, such as upload.completed; empty for nowhere.", _EVENTS)] = ""
    secrets: Annotated[
        tuple[str, ...], _about("What receivers know them by; all sign, so that one can be replaced.", _SHARED)
    ] = ()
    timeout_s: Annotated[int, _about("How long the receiver may take to answer.", ge=1, le=300)] = 15


class AccessSettings(Table, frozen=True, kw_only=True):
    """``[access]``: keys that sign URLs and upload grants."""

    keys: Annotated[
        tuple[str, ...], _about("NAME:SECRET; the first signs, all verify. Empty for a key in the data folder.", _SECRET)
    ] = ()


TABLES: dict[str, type[Table]] = {
    "server": ServerSettings,
    "data": DataSettings,
    "publish": PublishSettings,
    "deltas": DeltaSettings,
    "previews": PreviewSettings,
    "sites": SiteSettings,
    "mounts": MountSettings,
    "cache": CacheSettings,
    "cdn": CdnSettings,
    "headers": HeadersSettings,
    "compression": CompressionSettings,
    "memory": MemorySettings,
    "uploads": UploadSettings,
    "collections": CollectionSettings,
    "images": ImageSettings,
    "database": DatabaseSettings,
    "access": AccessSettings,
    "jobs": JobSettings,
    "webhooks": WebhookSettings,
}
ARRAYS = ("sites", "mounts", "cache", "collections")

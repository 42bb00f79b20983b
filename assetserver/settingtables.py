"""What may be set: every table, key, default, limit and form, with one line of text each.

``settings`` reads values for them; help and manual are made from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from .settingforms import (
    ADDRESS,
    DATABASE,
    DIRECTORY,
    EVENTS,
    FIELD,
    GIB,
    GLOB,
    HOST,
    HTTP,
    INSIDE,
    KEY,
    LAST_PORT,
    LISTENER,
    MIB,
    NETWORK,
    ORIGIN,
    OUTSIDE,
    PATH,
    PIN,
    PREFIX,
    PUBLIC,
    SECRET,
    SERVICE_ID,
    SHARED,
    SITE,
    TAG,
    TIB,
    TOKEN,
    Table,
    about,
)
from .settingpictures import ImageSettings


class ServerSettings(Table, frozen=True, kw_only=True):
    """``[server]``: where to listen, and how connections are kept."""

    host: Annotated[str, about("Address to listen on.", ADDRESS)] = "127.0.0.1"
    port: Annotated[int, about("TCP port to listen on; 0 takes any free one.", ge=0, le=LAST_PORT)] = 8000
    public_url: Annotated[
        str, about("Where visitors come in, for the URLs that commands print; empty for http://HOST:PORT.", PUBLIC)
    ] = ""
    uds: Annotated[str, about("Unix socket to listen on, instead of host and port.", PATH)] = ""
    fd: Annotated[int, about("Inherited listening socket, by number; -1 for none.", ge=-1, le=MIB)] = -1
    tls_certificate: Annotated[
        str, about("Certificate (PEM, with those that signed it); empty for no TLS. Read again when it changes.", PATH)
    ] = ""
    tls_key: Annotated[str, about("Its key (PEM, no password); empty if it is in the same file.", PATH)] = ""
    http2: Annotated[bool, about("Speak HTTP/2, too: an experiment, with Uvicorn's own limits. Needs zttp.")] = False
    workers: Annotated[int, about("Worker processes.", ge=1, le=64)] = 1
    access_log: Annotated[Literal["combined", "json", "journald", "off"], about("Form of the access log.")] = "combined"
    access_log_file: Annotated[
        str, about("File for it, opened anew on SIGUSR1; empty for standard output. journald has a place of its own.", PATH)
    ] = ""
    log_format: Annotated[Literal["text", "json"], about("Form of warnings and errors, on standard error.")] = "text"
    keep_alive_s: Annotated[int, about("How long an idle connection is kept open.", ge=1, le=3600)] = 75
    graceful_shutdown_s: Annotated[int, about("How long a stop waits for running requests.", ge=0, le=3600)] = 30
    stuck_s: Annotated[int, about("A worker that hangs for so long is replaced; 0 for never.", ge=0, le=3600)] = 30
    connection_limit: Annotated[
        int, about("Most connections at once, per worker; further ones are answered 503.", ge=1, le=MIB)
    ] = 16_384
    address_connection_limit: Annotated[
        int,
        about(
            "Most of them from one address (IPv6: /64); 0 for any. Off for loopback, Unix sockets and trusted_proxies.",
            ge=0,
            le=MIB,
        ),
    ] = 1024
    minimum_send_bytes_per_s: Annotated[
        int, about("Who takes an answer more slowly for a minute is cut off; 0 lets everybody.", ge=0, le=MIB)
    ] = 256
    trusted_proxies: Annotated[
        tuple[str, ...], about('Peers that are believed who the client is; "unix" for those on a Unix socket.', NETWORK)
    ] = ()
    forwarded_fields: Annotated[
        Literal["either", "x-forwarded", "forwarded"],
        about("What they tell it by; either: Forwarded where there is no X-Forwarded-For."),
    ] = "either"
    forwarded_host: Annotated[
        bool, about("Believe them the host, too: only if they overwrite what clients send as X-Forwarded-Host.")
    ] = False
    proxy_protocol: Annotated[
        Literal["off", "v1", "v2", "any"], about("PROXY protocol: demanded of every connection, from trusted_proxies alone.")
    ] = "off"
    request_id: Annotated[bool, about("Give every request an identifier; that of a trusted proxy, if it has one.")] = True


class AdminSettings(Table, frozen=True, kw_only=True):
    """``[admin]``: a listener that visitors do not reach, for all under ``/-/`` but previews."""

    listen: Annotated[
        str, about("Where: HOST:PORT or the path of a Unix socket; empty for beside everything else.", LISTENER)
    ] = ""


class MountSettings(Table, frozen=True, kw_only=True):
    """``[[mounts]]``: a folder served live. ``directory`` is absolute once loaded."""

    prefix: Annotated[str, about("URL path under which the folder is served.", PREFIX)]
    directory: Annotated[str, about("Folder to serve.", DIRECTORY)]
    host: Annotated[str, about("Host name to answer for; empty for any.", HOST)] = ""
    cache: Annotated[Literal["default", "immutable"], about("Immutable declares a versioned prefix.")] = "default"
    html: Annotated[bool, about("Answer a folder with its index.html, and misses with 404.html.")] = True
    fallback: Annotated[str, about("HTML file that answers unknown paths of a single-page application.", INSIDE)] = ""
    clean_urls: Annotated[bool, about("Answer /about with about.html.")] = False
    listing: Annotated[bool, about("List folders that have no index.html.")] = False
    follow_symlink: Annotated[bool, about("Follow symbolic links that leave the folder.")] = False
    dotfiles: Annotated[bool, about("Serve names that begin with a dot.")] = False
    immutable: Annotated[tuple[str, ...], about("Globs of fingerprinted names, such as assets/*.", GLOB)] = ()


class CacheSettings(Table, frozen=True, kw_only=True):
    """``[[cache]]``: the cache policy of the URL paths that match; the first match wins."""

    match: Annotated[str, about("Glob of URL paths, such as *.html or /docs/**.", GLOB)]
    browser: Annotated[str, about("Cache-Control for browsers.", FIELD)] = ""
    cdn: Annotated[str, about("Targeted Cache-Control for the CDN.", FIELD)] = ""
    tags: Annotated[tuple[str, ...], about("Cache tags by which the CDN can purge.", TAG)] = ()


class CdnSettings(Table, frozen=True, kw_only=True):
    """``[cdn]``: the CDN in front."""

    profile: Annotated[
        Literal["none", "generic", "cloudflare", "fastly", "varnish", "akamai"], about("Whose response fields to speak.")
    ] = "none"


class HeadersSettings(Table, frozen=True, kw_only=True):
    """``[headers]``: response fields that every file carries."""

    cors: Annotated[str, about("Access-Control-Allow-Origin: empty for none, * or one origin.", ORIGIN)] = "*"
    timing: Annotated[bool, about("Send Timing-Allow-Origin: *.")] = True
    resource_policy: Annotated[
        Literal["cross-origin", "same-site", "same-origin", ""], about("Cross-Origin-Resource-Policy; empty for none.")
    ] = "cross-origin"
    nosniff: Annotated[bool, about("Send X-Content-Type-Options: nosniff.")] = True
    cache_status: Annotated[bool, about("Send Cache-Status.")] = True
    server_timing: Annotated[
        Literal["off", "on"], about("Send Server-Timing: how long the server took, for everybody to see.")
    ] = "off"


class CompressionSettings(Table, frozen=True, kw_only=True):
    """``[compression]``: compressed forms made on demand."""

    enabled: Annotated[bool, about("Compress files on demand.")] = True
    minimum_bytes: Annotated[int, about("Smaller files are not compressed.", ge=0, le=MIB)] = 256
    limit_bytes: Annotated[int, about("Larger files are not compressed.", ge=0, le=GIB)] = 64 * MIB
    patience_s: Annotated[float, about("How long a first request waits for its compressed form.", ge=0, le=10)] = 0.25
    threads: Annotated[int, about("Threads that compress.", ge=1, le=32)] = 2
    cache_directory: Annotated[
        str, about("Folder of compressed forms; empty for $CACHE_DIRECTORY, else a private temporary one.", PATH)
    ] = ""
    cache_limit_bytes: Annotated[int, about("Most bytes of compressed forms kept.", ge=0, le=TIB)] = GIB


class MemorySettings(Table, frozen=True, kw_only=True):
    """``[memory]``: file content held in memory, per worker."""

    limit_bytes: Annotated[int, about("Most bytes held.", ge=0, le=64 * GIB)] = 64 * MIB
    file_limit_bytes: Annotated[int, about("Larger files are sent from disk by the kernel.", ge=0, le=GIB)] = MIB // 4
    hot_limit_bytes: Annotated[int, about("Most bytes of rendered answers held.", ge=0, le=64 * GIB)] = 256 * MIB


class DataSettings(Table, frozen=True, kw_only=True):
    """Where releases are kept."""

    path: Annotated[
        str, about("Folder of releases; empty takes $STATE_DIRECTORY, or else data in the working directory.", PATH)
    ] = ""

    trusted_keys: Annotated[
        tuple[str, ...], about("Minisign public keys; a release goes live only if one of them signed it.", KEY)
    ] = ()


class PublishSettings(Table, frozen=True, kw_only=True):
    """What is checked when a folder is published."""

    dialect: Annotated[Literal["netlify", "cloudflare"], about("Whose reading of _headers and _redirects applies.")] = "netlify"
    secrets: Annotated[
        Literal["stop", "leave-out", "publish"], about("What to do with private keys, .env, .git and the like.")
    ] = "stop"
    source_maps: Annotated[
        Literal["publish", "warn", "stop", "leave-out"], about("What to do with source maps, which show the source.")
    ] = "warn"
    missing_references: Annotated[
        Literal["warn", "stop", "off"], about("What to do if pages or style sheets name files that are not there.")
    ] = "warn"
    huge_file_bytes: Annotated[int, about("Larger files are told of.", ge=0, le=TIB)] = 100 * MIB
    images: Annotated[bool, about("Make pictures smaller at once, as publish --images; they are served on demand.")] = False
    remote: Annotated[bool, about("Let holders of a token with the scope publish do it over HTTP.")] = True
    blob_limit_bytes: Annotated[int, about("Largest file that is taken over HTTP.", ge=0, le=64 * TIB)] = 2 * GIB


class DeltaSettings(Table, frozen=True, kw_only=True):
    """``[deltas]``: for returning visitors, only what changed in a file (RFC 9842)."""

    mode: Annotated[
        Literal["off", "publish", "on-demand"],
        about("When they are made: never, when a release is published, or also when a visitor could use one."),
    ] = "on-demand"
    releases: Annotated[int, about("Releases before, for whose visitors they are made at publish.", ge=1, le=10)] = 3
    limit_bytes: Annotated[int, about("Of larger files none are made at publish.", ge=256, le=100 * MIB)] = 32 * MIB


class PreviewSettings(Table, frozen=True, kw_only=True):
    """Kept releases at addresses of their own."""

    enabled: Annotated[bool, about("Serve kept releases at /-/releases/ID/ and /-/releases/@ALIAS/.")] = True
    host: Annotated[str, about("Also as hosts below this name, such as ID.preview.example.com; empty for none.", HOST)] = ""


class SiteSettings(Table, frozen=True, kw_only=True):
    """A site whose releases are published."""

    name: Annotated[str, about("Name that it is published under.", SITE)] = "default"
    prefix: Annotated[str, about("URL path under which it is served.", PREFIX)] = "/"
    host: Annotated[str, about("Host name to answer for; empty for any.", HOST)] = ""
    fallback: Annotated[str, about("HTML file that answers unknown paths of a single-page application.", INSIDE)] = ""
    clean_urls: Annotated[bool, about("Answer /about with about.html.")] = False
    immutable: Annotated[tuple[str, ...], about("Globs of fingerprinted names, such as assets/*.", GLOB)] = ()
    links: Annotated[bool, about("Announce what a page needs in Link fields, which CDNs turn into 103.")] = True
    pins: Annotated[tuple[str, ...], about("How requests may name another kept release: query, header, cookie.", PIN)] = (
        "query",
    )
    tell_release: Annotated[bool, about("Say in X-Release which release an answer is of.")] = True


class UploadSettings(Table, frozen=True, kw_only=True):
    """``[uploads]``: what may be uploaded, and how much of it at once."""

    enabled: Annotated[bool, about("Accept uploads where releases are served from a data folder.")] = True
    max_size: Annotated[int, about("Largest file, in bytes.", ge=1, le=64 * TIB)] = 2 * GIB
    files_per_request: Annotated[int, about("Most files in one form.", ge=1, le=10_000)] = 100
    concurrent: Annotated[int, about("Most uploads received at once, per worker.", ge=1, le=10_000)] = 256
    token_unfinished_bytes: Annotated[
        int, about("Most bytes that one token's unfinished uploads may hold.", ge=0, le=64 * TIB)
    ] = 16 * GIB
    unfinished_bytes: Annotated[int, about("Most bytes that all unfinished uploads may hold.", ge=0, le=64 * TIB)] = 64 * GIB
    reserve_bytes: Annotated[int, about("Space on the disk that uploads leave free.", ge=0, le=64 * TIB)] = GIB
    expiry_s: Annotated[int, about("How long an unfinished upload is kept after its last byte.", ge=60, le=31_536_000)] = 86_400
    grace_s: Annotated[int, about("What is younger is never swept.", ge=60, le=31_536_000)] = 3600
    idle_s: Annotated[int, about("How long a body may pause.", ge=1, le=30)] = 30
    minimum_rate_bytes_s: Annotated[int, about("A body that comes more slowly over a minute is cut.", ge=0, le=GIB)] = 1024
    resumable: Annotated[bool, about("Speak resumable uploads of the IETF (experimental) beside tus.")] = True
    origins: Annotated[tuple[str, ...], about("Origins whose pages may upload (CORS); * for all.", ORIGIN)] = ("*",)
    media_url: Annotated[str, about("Origin that serves /media alone; recommended. Empty for the same one.", PUBLIC)] = ""


class CollectionSettings(Table, frozen=True, kw_only=True):
    """``[[collections]]``: uploads that belong together, and who may read them."""

    name: Annotated[str, about("Name of the collection; uploads that name none are in the one called default.", SITE)]
    access: Annotated[Literal["public", "signed"], about("Who may read: everybody, or who has a signed URL.")] = "public"


class DatabaseSettings(Table, frozen=True, kw_only=True):
    """``[database]``: where records are kept."""

    url: Annotated[
        str, about("Where: sqlite for records.sqlite3 in the data folder, another file, or a PostgreSQL database.", DATABASE)
    ] = "sqlite"


class JobSettings(Table, frozen=True, kw_only=True):
    """``[jobs]``: background work, and who does it."""

    workers: Annotated[
        int, about("Worker processes that serve runs beside itself, if there is anything to do; 0 for none.", ge=0, le=64)
    ] = 1
    lease_s: Annotated[int, about("How long a worker may give no sign of life before others take its jobs.", ge=2, le=3600)] = (
        10
    )
    keep_done_s: Annotated[int, about("How long jobs that are done are kept.", ge=0, le=31_536_000)] = 86_400
    keep_dead_s: Annotated[int, about("How long jobs that failed for good are kept.", ge=0, le=315_360_000)] = 2_592_000


class WebhookSettings(Table, frozen=True, kw_only=True):
    """``[webhooks]``: who is told of events."""

    url: Annotated[str, about("Where events are sent to, such as upload.completed; empty for nowhere.", EVENTS)] = ""
    secrets: Annotated[
        tuple[str, ...], about("What receivers know them by; all sign, so that one can be replaced.", SHARED)
    ] = ()
    timeout_s: Annotated[int, about("How long the receiver may take to answer.", ge=1, le=300)] = 15


class PurgeSettings(Table, frozen=True, kw_only=True):
    """``[[purge]]``: a cache in front, told of what another release changes, or an upload that takes a name or is removed."""

    name: Annotated[str, about("Name of it; its token may be the systemd credential purge-NAME.", SITE)]
    service: Annotated[Literal["cloudflare", "fastly", "varnish", "webhook"], about("Whose requests to make.")]
    url: Annotated[str, about("Where to; Cloudflare's and Fastly's are known.", HTTP)] = ""
    zone: Annotated[str, about("Cloudflare's zone, or Fastly's service, by its id.", SERVICE_ID)] = ""
    token: Annotated[str, about("API token; better in token_file.", TOKEN)] = ""
    token_file: Annotated[str, about("File that holds the API token; read for each request.", PATH)] = ""
    secrets: Annotated[tuple[str, ...], about("What the receiver of a webhook knows it by; all sign.", SHARED)] = ()
    origins: Annotated[
        tuple[str, ...], about("Where visitors come in; empty for server.public_url and the hosts of sites.", OUTSIDE)
    ] = ()
    sites: Annotated[tuple[str, ...], about("Sites that it caches; empty for all.", SITE)] = ()
    by: Annotated[
        Literal["url", "tag"],
        about("What is named: URLs, or the tags of [[cache]] where a URL has any, with all that have them."),
    ] = "url"
    soft: Annotated[bool, about("Mark as stale instead of removing, where that is offered.")] = False
    everything_above: Annotated[int, about("If more URLs changed, purge all of the site.", ge=0, le=100_000)] = 1000
    delay_s: Annotated[int, about("How long to wait after a change, until every server has seen it.", ge=0, le=3600)] = 2
    timeout_s: Annotated[int, about("How long a request may take.", ge=1, le=300)] = 15


class AccessSettings(Table, frozen=True, kw_only=True):
    """``[access]``: keys that sign URLs and upload grants."""

    keys: Annotated[
        tuple[str, ...], about("NAME:SECRET; the first signs, all verify. Empty for a key in the data folder.", SECRET)
    ] = ()


TABLES: dict[str, type[Table]] = {
    "server": ServerSettings,
    "admin": AdminSettings,
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
    "purge": PurgeSettings,
}
ARRAYS = ("sites", "mounts", "cache", "collections", "purge")

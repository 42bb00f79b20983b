"""The settings: one table of what may be set, read from a TOML file, the environment and flags, in rising order.

Decides whether every value is of its type, within its limits and of its form, and says where each value came from. Does
not look at what a value points to: whether a folder exists or a port is free is for the part that uses it. Help and
manual are made from the same table, by :func:`describe_settings`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from assetserver.errors import SettingsError
from assetserver.tomllines import (
    Layer,
    Location,
    format_bytes,
    format_key,
    format_value,
    locate,
    name_kind,
    read_toml,
    suggest,
)

_VARIABLE = "ASSETSERVER_"
_CONFIG_VARIABLE = "ASSETSERVER_CONFIG"  # names the file; not itself a setting

_MIB, _GIB, _TIB = 1 << 20, 1 << 30, 1 << 40
_NOTHING: Mapping[str, Any] = MappingProxyType({})  # frozen: it is a default argument


class _Form(NamedTuple):
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


_ANY = _Form("", lambda _: True)
_ADDRESS = _Form('be a host name or IP address, such as "127.0.0.1"', _matches(r"[!-.0-~]+"))
_DIRECTORY = _Form("name a folder", _matches(r"[^\0]+"), is_path=True)
_FIELD = _Form('be a field value such as "max-age=3600"', _matches(r"([!-~]([ -~]*[!-~])?)?"))
_GLOB = _Form('be a glob such as "*.html" or "/docs/**"', _matches(r"[^\0]+"))
_HOST = _Form("be a host name without port", _matches(r"(?i:[a-z0-9._-]+|\[[0-9a-f:.]+\])?"), is_name=True)
_INSIDE = _Form('be a path inside the directory, such as "index.html"', _is_inside)
_NETWORK = _Form('be an IP address or a network such as "10.0.0.0/8"', _is_network)
_ORIGIN = _Form(
    'be "", "*" or one lower-case origin such as "https://example.com"',
    _matches(r"(\*|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+)?"),
)
_PATH = _Form("be a path without null characters", _matches(r"[^\0]*"), is_path=True)
_PREFIX = _Form('start with "/", not end with it, and have no "?", "#", "%", "{", "}", empty, "." or ".." segment', _is_prefix)
_TAG = _Form("be printable ASCII without space or comma", _matches(r"[!-+\--~]+"))


def _about(description: str, form: _Form = _ANY, *, ge: int | None = None, le: int | None = None) -> Meta:
    return Meta(description=description, ge=ge, le=le, extra={"form": form})


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class ServerSettings(_Table, frozen=True, kw_only=True):
    """``[server]``: where to listen, and how connections are kept."""

    host: Annotated[str, _about("Address to listen on.", _ADDRESS)] = "127.0.0.1"
    port: Annotated[int, _about("TCP port to listen on; 0 takes any free one.", ge=0, le=65535)] = 8000
    uds: Annotated[str, _about("Unix socket to listen on, instead of host and port.", _PATH)] = ""
    fd: Annotated[int, _about("Inherited listening socket, by number; -1 for none.", ge=-1, le=_MIB)] = -1
    workers: Annotated[int, _about("Worker processes.", ge=1, le=64)] = 1
    access_log: Annotated[Literal["combined", "json", "off"], _about("Form of the access log.")] = "combined"
    keep_alive_s: Annotated[int, _about("How long an idle connection is kept open.", ge=1, le=3600)] = 75
    graceful_shutdown_s: Annotated[int, _about("How long a stop waits for running requests.", ge=0, le=3600)] = 30
    trusted_proxies: Annotated[tuple[str, ...], _about("Peers whose Forwarded fields are believed.", _NETWORK)] = ()
    request_id: Annotated[bool, _about("Give every request an identifier.")] = True


class MountSettings(_Table, frozen=True, kw_only=True):
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


class CacheSettings(_Table, frozen=True, kw_only=True):
    """``[[cache]]``: the cache policy of the URL paths that match; the first match wins."""

    match: Annotated[str, _about("Glob of URL paths, such as *.html or /docs/**.", _GLOB)]
    browser: Annotated[str, _about("Cache-Control for browsers.", _FIELD)] = ""
    cdn: Annotated[str, _about("Targeted Cache-Control for the CDN.", _FIELD)] = ""
    tags: Annotated[tuple[str, ...], _about("Cache tags by which the CDN can purge.", _TAG)] = ()


class CdnSettings(_Table, frozen=True, kw_only=True):
    """``[cdn]``: the CDN in front."""

    profile: Annotated[
        Literal["none", "generic", "cloudflare", "fastly", "varnish", "akamai"], _about("Whose response fields to speak.")
    ] = "none"


class HeadersSettings(_Table, frozen=True, kw_only=True):
    """``[headers]``: response fields that every file carries."""

    cors: Annotated[str, _about("Access-Control-Allow-Origin: empty for none, * or one origin.", _ORIGIN)] = "*"
    timing: Annotated[bool, _about("Send Timing-Allow-Origin: *.")] = True
    resource_policy: Annotated[
        Literal["cross-origin", "same-site", "same-origin", ""], _about("Cross-Origin-Resource-Policy; empty for none.")
    ] = "cross-origin"
    nosniff: Annotated[bool, _about("Send X-Content-Type-Options: nosniff.")] = True
    cache_status: Annotated[bool, _about("Send Cache-Status.")] = True


class CompressionSettings(_Table, frozen=True, kw_only=True):
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


class MemorySettings(_Table, frozen=True, kw_only=True):
    """``[memory]``: file content held in memory, per worker."""

    limit_bytes: Annotated[int, _about("Most bytes held.", ge=0, le=64 * _GIB)] = 64 * _MIB
    file_limit_bytes: Annotated[int, _about("Larger files are not held.", ge=0, le=_GIB)] = 2 * _MIB


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. ``sources`` says where values came from, and does not count when two are compared."""

    server: ServerSettings = field(default_factory=ServerSettings)
    mounts: tuple[MountSettings, ...] = ()
    cache: tuple[CacheSettings, ...] = ()
    cdn: CdnSettings = field(default_factory=CdnSettings)
    headers: HeadersSettings = field(default_factory=HeadersSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    sources: Mapping[Location, str] = field(default_factory=dict, compare=False, repr=False)

    def locate(self, *location: str | int) -> str:
        """Return where a value was set, such as ``locate("cache", 0, "browser")``, to report it.

        It is ``assetserver.toml:12``, ``ASSETSERVER_CACHE`` or ``--port``; the place of the table for a key that is
        not set, and ``default`` when there is no table either.
        """
        return locate(self.sources, location)


class SettingRow(NamedTuple):
    """One line of the manual: a setting's name, and the rest as text."""

    name: str
    type: str
    default: str
    limits: str
    description: str


class _Setting(NamedTuple):
    """A key of a table, as its struct declares it. An array's ``kind`` is tuple, and its form is that of each item."""

    name: str
    annotated: Any
    kind: type
    choices: tuple[str, ...]
    meta: Meta
    default: object

    @property
    def form(self) -> _Form:
        return cast("_Form", (self.meta.extra or {})["form"])

    @property
    def limits(self) -> str:
        """What a value must do, to be read after "must"."""
        if self.choices:
            *others, last = map(format_value, self.choices)
            return f"be {', '.join(others)} or {last}"
        if self.meta.ge is not None:
            return f"be between {self.write(self.meta.ge)} and {self.write(self.meta.le)}"
        return self.form.must

    def write(self, value: object) -> str:
        """Format a value or a limit; bytes also in a larger unit."""
        return format_bytes(value) if isinstance(value, int) and self.name.endswith("_bytes") else format_value(value)


_TABLES: dict[str, type[_Table]] = {
    "server": ServerSettings,
    "mounts": MountSettings,
    "cache": CacheSettings,
    "cdn": CdnSettings,
    "headers": HeadersSettings,
    "compression": CompressionSettings,
    "memory": MemorySettings,
}
_ARRAYS = ("mounts", "cache")


def _read_setting(table: str, key: msgspec.structs.FieldInfo) -> _Setting:
    base, meta = get_args(key.type)
    choices = get_args(base) if get_origin(base) is Literal else ()
    kind = str if choices else get_origin(base) or base
    name = f"{table}[].{key.name}" if table in _ARRAYS else f"{table}.{key.name}"
    return _Setting(name, key.type, kind, choices, meta, key.default)


def _to_variable(name: str) -> str:
    return _VARIABLE + name.replace(".", "__").upper()


_FIELDS = {
    table: {key.name: _read_setting(table, key) for key in msgspec.structs.fields(struct)} for table, struct in _TABLES.items()
}
_NAMES: dict[str, tuple[str, ...]] = {name: (name,) for name in _ARRAYS} | {
    f"{table}.{key}": (table, key) for table, keys in _FIELDS.items() if table not in _ARRAYS for key in keys
}
_VARIABLES = {_to_variable(name): location for name, location in _NAMES.items()}


def describe_settings() -> list[SettingRow]:
    """Return one row per setting, in the order of the manual; a key of an array of tables reads ``mounts[].prefix``."""
    rows = []
    for setting in (setting for keys in _FIELDS.values() for setting in keys.values()):
        kind = "array of strings" if setting.kind is tuple else name_kind(setting.kind).split()[-1]
        default = "required" if setting.default is msgspec.NODEFAULT else setting.write(setting.default)
        about = (setting.limits.removeprefix("be "), str(setting.meta.description))
        rows.append(SettingRow(setting.name, kind, default, *about))
    return rows


def load_settings(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = _NOTHING,
    overrides: Mapping[str, object] = _NOTHING,
) -> Settings:
    """Return the settings of a TOML file, overridden by the environment, overridden by flags.

    An array of tables is replaced as a whole. Relative paths resolve against the folder of the file that has them, else
    against the working directory.

    Args:
        path: The file; without it ``ASSETSERVER_CONFIG`` of the environment, and without that no file is read.
        environ: Variables such as ``ASSETSERVER_SERVER__PORT``; those of other programs are ignored.
        overrides: Typed values by dotted name, such as ``{"server.port": 9000}`` or ``{"mounts": [...]}``.

    Raises:
        SettingsError: A file that cannot be read, or a key or value that is not accepted, even if overridden.
    """
    tables: dict[str, Any] = {}
    sources: dict[Location, str] = {}
    for layer in (_read_file(path, environ), _read_environment(environ), _read_flags(overrides)):
        for name, value in layer.tree.items():
            if name in _ARRAYS:
                tables[name] = _check_array(layer, name, value)
                sources = {location: source for location, source in sources.items() if location[0] != name}
            else:
                tables[name] = tables.get(name, {}) | _check_table(layer, (name,), value)
        sources |= layer.sources
    for name in tables.keys() - _ARRAYS:
        tables[name] = _TABLES[name](**tables[name])
    return Settings(**tables, sources=sources)


def _read_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Layer:
    if path is not None:
        return read_toml(os.fspath(path), "--config")
    named = environ.get(_CONFIG_VARIABLE)
    return read_toml(named, _CONFIG_VARIABLE) if named else Layer({}, {})


def _read_environment(environ: Mapping[str, str]) -> Layer:
    layer = Layer({}, {})
    for variable in sorted(environ):
        location = _VARIABLES.get(variable)
        if location:
            table, key = location[0], location[-1]
            kind = list if table in _ARRAYS else _FIELDS[table][key].kind
            layer.put_text(location, variable, kind, environ[variable])
        elif variable.startswith(_VARIABLE) and variable != _CONFIG_VARIABLE:
            raise SettingsError(f"{format_key((variable,))}: unknown setting; {_suggest_variable(variable)}")
    return layer


def _suggest_variable(variable: str) -> str:
    table, _, key = variable.removeprefix(_VARIABLE).lower().partition("__")
    if table in _ARRAYS:
        return f"did you mean {_to_variable(table)}?"
    if table in _FIELDS:
        return suggest(key, _FIELDS[table], lambda name: _to_variable(f"{table}.{name}"))
    return suggest(f"{table}.{key}" if key else table, _NAMES, _to_variable)


def _read_flags(overrides: Mapping[str, object]) -> Layer:
    layer = Layer({}, {})
    for name, value in overrides.items():
        if name not in _NAMES:
            raise SettingsError(f"command line: unknown setting {format_value(name)}; {suggest(name, _NAMES, format_value)}")
        flag = "--" + name.removeprefix("server.").replace(".", "-").replace("_", "-")
        layer.put(_NAMES[name], "command line" if name in _ARRAYS else flag, value)
    return layer


def _check_array(layer: Layer, name: str, value: Any) -> tuple[_Table, ...]:
    layer.check_kind((name,), list, value)
    elements = tuple(_TABLES[name](**_check_table(layer, (name, i), table)) for i, table in enumerate(value))
    places: dict[tuple[str, str], int] = {}
    for index, mount in enumerate(elements):
        if isinstance(mount, MountSettings):
            first = places.setdefault((mount.host, mount.prefix), index)
            if first != index:
                both = f"mounts[{index}] and mounts[{first}] ({locate(layer.sources, (name, first))})"
                place = format_value(mount.host + mount.prefix)
                raise layer.error((name, index), f"{both} have the same host and prefix, {place}; change one of them")
    return elements


def _check_table(layer: Layer, location: Location, table: Any) -> dict[str, Any]:
    name = str(location[0])
    if name not in _FIELDS:
        what, known = ("table", list(_TABLES)) if isinstance(table, dict | list) else ("key", list(_NAMES))
        raise layer.error(location, f"unknown {what} {format_value(name)}; {suggest(name, known, format_value)}")
    layer.check_kind(location, dict, table)
    fields = _FIELDS[name]
    for key in table:
        if key not in fields:
            title = f"[[{name}]]" if name in _ARRAYS else f"[{name}]"
            problem = f"unknown key {format_value(key)} in {title}; {suggest(key, fields, format_value)}"
            raise layer.error((*location, key), problem)
    for key, setting in fields.items():
        if setting.default is msgspec.NODEFAULT and key not in table:
            raise layer.error(location, f"{format_key(location)} has no {key}; it must {setting.limits}")
    return {key: _check_value(layer, (*location, key), fields[key], value) for key, value in table.items()}


def _check_value(layer: Layer, location: Location, setting: _Setting, value: Any) -> object:
    layer.check_kind(location, setting.kind, value)
    if isinstance(value, list | tuple):
        item = setting._replace(annotated=str, kind=str)
        return tuple(_check_value(layer, (*location, i), item, text) for i, text in enumerate(value))
    try:
        checked = msgspec.convert(value, setting.annotated)
        accepted = setting.form.accepts(checked)
    except msgspec.ValidationError:
        accepted = False
    if not accepted:
        raise layer.error(location, f"{format_key(location)} is {format_value(value)}; it must {setting.limits}")
    if setting.form.is_path:
        return layer.resolve(location, checked)
    return checked.lower() if setting.form.is_name else checked

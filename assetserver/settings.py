"""The settings: one table of what may be set, read from a TOML file, the environment and flags, in rising order.

Decides whether every value is of its type, within its limits and of its form, and says where each value came from. Does
not look at what a value points to: whether a folder exists or a port is free is for the part that uses it. Help and
manual are made from the same table, by :func:`describe_settings`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from assetserver.errors import SettingsError
from assetserver.tomllines import Location, printable, read_toml

_VARIABLE = "ASSETSERVER_"
_CONFIG_VARIABLE = "ASSETSERVER_CONFIG"  # names the file; not itself a setting

_KIB, _MIB, _GIB, _TIB = (1 << shift for shift in (10, 20, 30, 40))
_NOTHING: Mapping[str, Any] = MappingProxyType({})


# The form of a text: it "must" be so, which "accepts" decides. "path" resolves a relative path, "canonical" rewrites.


def _form(must: str, pattern: str) -> dict[str, Any]:
    return {"must": must, "accepts": re.compile(pattern).fullmatch}


def _is_network(text: str) -> bool:
    try:
        return text == "unix" or bool(ipaddress.ip_network(text))
    except ValueError:
        return False


def _is_prefix(text: str) -> bool:
    segments = text[1:].split("/")
    clean = text.isprintable() and not set("?#%") & set(text)
    return text == "/" or (text.startswith("/") and clean and not {"", ".", ".."} & set(segments))


_ADDRESS = _form('be a host name or IP address such as "127.0.0.1", without a port', r"[!-.0-~]+")
_HOST = _form('be a host name without port, such as "example.com"', r"(?i:[a-z0-9._-]+|\[[0-9a-f:.]+\])?")
_HOST["canonical"] = str.lower
_FOLDER = _form("name a folder", r"[^\0]+") | {"path": True}
_PATH = _form("be a path without null characters", r"[^\0]*") | {"path": True}
_INSIDE = _form(
    'be a path inside the directory, such as "index.html", without "." or ".." segments',
    r"((?!\.{1,2}(/|\Z))[^\0/]+(/(?!\.{1,2}(/|\Z))[^\0/]+)*)?",
)
_GLOB = _form('be a glob such as "*.html" or "/docs/**"', r"[^\0]+")
_FIELD = _form('be a field value such as "max-age=3600", in printable ASCII', r"([!-~]([ -~]*[!-~])?)?")
_TAG = _form("be printable ASCII without space or comma", r"[!-+\--~]+")
_ORIGIN = _form(
    'be "", "*" or one lower-case origin such as "https://example.com", without a path',
    r"(\*|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+)?",
)
_NETWORK = {"must": 'be an IP address, a network such as "10.0.0.0/8", or "unix"', "accepts": _is_network}
_PREFIX = {
    "must": 'start with "/", not end with "/", and have no "?", "#", "%" and no empty, "." or ".." segment',
    "accepts": _is_prefix,
}


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class ServerSettings(_Table):
    """``[server]``: where to listen, and how connections are kept."""

    host: Annotated[str, Meta(description="Address to listen on.", extra=_ADDRESS)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes any free one.")] = 8000
    uds: Annotated[str, Meta(description="Unix socket to listen on, instead of host and port.", extra=_PATH)] = ""
    fd: Annotated[int, Meta(ge=-1, le=_MIB, description="Inherited listening socket, by number; -1 for none.")] = -1
    workers: Annotated[int, Meta(ge=1, le=64, description="Worker processes.")] = 1
    access_log: Annotated[Literal["combined", "json", "off"], Meta(description="Form of the access log.")] = "combined"
    keep_alive_s: Annotated[int, Meta(ge=1, le=3600, description="How long an idle connection is kept open.")] = 75
    graceful_shutdown_s: Annotated[
        int, Meta(ge=0, le=3600, description="How long running requests may take to end when the server stops.")
    ] = 30
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Peers whose forwarding fields are believed; unix is any peer on the socket.", extra=_NETWORK),
    ] = ()
    request_id: Annotated[bool, Meta(description="Give every response an X-Request-ID.")] = True


class MountSettings(_Table):
    """``[[mounts]]``: a folder served live. ``directory`` is absolute once loaded."""

    prefix: Annotated[str, Meta(description="URL path under which the folder is served.", extra=_PREFIX)]
    directory: Annotated[str, Meta(description="Folder to serve.", extra=_FOLDER)]
    host: Annotated[str, Meta(description="Host name to answer for; empty for any.", extra=_HOST)] = ""
    cache: Annotated[
        Literal["default", "immutable"],
        Meta(description="Immutable declares a versioned prefix, whose files never change."),
    ] = "default"
    html: Annotated[bool, Meta(description="Answer a folder with its index.html, and misses with 404.html.")] = True
    fallback: Annotated[
        str, Meta(description="HTML file that answers unknown paths of a single-page application.", extra=_INSIDE)
    ] = ""
    clean_urls: Annotated[bool, Meta(description="Answer /about with about.html.")] = False
    listing: Annotated[bool, Meta(description="List folders that have no index.html.")] = False
    follow_symlink: Annotated[bool, Meta(description="Follow symbolic links that leave the folder.")] = False
    dotfiles: Annotated[bool, Meta(description="Serve names that begin with a dot.")] = False
    immutable: Annotated[
        tuple[str, ...],
        Meta(description="Globs of files whose names carry a fingerprint, such as assets/*.", extra=_GLOB),
    ] = ()


class CacheSettings(_Table):
    """``[[cache]]``: the cache policy of the URL paths that match; the first match wins."""

    match: Annotated[str, Meta(description="Glob of URL paths, such as *.html or /docs/**.", extra=_GLOB)]
    browser: Annotated[str, Meta(description="Cache-Control for browsers.", extra=_FIELD)] = ""
    cdn: Annotated[str, Meta(description="Targeted Cache-Control for the CDN.", extra=_FIELD)] = ""
    tags: Annotated[tuple[str, ...], Meta(description="Cache tags by which the CDN can purge.", extra=_TAG)] = ()


class CdnSettings(_Table):
    """``[cdn]``: the CDN in front."""

    profile: Annotated[
        Literal["none", "generic", "cloudflare", "fastly", "varnish", "akamai"],
        Meta(description="Whose response fields to speak."),
    ] = "none"


class HeadersSettings(_Table):
    """``[headers]``: response fields that every file carries."""

    cors: Annotated[
        str, Meta(description="Access-Control-Allow-Origin: empty for none, * or one origin.", extra=_ORIGIN)
    ] = "*"
    timing: Annotated[bool, Meta(description="Send Timing-Allow-Origin: *.")] = True
    resource_policy: Annotated[
        Literal["cross-origin", "same-site", "same-origin", ""],
        Meta(description="Cross-Origin-Resource-Policy; empty for none."),
    ] = "cross-origin"
    nosniff: Annotated[bool, Meta(description="Send X-Content-Type-Options: nosniff.")] = True
    cache_status: Annotated[bool, Meta(description="Send Cache-Status.")] = True


class CompressionSettings(_Table):
    """``[compression]``: compressed forms made on demand."""

    enabled: Annotated[bool, Meta(description="Compress files on demand.")] = True
    minimum_bytes: Annotated[int, Meta(ge=0, le=_MIB, description="Smaller files are not compressed.")] = 256
    limit_bytes: Annotated[int, Meta(ge=0, le=_GIB, description="Larger files are not compressed.")] = 64 * _MIB
    patience_s: Annotated[
        float, Meta(ge=0, le=10, description="How long a first request waits for its compressed form.")
    ] = 0.25
    threads: Annotated[int, Meta(ge=1, le=32, description="Threads that compress.")] = 2
    cache_directory: Annotated[
        str,
        Meta(
            description="Where compressed forms are kept; empty for $CACHE_DIRECTORY, else a private temporary folder.",
            extra=_PATH,
        ),
    ] = ""
    cache_limit_bytes: Annotated[int, Meta(ge=0, le=_TIB, description="Most bytes of compressed forms kept.")] = _GIB


class MemorySettings(_Table):
    """``[memory]``: file content held in memory, per worker."""

    limit_bytes: Annotated[int, Meta(ge=0, le=64 * _GIB, description="Most bytes held.")] = 64 * _MIB
    file_limit_bytes: Annotated[int, Meta(ge=0, le=_GIB, description="Larger files are not held.")] = 2 * _MIB


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
    sources: Mapping[Location, str] = field(default=_NOTHING, compare=False, repr=False)

    def locate(self, *location: str | int) -> str:
        """Return where a value was set, for messages: ``assetserver.toml:12``, ``ASSETSERVER_CACHE`` or ``--port``.

        ``locate("cache", 0, "browser")`` asks for one key. A key that is not set stands where its table does; without
        a table it is ``"default"``.
        """
        return _locate(self.sources, location)


class SettingRow(NamedTuple):
    """One line of the manual: a setting's name, and the rest as text."""

    name: str
    type: str
    default: str
    limits: str
    description: str


class _Setting(NamedTuple):
    name: str
    annotated: Any
    base: Any
    meta: Meta
    default: Any

    @property
    def form(self) -> dict[str, Any]:
        return self.meta.extra or {}

    @property
    def limits(self) -> str:
        """What a value must do, to be read after "must"."""
        if get_origin(self.base) is Literal:
            *others, last = map(_show, get_args(self.base))
            return f"be {', '.join(others)} or {last}"
        if self.meta.ge is not None:
            return f"be between {_show(self.meta.ge, self.name)} and {_show(self.meta.le, self.name)}"
        return str(self.form.get("must", ""))


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


def _read_fields(table: str) -> dict[str, _Setting]:
    dot = "[]." if table in _ARRAYS else "."
    return {
        key.name: _Setting(f"{table}{dot}{key.name}", key.type, *get_args(key.type), key.default)
        for key in msgspec.structs.fields(_TABLES[table])
    }


_FIELDS = {table: _read_fields(table) for table in _TABLES}
_NAMES: dict[str, Location] = {name: (name,) for name in _ARRAYS} | {
    f"{table}.{key}": (table, key) for table, keys in _FIELDS.items() if table not in _ARRAYS for key in keys
}
_VARIABLES = {_VARIABLE + name.replace(".", "__").upper(): location for name, location in _NAMES.items()}


def describe_settings() -> list[SettingRow]:
    """Return one row per setting, in the order of the manual. Keys of an array of tables read ``mounts[].prefix``."""
    return [_describe(setting) for keys in _FIELDS.values() for setting in keys.values()]


def load_settings(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = _NOTHING,
    overrides: Mapping[str, object] = _NOTHING,
) -> Settings:
    """Return the settings of a TOML file, overridden by the environment, overridden by flags.

    An array of tables is replaced as a whole. Relative paths of the file resolve against its folder, all others against
    the working directory.

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
    built = {name: value if name in _ARRAYS else _TABLES[name](**value) for name, value in tables.items()}
    return Settings(**built, sources=sources)


@dataclass(frozen=True)
class _Layer:
    """What one origin says: values, where each stands, and the folder against which its paths resolve."""

    tree: dict[str, Any]
    sources: dict[Location, str]
    folder: str = ""

    def error(self, location: Location, problem: str) -> SettingsError:
        return SettingsError(f"{_locate(self.sources, location)}: {problem}")

    def put(self, location: Location, source: str, value: object) -> None:
        *tables, key = location
        table = self.tree.setdefault(tables[0], {}) if tables else self.tree
        table[key] = value
        self.sources[location] = source


def _read_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> _Layer:
    name = os.fspath(path) if path is not None else environ.get(_CONFIG_VARIABLE, "")
    if path is None and not name:
        return _Layer({}, {})
    tree, lines = read_toml(name, "--config" if path is not None else _CONFIG_VARIABLE)
    sources = {location: f"{printable(name)}:{line}" for location, line in lines.items()}
    return _Layer(tree, sources, os.path.dirname(name))


def _read_environment(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer({}, {})
    for variable in sorted(environ):
        if not variable.startswith(_VARIABLE) or variable == _CONFIG_VARIABLE:
            continue
        if variable not in _VARIABLES:
            raise SettingsError(f"{printable(variable)}: unknown setting; {_suggest_variable(variable)}")
        location = _VARIABLES[variable]
        layer.put(location, variable, _parse_variable(variable, location, environ[variable]))
    return layer


def _read_flags(overrides: Mapping[str, object]) -> _Layer:
    layer = _Layer({}, {})
    for name, value in overrides.items():
        if name not in _NAMES:
            raise SettingsError(f"command line: unknown setting {_show(name)}; {_suggest(name, list(_NAMES))}")
        flag = "--" + name.removeprefix("server.").replace(".", "-").replace("_", "-")
        layer.put(_NAMES[name], "command line" if name in _ARRAYS else flag, value)
    return layer


_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _parse_variable(variable: str, location: Location, text: str) -> object:
    """Turn the text of a variable into a value as TOML would give it; limits are checked with those of the file."""
    base = list if len(location) == 1 else _FIELDS[str(location[0])][str(location[1])].base
    try:
        if base is list or (get_origin(base) is tuple and text.lstrip().startswith("[")):
            return msgspec.json.decode(text)
        if get_origin(base) is tuple:
            return [item for item in map(str.strip, text.split(",")) if item]
        return _BOOLEANS[text.strip().lower()] if base is bool else base(text) if base in (int, float) else text
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise SettingsError(f"{variable}: expected JSON for {_dotted(location)}, got {_show(text)}") from None
    except (ValueError, KeyError):
        raise SettingsError(f"{variable}: expected {_kind(base)} for {_dotted(location)}, got {_show(text)}") from None


def _check_array(layer: _Layer, name: str, value: object) -> tuple[_Table, ...]:
    if not isinstance(value, list | tuple):
        raise layer.error((name,), f"expected an array of tables ([[{name}]]) for {name}, got {_kind(type(value))}")
    elements = tuple(_TABLES[name](**_check_table(layer, (name, i), table)) for i, table in enumerate(value))
    places: dict[tuple[str, str], int] = {}
    for index, mount in enumerate(elements):
        if isinstance(mount, MountSettings):
            first = places.setdefault((mount.host, mount.prefix), index)
            if first != index:
                raise layer.error((name, index), _same_place(layer, mount, first, index))
    return elements


def _same_place(layer: _Layer, mount: MountSettings, first: int, second: int) -> str:
    host = f"host {_show(mount.host)} and prefix" if mount.host else "prefix"
    where = _locate(layer.sources, ("mounts", first))
    return f"mounts[{second}] has the same {host} {_show(mount.prefix)} as mounts[{first}] ({where}); change one of them"


def _check_table(layer: _Layer, location: Location, table: object) -> dict[str, Any]:
    name = str(location[0])
    if name not in _FIELDS:
        raise layer.error(location, _unknown_table(name, table))
    if not isinstance(table, Mapping):
        raise layer.error(location, f"expected a table for {_dotted(location)}, got {_kind(type(table))}")
    fields = _FIELDS[name]
    title = f"[[{name}]]" if name in _ARRAYS else f"[{name}]"
    for key in table:
        if key not in fields:
            problem = f"unknown key {_show(key)} in {title}; {_suggest(str(key), list(fields))}"
            raise layer.error((*location, key), problem)
    for key, setting in fields.items():
        if setting.default is msgspec.NODEFAULT and key not in table:
            raise layer.error(location, f"{_dotted(location)} has no {key}; it must {setting.limits}")
    return {key: _check_value(layer, (*location, key), fields[key], value) for key, value in table.items()}


def _check_value(layer: _Layer, location: Location, setting: _Setting, value: object) -> object:
    if not _is_kind(setting.base, value):
        problem = f"expected {_kind(setting.base)} for {_dotted(location)}, got {_kind(type(value))}"
        raise layer.error(location, problem)
    if isinstance(value, list | tuple):
        single = setting._replace(annotated=str, base=str)
        return tuple(_check_value(layer, (*location, i), single, item) for i, item in enumerate(value))
    try:
        checked = msgspec.convert(value, setting.annotated)
        accepted = setting.form.get("accepts", lambda _: True)(checked)
    except msgspec.ValidationError:
        accepted = False
    if not accepted:
        raise layer.error(location, f"{_dotted(location)} is {_show(value)}; it must {setting.limits}")
    if setting.form.get("path") and checked:
        return _resolve(layer, location, checked)
    return setting.form.get("canonical", lambda text: text)(checked)


def _resolve(layer: _Layer, location: Location, path: str) -> str:
    # Joined, not normalised: "current/.." may lead elsewhere when "current" is a symbolic link.
    try:
        return os.path.join("/" if os.path.isabs(path) else os.path.abspath(layer.folder), path)
    except OSError:
        problem = f"{_dotted(location)} is {_show(path)}, but the working directory is gone; give an absolute path"
        raise layer.error(location, problem) from None
